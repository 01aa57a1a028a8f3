#include "worker/model/safetensors.h"

#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "common/file.h"
#include "common/json_parse.h"
#include "common/status.h"
#include "worker/model/config_keys.h"
#include "worker/model/lost_mapping.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

constexpr uint64_t kMostHeaderBytes = 100 << 20;
constexpr uint64_t kMostIndexBytes = 100 << 20;
constexpr size_t kMostShards = 4096;
constexpr size_t kMostNameBytes = 1024;
constexpr size_t kMostTensors = 250'000;

absl::StatusOr<DType> ParseDType(const std::string& word) {
  if (word == "F32") return DType::kF32;
  if (word == "BF16") return DType::kBF16;
  if (word == "F16") return DType::kF16;
  return InvalidArgument("dtype {} is not supported; it can be F32, F16 or BF16", word);
}

absl::StatusOr<json> ParseFlat(std::string_view text) {
  return ParseJsonWithin({.depth = 8, .keys = kMostTensors}, text);
}

}  // namespace

class MappedFile {
 public:
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::filesystem::path& path) {
    ASSIGN_OR_RETURN(const int fd, OpenFile(path));
    struct stat about = {};
    const bool known = fstat(fd, &about) == 0 && about.st_size >= 8;
    void* data =
        known ? mmap(nullptr, static_cast<size_t>(about.st_size), PROT_READ, MAP_PRIVATE, fd, 0)
              : MAP_FAILED;
    close(fd);
    if (data == MAP_FAILED) {
      return InvalidArgument("{}: is no safetensors file: it has {} bytes", path.string(),
                             about.st_size);
    }
    auto file = std::unique_ptr<MappedFile>(new MappedFile);
    file->name_ = path.string();
    file->data_ = static_cast<const uint8_t*>(data);
    file->size_ = static_cast<uint64_t>(about.st_size);
    file->named_.emplace(data, file->size_, file->name_);
    return file;
  }
  ~MappedFile() {
    named_.reset();
    munmap(const_cast<uint8_t*>(data_), size_);
  }

  const std::string& name() const { return name_; }
  const uint8_t* data() const { return data_; }
  uint64_t size() const { return size_; }
  void Drop() const { madvise(const_cast<uint8_t*>(data_), size_, MADV_DONTNEED); }

 private:
  MappedFile() = default;
  std::string name_;
  const uint8_t* data_ = nullptr;
  uint64_t size_ = 0;
  std::optional<NamedMapping> named_;
};

int64_t StoredTensor::elements() const {
  int64_t count = 1;
  for (const int64_t dim : shape) count *= dim;
  return count;
}

namespace {

struct Span {
  uint64_t begin = 0, end = 0;
};

// One entry of a header. `room`: bytes behind the header.
absl::StatusOr<StoredTensor> ParseEntry(const std::string& name, const json& entry, uint64_t room,
                                        Span& span) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
    return InvalidArgument("tensor {} lacks dtype, shape or data_offsets", name);
  }
  StoredTensor tensor;
  tensor.name = name;
  auto dtype = ParseDType(entry["dtype"].get<std::string>());
  if (!dtype.ok()) return Annotate(dtype.status(), "tensor " + name);
  tensor.dtype = *dtype;
  uint64_t bytes = BytesOf(tensor.dtype);
  if (entry["shape"].size() > 8)
    return InvalidArgument("tensor {} has more than 8 dimensions", name);
  for (const json& dim : entry["shape"]) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > room ||
        __builtin_mul_overflow(bytes, dim.get<uint64_t>(), &bytes)) {
      return InvalidArgument("tensor {} has the dimension {}, beyond its file", name, Excerpt(dim));
    }
    tensor.shape.push_back(dim.get<int64_t>());
  }
  for (const json& offset : entry["data_offsets"]) {
    if (!offset.is_number_unsigned()) return InvalidArgument("tensor {} has a wrong offset", name);
  }
  span = {entry["data_offsets"][0].get<uint64_t>(), entry["data_offsets"][1].get<uint64_t>()};
  if (span.begin > span.end || span.end > room) {
    return InvalidArgument("tensor {} lies at {}..{} of {} bytes", name, span.begin, span.end,
                           room);
  }
  if (span.end - span.begin != bytes) {
    return InvalidArgument("tensor {} has {} bytes; its shape needs {}", name,
                           span.end - span.begin, bytes);
  }
  return tensor;
}

absl::Status CheckOverlap(std::vector<std::pair<Span, std::string>>& spans) {
  std::sort(spans.begin(), spans.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.begin, a.first.end) < std::pair(b.first.begin, b.first.end);
  });
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first.begin < spans[i - 1].first.end) {
      return InvalidArgument("tensors {} and {} overlap", spans[i - 1].second, spans[i].second);
    }
  }
  return absl::OkStatus();
}

// The files that an index names.
absl::StatusOr<std::vector<std::string>> ShardNames(std::string_view text) {
  ASSIGN_OR_RETURN(const json parsed, ParseFlat(text));
  if (!parsed.is_object() || !parsed.contains("weight_map") || !parsed["weight_map"].is_object()) {
    return InvalidArgument("has no weight_map");
  }
  std::set<std::string> names;
  for (const auto& [tensor, shard] : parsed["weight_map"].items()) {
    const std::string name = shard.is_string() ? shard.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos) {
      return InvalidArgument("{} lies in the file '{}'", tensor, name);
    }
    names.insert(name);
  }
  if (names.size() > kMostShards) {
    return InvalidArgument("names {} files; the limit is {}", names.size(), kMostShards);
  }
  return std::vector<std::string>(names.begin(), names.end());
}

}  // namespace

Safetensors::Safetensors() = default;
Safetensors::Safetensors(Safetensors&&) noexcept = default;
Safetensors& Safetensors::operator=(Safetensors&&) noexcept = default;
Safetensors::~Safetensors() = default;

absl::StatusOr<Safetensors> Safetensors::Open(const std::filesystem::path& dir) {
  std::vector<std::string> names = {"model.safetensors"};
  const auto index = dir / "model.safetensors.index.json";
  std::error_code error;
  if (std::filesystem::symlink_status(dir / names[0], error).type() ==
      std::filesystem::file_type::not_found) {
    ASSIGN_OR_RETURN(const auto text, ReadFileIfThere(index, kMostIndexBytes));
    auto shards = text ? ShardNames(*text) : names;
    if (!shards.ok()) return Annotate(shards.status(), index.string());
    names = *std::move(shards);
  }
  Safetensors weights;
  for (const std::string& name : names) {
    const absl::Status status = weights.AddFile(dir / name);
    if (!status.ok()) return status;
  }
  return weights;
}

absl::Status Safetensors::AddFile(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
  RETURN_IF_ERROR(Annotate(AddTensors(*file), path.string()));
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Safetensors::AddTensors(const MappedFile& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  if (length > kMostHeaderBytes || length > file.size() - 8) {
    return InvalidArgument("the header has {} bytes; the file has {} and the limit is {}", length,
                           file.size(), kMostHeaderBytes);
  }
  const char* text = reinterpret_cast<const char*>(file.data()) + 8;
  auto parsed = ParseFlat({text, length});
  if (!parsed.ok()) return Annotate(parsed.status(), "the header");
  const json header = *std::move(parsed);
  if (!header.is_object()) return InvalidArgument("the header is no JSON object");
  const uint64_t room = file.size() - 8 - length;
  std::vector<std::pair<Span, std::string>> spans;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    if (name.size() > kMostNameBytes) {
      return InvalidArgument("a tensor's name has {} bytes; the limit is {}", name.size(),
                             kMostNameBytes);
    }
    Span span;
    ASSIGN_OR_RETURN(StoredTensor tensor, ParseEntry(name, entry, room, span));
    tensor.data = file.data() + 8 + length + span.begin;
    spans.emplace_back(span, name);
    if (!tensors_.emplace(name, std::move(tensor)).second) {
      return InvalidArgument("tensor {} is in two files", name);
    }
  }
  return CheckOverlap(spans);
}

absl::StatusOr<const StoredTensor*> Safetensors::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return NotFound("tensor {} is missing", name);
  return &found->second;
}

int64_t Safetensors::parameters() const {
  int64_t count = 0;
  for (const auto& [name, tensor] : tensors_) count += tensor.elements();
  return count;
}

absl::StatusOr<std::string> Safetensors::Hash(std::string_view words) const {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    return Internal("SHA-256 is not available");
  }
  EVP_DigestUpdate(context.get(), words.data(), words.size());
  for (const auto& file : files_) EVP_DigestUpdate(context.get(), file->data(), file->size());
  unsigned char digest[32];
  EVP_DigestFinal_ex(context.get(), digest, nullptr);
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

void Safetensors::DropPages() const {
  for (const auto& file : files_) file->Drop();
}

}  // namespace conclave::worker
