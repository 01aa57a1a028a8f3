#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/model/model.h"
#include "worker/model/safetensors.h"
#include "worker/model/weight_reader.h"

namespace conclave::worker {
namespace {

using Memory = std::unique_ptr<Buffer>;

struct MlpWeights {
  std::unique_ptr<Weight> gate_up, down;
  Memory gate_up_bias, down_bias;
};

struct Layer {
  std::unique_ptr<Weight> qkv, o;
  Memory qkv_bias, o_bias, attention_norm, mlp_norm, q_norm, k_norm;
  MlpWeights mlp;                       // Or a mixture:
  std::unique_ptr<Weight> router;       // [experts, D], on every rank.
  std::vector<MlpWeights> expert_mlps;  // Owns what `experts` names.
  std::vector<ExpertWeights> experts;
};

float* FloatsOf(const Memory& memory) { return memory ? memory->floats() : nullptr; }

// The decoder of every family: ModelConfig says which parts a block has.
class Decoder : public Model {
 public:
  Decoder(ModelConfig config, Shard shard, Device& device, Collective& collective,
          const ModelLimits& limits)
      : config_(std::move(config)),
        shard_(shard),
        max_rows_(limits.max_rows),
        max_positions_(limits.max_positions > 0
                           ? std::min(limits.max_positions, config_.max_positions)
                           : config_.max_positions),
        device_(device),
        collective_(collective) {}

  const ModelConfig& config() const override { return config_; }
  const Shard& shard() const override { return shard_; }
  int max_positions() const override { return max_positions_; }
  const std::string& weights_hash() const override { return hash_; }
  int64_t parameters() const override { return parameters_; }

  absl::Status Load(const Safetensors& files);
  absl::Status Forward(const Batch& batch, KvPool& pool, Tensor logits) override;

 private:
  absl::Status LoadLayer(WeightReader& reader, int number, Layer& layer);
  absl::Status LoadAttention(WeightReader& reader, const std::string& block, Layer& layer);
  absl::Status LoadMlp(WeightReader& reader, const std::string& p, int f, Span part,
                       MlpWeights& mlp);
  absl::Status LoadExperts(WeightReader& reader, const std::string& p, Layer& layer);
  absl::Status MakeRope();
  absl::Status MakeScratch();
  absl::Status Layers(KvPool& pool, Tensor logits);
  absl::Status Attention(Layer& layer, int number, KvPool& pool);
  absl::Status FeedForward(Layer& layer);
  absl::Status AddProduct(Tensor from, const Weight& weight, const Memory& bias);
  absl::Status AddRanks(Tensor part, const Memory& bias);
  RowNorm Norm(const Memory& gain) const { return {gain->floats(), config_.norm_eps}; }
  Tensor View(const Memory& buffer, DType dtype, int64_t cols) const {
    return Tensor::Dense(buffer->data(), dtype, size_.rows, cols);
  }
  Tensor x() const { return View(x_, DType::kF32, config_.hidden); }
  Tensor y() const { return View(y_, activations_, config_.hidden); }
  Tensor part() const { return View(part_, DType::kF32, config_.hidden); }
  int q_width() const { return shard_.heads.size() * config_.head_width; }
  int kv_width() const { return shard_.kv_heads.size() * config_.head_width; }

  const ModelConfig config_;
  const Shard shard_;
  const int max_rows_, max_positions_;
  Device& device_;
  Collective& collective_;
  std::unique_ptr<Weight> embedding_, head_;  // head_ is null when it is the embedding.
  std::vector<Layer> layers_;
  Memory norm_, cos_, sin_;
  DType activations_ = DType::kF32;
  // Rows of one step: residual x [N,D], normed y [N,D], q k v, attention out, what the MLP has in
  // the middle, partial sum, scores of the experts.
  Memory x_, y_, qkv_, attended_, middle_, part_, scores_;
  BatchSize size_;  // Of the step.
  std::string hash_;
  int64_t parameters_ = 0;
};

absl::Status Decoder::LoadAttention(WeightReader& reader, const std::string& block, Layer& layer) {
  const std::string p = block + "self_attn.";
  const int d = config_.hidden, e = config_.head_width;
  const auto wide = [e](Span heads) { return Span{heads.begin * e, heads.end * e}; };
  const Span all{0, d}, q = wide(shard_.heads), kv = wide(shard_.kv_heads);
  const int q_rows = config_.heads * e, kv_rows = config_.kv_heads * e;
  ASSIGN_OR_RETURN(layer.qkv, reader.Matrix({{p + "q_proj.weight", {q_rows, d}, q, all},
                                             {p + "k_proj.weight", {kv_rows, d}, kv, all},
                                             {p + "v_proj.weight", {kv_rows, d}, kv, all}}));
  ASSIGN_OR_RETURN(layer.o, reader.Matrix({{p + "o_proj.weight", {d, q_rows}, all, q}}));
  ASSIGN_OR_RETURN(layer.attention_norm,
                   reader.Vector({{block + "input_layernorm.weight", d, all}}));
  if (config_.qk_norm) {
    ASSIGN_OR_RETURN(layer.q_norm, reader.Vector({{p + "q_norm.weight", e, {0, e}}}));
    ASSIGN_OR_RETURN(layer.k_norm, reader.Vector({{p + "k_norm.weight", e, {0, e}}}));
  }
  if (config_.qkv_bias) {
    ASSIGN_OR_RETURN(layer.qkv_bias, reader.Vector({{p + "q_proj.bias", q_rows, q},
                                                    {p + "k_proj.bias", kv_rows, kv},
                                                    {p + "v_proj.bias", kv_rows, kv}}));
  }
  if (config_.o_bias) {
    ASSIGN_OR_RETURN(layer.o_bias, reader.Vector({{p + "o_proj.bias", d, all}}));
  }
  return absl::OkStatus();
}

// `f` and `part`: the whole feed-forward width, and this rank's part of it.
absl::Status Decoder::LoadMlp(WeightReader& reader, const std::string& p, int f, Span part,
                              MlpWeights& mlp) {
  const int d = config_.hidden;
  const Span all{0, d};
  ASSIGN_OR_RETURN(mlp.gate_up, reader.Matrix({{p + "gate_proj.weight", {f, d}, part, all},
                                               {p + "up_proj.weight", {f, d}, part, all}}));
  ASSIGN_OR_RETURN(mlp.down, reader.Matrix({{p + "down_proj.weight", {d, f}, all, part}}));
  if (config_.mlp_bias) {
    ASSIGN_OR_RETURN(mlp.gate_up_bias, reader.Vector({{p + "gate_proj.bias", f, part},
                                                      {p + "up_proj.bias", f, part}}));
    ASSIGN_OR_RETURN(mlp.down_bias, reader.Vector({{p + "down_proj.bias", d, all}}));
  }
  return absl::OkStatus();
}

absl::Status Decoder::LoadExperts(WeightReader& reader, const std::string& p, Layer& layer) {
  const auto& [count, chosen, ffn, renormalise] = config_.experts;
  const Span all{0, config_.hidden};
  ASSIGN_OR_RETURN(layer.router,
                   reader.Matrix({{p + "gate.weight", {count, config_.hidden}, {0, count}, all}},
                                 WeightReader::Kept::kAsStored));
  layer.expert_mlps.resize(static_cast<size_t>(count));
  for (int e = 0; e < count; ++e) {
    MlpWeights& mlp = layer.expert_mlps[static_cast<size_t>(e)];
    RETURN_IF_ERROR(
        LoadMlp(reader, fmt::format("{}experts.{}.", p, e), ffn, shard_.expert_ffn, mlp));
    layer.experts.push_back({mlp.gate_up.get(), mlp.down.get()});
  }
  return absl::OkStatus();
}

absl::Status Decoder::LoadLayer(WeightReader& reader, int number, Layer& layer) {
  const std::string p = fmt::format("model.layers.{}.", number);
  RETURN_IF_ERROR(LoadAttention(reader, p, layer));
  const int d = config_.hidden;
  ASSIGN_OR_RETURN(layer.mlp_norm,
                   reader.Vector({{p + "post_attention_layernorm.weight", d, {0, d}}}));
  if (config_.layer[number].experts) return LoadExperts(reader, p + "mlp.", layer);
  return LoadMlp(reader, p + "mlp.", config_.ffn, shard_.ffn, layer.mlp);
}

absl::Status Decoder::Load(const Safetensors& files) {
  WeightReader reader(files, device_);
  const std::pair<int, int> table = {config_.vocab, config_.hidden};
  const Span all{0, config_.hidden};
  ASSIGN_OR_RETURN(embedding_,
                   reader.Matrix({{"model.embed_tokens.weight", table, shard_.vocab, all}},
                                 WeightReader::Kept::kAsStored));
  activations_ = device_.ActivationType(reader.dtype());
  if (!config_.tied_embeddings) {
    ASSIGN_OR_RETURN(head_, reader.Matrix({{"lm_head.weight", table, shard_.vocab, all}},
                                          WeightReader::Kept::kAsStored));
  }
  ASSIGN_OR_RETURN(norm_, reader.Vector({{"model.norm.weight", config_.hidden, all}}));
  layers_.resize(config_.layers);
  for (int i = 0; i < config_.layers; ++i) {
    RETURN_IF_ERROR(LoadLayer(reader, i, layers_[i]));
    files.DropPages();
  }
  std::set<std::string> ignored;
  if (config_.tied_embeddings)
    ignored.insert("lm_head.weight");  // Written by some tools, the same matrix again.
  RETURN_IF_ERROR(reader.CheckSurplus(ignored));
  ASSIGN_OR_RETURN(hash_, files.Hash(WordsOf(config_)));
  parameters_ = files.parameters();
  RETURN_IF_ERROR(MakeRope());
  return MakeScratch();
}

absl::Status Decoder::MakeRope() {
  const std::vector<float> frequencies = RopeFrequencies(config_.rope, config_.head_width);
  const float factor = static_cast<float>(config_.rope.attention_factor);
  const size_t size = static_cast<size_t>(max_positions_) * frequencies.size();
  std::vector<float> cos, sin;
  cos.reserve(size), sin.reserve(size);
  for (int position = 0; position < max_positions_; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cos.push_back(std::cos(angle) * factor);
      sin.push_back(std::sin(angle) * factor);
    }
  }
  ASSIGN_OR_RETURN(cos_, device_.Upload(cos));
  ASSIGN_OR_RETURN(sin_, device_.Upload(sin));
  return absl::OkStatus();
}

absl::Status Decoder::MakeScratch() {
  struct Scratch {
    Memory& memory;
    DType dtype;
    int width;
  };
  const int middle = shard_.ffn.size();
  const size_t rows = static_cast<size_t>(device_.Padded(max_rows_));
  for (const auto& [memory, dtype, width] :
       {Scratch{x_, DType::kF32, config_.hidden}, Scratch{y_, activations_, config_.hidden},
        Scratch{part_, DType::kF32, config_.hidden},
        Scratch{qkv_, activations_, q_width() + 2 * kv_width()},
        Scratch{attended_, activations_, q_width()}, Scratch{middle_, activations_, middle},
        Scratch{scores_, DType::kF32, config_.experts.count}}) {
    ASSIGN_OR_RETURN(memory, device_.Allocate(dtype, rows * width));
  }
  return absl::OkStatus();
}

// x += part, summed over ranks, and the bias.
absl::Status Decoder::AddRanks(Tensor part, const Memory& bias) {
  RETURN_IF_ERROR(collective_.AllReduceSum(part));
  device_.Add(x(), part, FloatsOf(bias));
  return absl::OkStatus();
}

// x += from W^T, summed over ranks, and the bias.
absl::Status Decoder::AddProduct(Tensor from, const Weight& weight, const Memory& bias) {
  if (collective_.size() == 1 && !bias) {
    device_.Linear(from, size_.prompt_rows, weight, /*add=*/true, x());
    return absl::OkStatus();
  }
  device_.Linear(from, size_.prompt_rows, weight, /*add=*/false, part());
  return AddRanks(part(), bias);
}

absl::Status Decoder::Attention(Layer& layer, int number, KvPool& pool) {
  const Tensor qkv = View(qkv_, activations_, q_width() + 2 * kv_width());
  const Tensor q = qkv.Columns(0, q_width()), k = qkv.Columns(q_width(), kv_width());
  const Tensor v = qkv.Columns(q_width() + kv_width(), kv_width());
  const Tensor attended = View(attended_, activations_, q_width());
  device_.NormLinear(x(), Norm(layer.attention_norm), y(), size_.prompt_rows, *layer.qkv, qkv);
  if (layer.qkv_bias) device_.AddBias(qkv, layer.qkv_bias->floats());
  if (config_.qk_norm) {
    const int heads = shard_.heads.size(), kv_heads = shard_.kv_heads.size();
    device_.RmsNorm(q, heads, layer.q_norm->floats(), config_.norm_eps, q);
    device_.RmsNorm(k, kv_heads, layer.k_norm->floats(), config_.norm_eps, k);
  }
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_width));
  device_.RopeAttend(q, k, v, {cos_->floats(), sin_->floats()}, pool, number, scale,
                     config_.layer[number].window, attended);
  return AddProduct(attended, *layer.o, layer.o_bias);
}

absl::Status Decoder::FeedForward(Layer& layer) {
  if (layer.router) {
    device_.RmsNorm(x(), 1, layer.mlp_norm->floats(), config_.norm_eps, y());
    const Tensor scores = View(scores_, DType::kF32, config_.experts.count);
    device_.Linear(y(), size_.prompt_rows, *layer.router, /*add=*/false, scores);
    device_.MixExperts(y(), scores, layer.experts,
                       {config_.experts.chosen, config_.experts.renormalise}, part());
    return AddRanks(part(), nullptr);
  }
  const Tensor middle = View(middle_, activations_, shard_.ffn.size());
  device_.NormGateUp(x(), Norm(layer.mlp_norm), y(), size_.prompt_rows, *layer.mlp.gate_up,
                     FloatsOf(layer.mlp.gate_up_bias), middle);
  return AddProduct(middle, *layer.mlp.down, layer.mlp.down_bias);
}

// The whole forward pass, from the rows that the device was given.
absl::Status Decoder::Layers(KvPool& pool, Tensor logits) {
  device_.Embed(shard_.vocab.begin, *embedding_, x());
  RETURN_IF_ERROR(collective_.AllReduceSum(x()));
  for (int i = 0; i < config_.layers; ++i) {
    RETURN_IF_ERROR(Attention(layers_[i], i, pool));
    RETURN_IF_ERROR(FeedForward(layers_[i]));
  }
  if (size_.logits_rows == 0) return absl::OkStatus();
  const Tensor last = part().Rows(0, size_.logits_rows);
  const Tensor normed = y().Rows(0, size_.logits_rows);
  device_.SelectLogitsRows(x(), last);
  // Every row of the head is a produced token's.
  if (shard_.vocab.size() > 0) {
    device_.NormLinear(last, Norm(norm_), normed, /*prompt_rows=*/0, head_ ? *head_ : *embedding_,
                       logits.Rows(0, size_.logits_rows));
  }
  return absl::OkStatus();
}

absl::Status Decoder::Forward(const Batch& batch, KvPool& pool, Tensor logits) {
  size_ = device_.Begin(batch);
  CHECK(size_.rows <= device_.Padded(max_rows_));
  return device_.Repeat([&] { return Layers(pool, logits); });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::filesystem::path& dir, Device& device,
                                                 Collective& collective,
                                                 const ModelLimits& limits) {
  ASSIGN_OR_RETURN(ModelConfig config, LoadModelConfig(dir));
  ASSIGN_OR_RETURN(const Shard shard, ShardOf(config, collective.rank(), collective.size()));
  ASSIGN_OR_RETURN(const Safetensors files, Safetensors::Open(dir));
  auto model = std::make_unique<Decoder>(std::move(config), shard, device, collective, limits);
  const absl::Status status = model->Load(files);
  if (!status.ok()) return Annotate(status, dir.string());
  return model;
}

}  // namespace conclave::worker
