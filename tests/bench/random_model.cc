#include "tests/bench/random_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

namespace conclave::bench {
namespace {

struct Matrix {
  std::string name;
  std::vector<int64_t> shape;

  int64_t elements() const {
    int64_t count = 1;
    for (const int64_t each : shape) count *= each;
    return count;
  }
};

std::vector<Matrix> MatricesOf(const worker::ModelConfig& m) {
  const int64_t q = int64_t{m.heads} * m.head_width, kv = int64_t{m.kv_heads} * m.head_width;
  std::vector<Matrix> all = {{"model.embed_tokens.weight", {m.vocab, m.hidden}},
                             {"model.norm.weight", {m.hidden}}};
  for (int i = 0; i < m.layers; ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    all.push_back({p + "input_layernorm.weight", {m.hidden}});
    all.push_back({p + "post_attention_layernorm.weight", {m.hidden}});
    all.push_back({p + "self_attn.q_proj.weight", {q, m.hidden}});
    all.push_back({p + "self_attn.k_proj.weight", {kv, m.hidden}});
    all.push_back({p + "self_attn.v_proj.weight", {kv, m.hidden}});
    all.push_back({p + "self_attn.o_proj.weight", {m.hidden, q}});
    all.push_back({p + "mlp.gate_proj.weight", {m.ffn, m.hidden}});
    all.push_back({p + "mlp.up_proj.weight", {m.ffn, m.hidden}});
    all.push_back({p + "mlp.down_proj.weight", {m.hidden, m.ffn}});
  }
  if (!m.tied_embeddings) all.push_back({"lm_head.weight", {m.vocab, m.hidden}});
  return all;
}

// bf16 between 2^-8 and 2^-5 with either sign: nothing grows without bound on its way.
void Fill(std::vector<uint16_t>& values, uint64_t& state) {
  for (uint16_t& value : values) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<uint32_t>(state >> 33);
    value = static_cast<uint16_t>((bits & 0x8000) | ((119 + bits % 3) << 7) | (bits >> 16 & 0x7f));
  }
}

}  // namespace

worker::ModelConfig Llama135M() {
  worker::ModelConfig shape;
  shape.layers = 30, shape.hidden = 576, shape.ffn = 1536, shape.vocab = 49'152;
  shape.heads = 9, shape.kv_heads = 3, shape.head_width = 64, shape.max_positions = 2048;
  shape.tied_embeddings = true;
  return shape;
}

worker::ModelConfig Llama1B() {
  worker::ModelConfig shape;
  shape.layers = 16, shape.hidden = 2048, shape.ffn = 8192, shape.vocab = 128'256;
  shape.heads = 32, shape.kv_heads = 8, shape.head_width = 64, shape.max_positions = 16'384;
  shape.tied_embeddings = true;
  return shape;
}

worker::ModelConfig Llama8B() {
  worker::ModelConfig shape;
  shape.layers = 32, shape.hidden = 4096, shape.ffn = 14'336, shape.vocab = 128'256;
  shape.heads = 32, shape.kv_heads = 8, shape.head_width = 128, shape.max_positions = 16'384;
  shape.tied_embeddings = false;
  return shape;
}

absl::Status WriteRandomModel(const worker::ModelConfig& m, const std::filesystem::path& dir) {
  std::ofstream(dir / "config.json") << fmt::format(
      R"({{"model_type": "llama", "hidden_act": "silu", "num_hidden_layers": {}, "hidden_size": {},
"num_attention_heads": {}, "num_key_value_heads": {}, "head_dim": {}, "intermediate_size": {},
"vocab_size": {}, "max_position_embeddings": {}, "rms_norm_eps": 1e-5,
"tie_word_embeddings": {}}})",
      m.layers, m.hidden, m.heads, m.kv_heads, m.head_width, m.ffn, m.vocab, m.max_positions,
      m.tied_embeddings);
  const std::vector<Matrix> all = MatricesOf(m);
  std::string header = "{";
  int64_t at = 0;
  for (const Matrix& each : all) {
    const int64_t end = at + each.elements() * 2;
    header +=
        fmt::format("{}\"{}\":{{\"dtype\":\"BF16\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                    header.size() > 1 ? "," : "", each.name, fmt::join(each.shape, ","), at, end);
    at = end;
  }
  header += "}";
  std::ofstream file(dir / "model.safetensors", std::ios::binary);
  const uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof length) << header;
  // Matrices go on round one pool of numbers, whose size is prime to theirs: billions of numbers
  // are written as fast as they are copied.
  uint64_t state = 1;
  std::vector<uint16_t> pool((size_t{1} << 24) + 43);
  Fill(pool, state);
  size_t next = 0;
  for (const Matrix& each : all) {
    for (size_t left = static_cast<size_t>(each.elements()); left > 0;) {
      const size_t count = std::min(left, pool.size() - next);
      file.write(reinterpret_cast<const char*>(pool.data() + next),
                 static_cast<std::streamsize>(count * sizeof(uint16_t)));
      left -= count;
      next = (next + count) % pool.size();
    }
  }
  file.close();
  return file ? absl::OkStatus() : Unavailable("cannot write {}", dir.string());
}

Work WorkOf(const worker::ModelConfig& m) {
  const double q = double{1} * m.heads * m.head_width, kv = double{1} * m.kv_heads * m.head_width;
  const double hidden = m.hidden, layers = m.layers;
  const double body = layers * hidden * (2 * q + 2 * kv + 3.0 * m.ffn);
  const double head = hidden * m.vocab;
  return {.weight_bytes = 2 * (body + head),
          .row_flops = 2 * body,
          .sample_flops = 2 * head,
          .attended_flops = 4 * layers * q};
}

}  // namespace conclave::bench
