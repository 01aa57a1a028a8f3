#include "tests/unit/worker/model/checkpoint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <fstream>

namespace conclave::worker {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "conclave-XXXXXX").string();
  EXPECT_NE(mkdtemp(name.data()), nullptr);
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

void TemporaryFolder::Write(const std::string& name, const std::string& bytes) const {
  std::ofstream(path_ / name, std::ios::binary) << bytes;
}

std::string SafetensorsBytes(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\0');
}

std::string MakeSafetensors(const Shapes& shapes, const std::string& dtype,
                            const std::string& pad) {
  const size_t width = dtype == "F32" ? 4 : 2;
  std::string header = "{", data;
  for (const auto& [name, shape] : shapes) {
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    header += fmt::format("{}\"{}\":{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                          header.size() > 1 ? "," : "", name, dtype, fmt::join(shape, ","),
                          data.size(), data.size() + static_cast<size_t>(count) * width);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t step = (i * 7 + static_cast<int64_t>(name.size())) % 23 - 10;
      const float value = static_cast<float>(step) / 64;  // The same number in every type.
      const _Float16 half = static_cast<_Float16>(value);
      char bytes[4];
      std::memcpy(bytes, &value, 4);
      if (dtype == "F16") std::memcpy(bytes + 2, &half, 2);
      data.append(bytes + (4 - width), width);  // bf16 is f32's upper half.
    }
  }
  header += "}" + pad;
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

std::string TinyConfig() {
  return R"({"model_type":"llama","hidden_act":"silu","num_hidden_layers":1,"hidden_size":8,
    "num_attention_heads":2,"num_key_value_heads":1,"intermediate_size":12,"vocab_size":10,
    "max_position_embeddings":64,"rms_norm_eps":1e-5,"tie_word_embeddings":true})";
}

Shapes TinyShapes() {
  const std::string layer = "model.layers.0.";
  return {
      {"model.embed_tokens.weight", {10, 8}},      {"model.norm.weight", {8}},
      {layer + "input_layernorm.weight", {8}},     {layer + "post_attention_layernorm.weight", {8}},
      {layer + "self_attn.q_proj.weight", {8, 8}}, {layer + "self_attn.k_proj.weight", {4, 8}},
      {layer + "self_attn.v_proj.weight", {4, 8}}, {layer + "self_attn.o_proj.weight", {8, 8}},
      {layer + "mlp.gate_proj.weight", {12, 8}},   {layer + "mlp.up_proj.weight", {12, 8}},
      {layer + "mlp.down_proj.weight", {8, 12}}};
}

}  // namespace conclave::worker
