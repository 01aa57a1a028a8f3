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

struct MlpWeights {
  std::unique_ptr<Weight> gate, up, down;
  std::vector<float> gate_bias, up_bias, down_bias;
};

struct Layer {
  std::unique_ptr<Weight> q, k, v, o;
  std::vector<float> q_bias, k_bias, v_bias, o_bias;
  std::vector<float> attention_norm, mlp_norm, q_norm, k_norm;
  MlpWeights mlp;                       // Or a mixture:
  std::unique_ptr<Weight> router;       // [experts, D], on every rank.
  std::vector<MlpWeights> expert_mlps;  // Owns what `experts` names.
  std::vector<ExpertWeights> experts;
};

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
  absl::Status Forward(const StepRows& rows, KvPool& pool, Tensor logits) override;

 private:
  absl::Status LoadLayer(WeightReader& reader, int number, Layer& layer);
  absl::Status LoadAttention(WeightReader& reader, const std::string& block, Layer& layer);
  absl::Status LoadMlp(WeightReader& reader, const std::string& p, int f, Span part,
                       MlpWeights& mlp);
  absl::Status LoadExperts(WeightReader& reader, const std::string& p, Layer& layer);
  void MakeRope();
  absl::Status MakeScratch();
  absl::Status Attention(Layer& layer, int number, const StepRows& rows, KvPool& pool);
  absl::Status FeedForward(Layer& layer, int64_t n);
  void Mlp(const MlpWeights& mlp, Tensor y, Tensor part);
  void NormHeads(Tensor x, const std::vector<float>& gain);
  Tensor View(const std::unique_ptr<Buffer>& buffer, int64_t n, int64_t cols) const {
    return Tensor::Dense(buffer->data(), n, cols);
  }
  int q_width() const { return shard_.heads.size() * config_.head_width; }
  int kv_width() const { return shard_.kv_heads.size() * config_.head_width; }

  const ModelConfig config_;
  const Shard shard_;
  const int max_rows_, max_positions_;
  Device& device_;
  Collective& collective_;
  std::unique_ptr<Weight> embedding_, head_;  // head_ is null when it is the embedding.
  std::vector<Layer> layers_;
  std::vector<float> norm_, cos_, sin_;
  // Rows of one step: residual x [N,D], normed y [N,D], q k v, attention out, gate up, partial sum,
  // scores of the experts.
  std::unique_ptr<Buffer> x_, y_, q_, k_, v_, attended_, gate_, up_, part_, scores_;
  std::string hash_;
  int64_t parameters_ = 0;
};

absl::Status Decoder::LoadAttention(WeightReader& reader, const std::string& block, Layer& layer) {
  const std::string p = block + "self_attn.";
  const int d = config_.hidden, e = config_.head_width;
  const auto wide = [e](Span heads) { return Span{heads.begin * e, heads.end * e}; };
  const Span all{0, d}, q = wide(shard_.heads), kv = wide(shard_.kv_heads);
  const int q_rows = config_.heads * e, kv_rows = config_.kv_heads * e;
  ASSIGN_OR_RETURN(layer.q, reader.Matrix(p + "q_proj.weight", {q_rows, d}, q, all));
  ASSIGN_OR_RETURN(layer.k, reader.Matrix(p + "k_proj.weight", {kv_rows, d}, kv, all));
  ASSIGN_OR_RETURN(layer.v, reader.Matrix(p + "v_proj.weight", {kv_rows, d}, kv, all));
  ASSIGN_OR_RETURN(layer.o, reader.Matrix(p + "o_proj.weight", {d, q_rows}, all, q));
  ASSIGN_OR_RETURN(layer.attention_norm, reader.Vector(block + "input_layernorm.weight", d, all));
  if (config_.qk_norm) {
    ASSIGN_OR_RETURN(layer.q_norm, reader.Vector(p + "q_norm.weight", e, {0, e}));
    ASSIGN_OR_RETURN(layer.k_norm, reader.Vector(p + "k_norm.weight", e, {0, e}));
  }
  if (config_.qkv_bias) {
    ASSIGN_OR_RETURN(layer.q_bias, reader.Vector(p + "q_proj.bias", q_rows, q));
    ASSIGN_OR_RETURN(layer.k_bias, reader.Vector(p + "k_proj.bias", kv_rows, kv));
    ASSIGN_OR_RETURN(layer.v_bias, reader.Vector(p + "v_proj.bias", kv_rows, kv));
  }
  if (config_.o_bias) {
    ASSIGN_OR_RETURN(layer.o_bias, reader.Vector(p + "o_proj.bias", d, all));
  }
  return absl::OkStatus();
}

// `f` and `part`: the whole feed-forward width, and this rank's part of it.
absl::Status Decoder::LoadMlp(WeightReader& reader, const std::string& p, int f, Span part,
                              MlpWeights& mlp) {
  const int d = config_.hidden;
  const Span all{0, d};
  ASSIGN_OR_RETURN(mlp.gate, reader.Matrix(p + "gate_proj.weight", {f, d}, part, all));
  ASSIGN_OR_RETURN(mlp.up, reader.Matrix(p + "up_proj.weight", {f, d}, part, all));
  ASSIGN_OR_RETURN(mlp.down, reader.Matrix(p + "down_proj.weight", {d, f}, all, part));
  if (config_.mlp_bias) {
    ASSIGN_OR_RETURN(mlp.gate_bias, reader.Vector(p + "gate_proj.bias", f, part));
    ASSIGN_OR_RETURN(mlp.up_bias, reader.Vector(p + "up_proj.bias", f, part));
    ASSIGN_OR_RETURN(mlp.down_bias, reader.Vector(p + "down_proj.bias", d, all));
  }
  return absl::OkStatus();
}

absl::Status Decoder::LoadExperts(WeightReader& reader, const std::string& p, Layer& layer) {
  const auto& [count, chosen, ffn, renormalise] = config_.experts;
  const Span all{0, config_.hidden};
  ASSIGN_OR_RETURN(layer.router,
                   reader.Matrix(p + "gate.weight", {count, config_.hidden}, {0, count}, all));
  layer.expert_mlps.resize(static_cast<size_t>(count));
  for (int e = 0; e < count; ++e) {
    MlpWeights& mlp = layer.expert_mlps[static_cast<size_t>(e)];
    RETURN_IF_ERROR(
        LoadMlp(reader, fmt::format("{}experts.{}.", p, e), ffn, shard_.expert_ffn, mlp));
    layer.experts.push_back({mlp.gate.get(), mlp.up.get(), mlp.down.get()});
  }
  return absl::OkStatus();
}

absl::Status Decoder::LoadLayer(WeightReader& reader, int number, Layer& layer) {
  const std::string p = fmt::format("model.layers.{}.", number);
  RETURN_IF_ERROR(LoadAttention(reader, p, layer));
  ASSIGN_OR_RETURN(layer.mlp_norm, reader.Vector(p + "post_attention_layernorm.weight",
                                                 config_.hidden, {0, config_.hidden}));
  if (config_.layer[number].experts) return LoadExperts(reader, p + "mlp.", layer);
  return LoadMlp(reader, p + "mlp.", config_.ffn, shard_.ffn, layer.mlp);
}

absl::Status Decoder::Load(const Safetensors& files) {
  WeightReader reader(files, device_);
  const std::pair<int, int> table = {config_.vocab, config_.hidden};
  const Span all{0, config_.hidden};
  ASSIGN_OR_RETURN(embedding_,
                   reader.Matrix("model.embed_tokens.weight", table, shard_.vocab, all));
  if (!config_.tied_embeddings) {
    ASSIGN_OR_RETURN(head_, reader.Matrix("lm_head.weight", table, shard_.vocab, all));
  }
  ASSIGN_OR_RETURN(norm_, reader.Vector("model.norm.weight", config_.hidden, all));
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
  MakeRope();
  return MakeScratch();
}

void Decoder::MakeRope() {
  const std::vector<float> frequencies = RopeFrequencies(config_.rope, config_.head_width);
  const float factor = static_cast<float>(config_.rope.attention_factor);
  const size_t size = static_cast<size_t>(max_positions_) * frequencies.size();
  cos_.reserve(size), sin_.reserve(size);
  for (int position = 0; position < max_positions_; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cos_.push_back(std::cos(angle) * factor);
      sin_.push_back(std::sin(angle) * factor);
    }
  }
}

absl::Status Decoder::MakeScratch() {
  const std::pair<std::unique_ptr<Buffer>*, int> scratch[] = {
      {&x_, config_.hidden},     {&y_, config_.hidden},
      {&part_, config_.hidden},  {&q_, q_width()},
      {&k_, kv_width()},         {&v_, kv_width()},
      {&attended_, q_width()},   {&gate_, shard_.ffn.size()},
      {&up_, shard_.ffn.size()}, {&scores_, config_.experts.count}};
  for (const auto& [buffer, width] : scratch) {
    ASSIGN_OR_RETURN(*buffer, device_.Allocate(static_cast<size_t>(max_rows_) * width));
  }
  return absl::OkStatus();
}

// Every head of every row alone. REQUIRES: x is dense.
void Decoder::NormHeads(Tensor x, const std::vector<float>& gain) {
  const int e = config_.head_width;
  CHECK(x.stride == x.cols);
  const Tensor heads = Tensor::Dense(x.data, x.rows * x.cols / e, e);
  device_.RmsNorm(heads, gain.data(), config_.norm_eps, heads);
}

absl::Status Decoder::Attention(Layer& layer, int number, const StepRows& rows, KvPool& pool) {
  const int64_t n = static_cast<int64_t>(rows.tokens.size());
  const Tensor x = View(x_, n, config_.hidden), y = View(y_, n, config_.hidden);
  const Tensor q = View(q_, n, q_width()), k = View(k_, n, kv_width()), v = View(v_, n, kv_width());
  const Tensor attended = View(attended_, n, q_width()), part = View(part_, n, config_.hidden);
  device_.RmsNorm(x, layer.attention_norm.data(), config_.norm_eps, y);
  device_.Linear(y, *layer.q, q);
  device_.Linear(y, *layer.k, k);
  device_.Linear(y, *layer.v, v);
  if (config_.qkv_bias) {
    device_.AddBias(q, layer.q_bias.data());
    device_.AddBias(k, layer.k_bias.data());
    device_.AddBias(v, layer.v_bias.data());
  }
  if (config_.qk_norm) {
    NormHeads(q, layer.q_norm);
    NormHeads(k, layer.k_norm);
  }
  device_.RopeStore(q, k, v, {cos_.data(), sin_.data()}, rows.places, pool, number);
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_width));
  device_.Attend(q, rows.places, pool, number, scale, config_.layer[number].window, attended);
  device_.Linear(attended, *layer.o, part);
  RETURN_IF_ERROR(collective_.AllReduceSum(part));
  device_.Add(x, part, config_.o_bias ? layer.o_bias.data() : nullptr);
  return absl::OkStatus();
}

// part = what this rank's share of the MLP makes of y.
void Decoder::Mlp(const MlpWeights& mlp, Tensor y, Tensor part) {
  const Tensor gate = View(gate_, y.rows, shard_.ffn.size());
  const Tensor up = View(up_, y.rows, shard_.ffn.size());
  device_.Linear(y, *mlp.gate, gate);
  device_.Linear(y, *mlp.up, up);
  if (config_.mlp_bias) {
    device_.AddBias(gate, mlp.gate_bias.data());
    device_.AddBias(up, mlp.up_bias.data());
  }
  device_.SiluMul(gate, up);
  device_.Linear(gate, *mlp.down, part);
}

absl::Status Decoder::FeedForward(Layer& layer, int64_t n) {
  const Tensor x = View(x_, n, config_.hidden), y = View(y_, n, config_.hidden);
  const Tensor part = View(part_, n, config_.hidden);
  device_.RmsNorm(x, layer.mlp_norm.data(), config_.norm_eps, y);
  if (layer.router) {
    const Tensor scores = View(scores_, n, config_.experts.count);
    device_.Linear(y, *layer.router, scores);
    device_.MixExperts(y, scores, layer.experts,
                       {config_.experts.chosen, config_.experts.renormalise}, part);
  } else {
    Mlp(layer.mlp, y, part);
  }
  RETURN_IF_ERROR(collective_.AllReduceSum(part));
  const bool bias = config_.mlp_bias && !layer.router;
  device_.Add(x, part, bias ? layer.mlp.down_bias.data() : nullptr);
  return absl::OkStatus();
}

absl::Status Decoder::Forward(const StepRows& rows, KvPool& pool, Tensor logits) {
  const int64_t n = static_cast<int64_t>(rows.tokens.size());
  CHECK(rows.places.size() == rows.tokens.size());
  const Tensor x = View(x_, n, config_.hidden);
  device_.Embed(rows.tokens, shard_.vocab.begin, *embedding_, x);
  RETURN_IF_ERROR(collective_.AllReduceSum(x));
  for (int i = 0; i < config_.layers; ++i) {
    RETURN_IF_ERROR(Attention(layers_[i], i, rows, pool));
    RETURN_IF_ERROR(FeedForward(layers_[i], n));
  }
  const Tensor y = View(y_, static_cast<int64_t>(rows.logits_rows.size()), config_.hidden);
  for (size_t i = 0; i < rows.logits_rows.size(); ++i) {
    device_.RmsNorm(x.Rows(rows.logits_rows[i], 1), norm_.data(), config_.norm_eps,
                    y.Rows(static_cast<int64_t>(i), 1));
  }
  if (shard_.vocab.size() > 0) device_.Linear(y, head_ ? *head_ : *embedding_, logits);
  return device_.Synchronize();
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
