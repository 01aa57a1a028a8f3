#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace conclave::worker {

// A folder of its own that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }
  void Write(const std::string& name, const std::string& bytes) const;

 private:
  std::filesystem::path path_;
};

// The bytes of a safetensors file: header length, header, data.
std::string SafetensorsBytes(const std::string& header, size_t data_bytes);

// A tensor of a checkpoint that is made for a test; elements are small and differ.
using Shapes = std::map<std::string, std::vector<int64_t>>;
std::string MakeSafetensors(const Shapes& shapes, const std::string& dtype = "F32",
                            const std::string& pad = "");

// A Llama of one layer, hidden 8, 2 heads, 1 KV head, ffn 12, vocabulary 10.
std::string TinyConfig();
Shapes TinyShapes();

}  // namespace conclave::worker
