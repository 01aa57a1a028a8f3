#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/model/model.h"
#include "worker/model/safetensors.h"

namespace conclave::worker {
namespace {

// Rows and columns of a stored matrix.
class MatrixRows : public RowSource {
 public:
  MatrixRows(const StoredTensor& tensor, Span rows, Span cols)
      : tensor_(tensor), rows_(rows), cols_(cols) {}
  int64_t rows() const override { return rows_.size(); }
  int64_t cols() const override { return cols_.size(); }
  DType dtype() const override { return tensor_.dtype; }
  void Read(int64_t row, void* to) const override {
    const size_t bytes = BytesOf(tensor_.dtype);
    const int64_t at = (rows_.begin + row) * tensor_.shape[1] + cols_.begin;
    std::memcpy(to, tensor_.data + at * bytes, bytes * cols_.size());
  }

 private:
  const StoredTensor& tensor_;
  const Span rows_, cols_;
};

struct Layer {
  std::unique_ptr<Weight> q, k, v, o, gate, up, down;
  std::vector<float> q_bias, k_bias, v_bias, o_bias, gate_bias, up_bias, down_bias;
  std::vector<float> attention_norm, mlp_norm;
};

// Reads tensors of one checkpoint for one rank, checks their shapes, and remembers which were used.
class Reader {
 public:
  Reader(const Safetensors& files, Device& device) : files_(files), device_(device) {}

  absl::StatusOr<std::unique_ptr<Weight>> Matrix(const std::string& name, std::pair<int, int> shape,
                                                 Span rows, Span cols) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name, {shape.first, shape.second}));
    return device_.Pack(MatrixRows(*tensor, rows, cols));
  }

  absl::StatusOr<std::vector<float>> Vector(const std::string& name, int size, Span part) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name, {size}));
    std::vector<float> values(part.size());
    const StoredTensor row{name, tensor->dtype, {1, size}, tensor->data};
    ASSIGN_OR_RETURN(auto packed, device_.Pack(MatrixRows(row, {0, 1}, part)));
    device_.Embed({0}, 0, *packed, Tensor::Dense(values.data(), 1, part.size()));
    return values;
  }

  absl::Status CheckSurplus(const std::set<std::string>& ignored) const {
    for (const auto& [name, tensor] : files_.tensors()) {
      if (!used_.contains(name) && !ignored.contains(name) &&
          name.find("rotary_emb.inv_freq") == std::string::npos) {
        return InvalidArgument("tensor {} is not known to this architecture", name);
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::StatusOr<const StoredTensor*> Find(const std::string& name,
                                           const std::vector<int64_t>& shape) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, files_.Find(name));
    if (tensor->shape != shape) {
      return InvalidArgument("tensor {} has shape [{}]; config.json asks for [{}]", name,
                             fmt::join(tensor->shape, ", "), fmt::join(shape, ", "));
    }
    used_.insert(name);
    return tensor;
  }

  const Safetensors& files_;
  Device& device_;
  std::set<std::string> used_;
};

class Llama : public Model {
 public:
  Llama(ModelConfig config, Shard shard, Device& device, Collective& collective)
      : config_(config), shard_(shard), device_(device), collective_(collective) {}

  const ModelConfig& config() const override { return config_; }
  const Shard& shard() const override { return shard_; }
  const std::string& weights_hash() const override { return hash_; }
  int64_t parameters() const override { return parameters_; }

  absl::Status Load(const Safetensors& files, int max_rows);
  absl::Status Forward(const StepRows& rows, KvPool& pool, Tensor logits) override;

 private:
  absl::Status LoadLayer(Reader& reader, int number, Layer& layer);
  absl::Status MakeRope();
  absl::Status MakeScratch(int max_rows);
  absl::Status Attention(Layer& layer, int number, const StepRows& rows, KvPool& pool);
  absl::Status Mlp(Layer& layer, int64_t n);
  Tensor View(const std::unique_ptr<Buffer>& buffer, int64_t n, int64_t cols) const {
    return Tensor::Dense(buffer->data(), n, cols);
  }
  int q_width() const { return shard_.heads.size() * config_.head_width; }
  int kv_width() const { return shard_.kv_heads.size() * config_.head_width; }

  const ModelConfig config_;
  const Shard shard_;
  Device& device_;
  Collective& collective_;
  std::unique_ptr<Weight> embedding_, head_;  // head_ is null when it is the embedding.
  std::vector<Layer> layers_;
  std::vector<float> norm_, cos_, sin_;
  // Rows of one step: residual x [N,D], normed y [N,D], q k v, attention out, gate up, partial sum.
  std::unique_ptr<Buffer> x_, y_, q_, k_, v_, attended_, gate_, up_, part_;
  std::string hash_;
  int64_t parameters_ = 0;
};

absl::Status Llama::LoadLayer(Reader& reader, int number, Layer& layer) {
  const std::string p = fmt::format("model.layers.{}.", number);
  const int d = config_.hidden, e = config_.head_width, f = config_.ffn;
  const auto wide = [e](Span heads) { return Span{heads.begin * e, heads.end * e}; };
  const Span all{0, d}, q = wide(shard_.heads), kv = wide(shard_.kv_heads);
  const int q_rows = config_.heads * e, kv_rows = config_.kv_heads * e;
  ASSIGN_OR_RETURN(layer.q, reader.Matrix(p + "self_attn.q_proj.weight", {q_rows, d}, q, all));
  ASSIGN_OR_RETURN(layer.k, reader.Matrix(p + "self_attn.k_proj.weight", {kv_rows, d}, kv, all));
  ASSIGN_OR_RETURN(layer.v, reader.Matrix(p + "self_attn.v_proj.weight", {kv_rows, d}, kv, all));
  ASSIGN_OR_RETURN(layer.o, reader.Matrix(p + "self_attn.o_proj.weight", {d, q_rows}, all, q));
  ASSIGN_OR_RETURN(layer.gate, reader.Matrix(p + "mlp.gate_proj.weight", {f, d}, shard_.ffn, all));
  ASSIGN_OR_RETURN(layer.up, reader.Matrix(p + "mlp.up_proj.weight", {f, d}, shard_.ffn, all));
  ASSIGN_OR_RETURN(layer.down, reader.Matrix(p + "mlp.down_proj.weight", {d, f}, all, shard_.ffn));
  ASSIGN_OR_RETURN(layer.attention_norm, reader.Vector(p + "input_layernorm.weight", d, all));
  ASSIGN_OR_RETURN(layer.mlp_norm, reader.Vector(p + "post_attention_layernorm.weight", d, all));
  if (config_.attention_bias) {
    ASSIGN_OR_RETURN(layer.q_bias, reader.Vector(p + "self_attn.q_proj.bias", q_rows, q));
    ASSIGN_OR_RETURN(layer.k_bias, reader.Vector(p + "self_attn.k_proj.bias", kv_rows, kv));
    ASSIGN_OR_RETURN(layer.v_bias, reader.Vector(p + "self_attn.v_proj.bias", kv_rows, kv));
    ASSIGN_OR_RETURN(layer.o_bias, reader.Vector(p + "self_attn.o_proj.bias", d, all));
  }
  if (config_.mlp_bias) {
    ASSIGN_OR_RETURN(layer.gate_bias, reader.Vector(p + "mlp.gate_proj.bias", f, shard_.ffn));
    ASSIGN_OR_RETURN(layer.up_bias, reader.Vector(p + "mlp.up_proj.bias", f, shard_.ffn));
    ASSIGN_OR_RETURN(layer.down_bias, reader.Vector(p + "mlp.down_proj.bias", d, all));
  }
  return absl::OkStatus();
}

absl::Status Llama::Load(const Safetensors& files, int max_rows) {
  Reader reader(files, device_);
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
  RETURN_IF_ERROR(MakeRope());
  return MakeScratch(max_rows);
}

absl::Status Llama::MakeRope() {
  const std::vector<float> frequencies = RopeFrequencies(config_.rope, config_.head_width);
  for (int position = 0; position < config_.max_positions; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
  }
  return absl::OkStatus();
}

absl::Status Llama::MakeScratch(int max_rows) {
  const std::pair<std::unique_ptr<Buffer>*, int> scratch[] = {
      {&x_, config_.hidden},   {&y_, config_.hidden},       {&part_, config_.hidden},
      {&q_, q_width()},        {&k_, kv_width()},           {&v_, kv_width()},
      {&attended_, q_width()}, {&gate_, shard_.ffn.size()}, {&up_, shard_.ffn.size()}};
  for (const auto& [buffer, width] : scratch) {
    ASSIGN_OR_RETURN(*buffer, device_.Allocate(static_cast<size_t>(max_rows) * width));
  }
  return absl::OkStatus();
}

absl::Status Llama::Attention(Layer& layer, int number, const StepRows& rows, KvPool& pool) {
  const int64_t n = static_cast<int64_t>(rows.tokens.size());
  const Tensor x = View(x_, n, config_.hidden), y = View(y_, n, config_.hidden);
  const Tensor q = View(q_, n, q_width()), k = View(k_, n, kv_width()), v = View(v_, n, kv_width());
  const Tensor attended = View(attended_, n, q_width()), part = View(part_, n, config_.hidden);
  device_.RmsNorm(x, layer.attention_norm.data(), config_.norm_eps, y);
  device_.Linear(y, *layer.q, q);
  device_.Linear(y, *layer.k, k);
  device_.Linear(y, *layer.v, v);
  if (config_.attention_bias) {
    device_.AddBias(q, layer.q_bias.data());
    device_.AddBias(k, layer.k_bias.data());
    device_.AddBias(v, layer.v_bias.data());
  }
  device_.RopeStore(q, k, v, {cos_.data(), sin_.data()}, rows.places, pool, number);
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_width));
  device_.Attend(q, rows.places, pool, number, scale, /*window=*/0, attended);
  device_.Linear(attended, *layer.o, part);
  RETURN_IF_ERROR(collective_.AllReduceSum(part));
  device_.Add(x, part, config_.attention_bias ? layer.o_bias.data() : nullptr);
  return absl::OkStatus();
}

absl::Status Llama::Mlp(Layer& layer, int64_t n) {
  const Tensor x = View(x_, n, config_.hidden), y = View(y_, n, config_.hidden);
  const Tensor gate = View(gate_, n, shard_.ffn.size()), up = View(up_, n, shard_.ffn.size());
  const Tensor part = View(part_, n, config_.hidden);
  device_.RmsNorm(x, layer.mlp_norm.data(), config_.norm_eps, y);
  device_.Linear(y, *layer.gate, gate);
  device_.Linear(y, *layer.up, up);
  if (config_.mlp_bias) {
    device_.AddBias(gate, layer.gate_bias.data());
    device_.AddBias(up, layer.up_bias.data());
  }
  device_.SiluMul(gate, up);
  device_.Linear(gate, *layer.down, part);
  RETURN_IF_ERROR(collective_.AllReduceSum(part));
  device_.Add(x, part, config_.mlp_bias ? layer.down_bias.data() : nullptr);
  return absl::OkStatus();
}

absl::Status Llama::Forward(const StepRows& rows, KvPool& pool, Tensor logits) {
  const int64_t n = static_cast<int64_t>(rows.tokens.size());
  CHECK(rows.places.size() == rows.tokens.size());
  const Tensor x = View(x_, n, config_.hidden);
  device_.Embed(rows.tokens, shard_.vocab.begin, *embedding_, x);
  RETURN_IF_ERROR(collective_.AllReduceSum(x));
  for (int i = 0; i < config_.layers; ++i) {
    RETURN_IF_ERROR(Attention(layers_[i], i, rows, pool));
    RETURN_IF_ERROR(Mlp(layers_[i], n));
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
                                                 Collective& collective, int max_rows) {
  ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(dir));
  ASSIGN_OR_RETURN(const Shard shard, ShardOf(config, collective.rank(), collective.size()));
  ASSIGN_OR_RETURN(const Safetensors files, Safetensors::Open(dir));
  auto model = std::make_unique<Llama>(config, shard, device, collective);
  const absl::Status status = model->Load(files, max_rows);
  if (!status.ok()) return Annotate(status, dir.string());
  return model;
}

}  // namespace conclave::worker
