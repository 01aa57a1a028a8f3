#include "worker/text/generation_config.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "worker/text/json_text.h"

namespace conclave::worker {
namespace {

constexpr size_t kMostBytes = size_t{1} << 20;
constexpr size_t kMostEndTokens = 256;
constexpr int kMostTopK = 1024;

// One file's members; errors begin with its name.
class Reader {
 public:
  Reader(const nlohmann::json& json, const std::string& name) : json_(json), name_(name) {}

  // `least_open`: the least itself is not allowed; so for the most.
  absl::Status Number(const char* key, float least, float most, float& out, bool least_open = false,
                      bool most_open = false) const {
    const nlohmann::json& value = Member(json_, key);
    if (value.is_null()) return absl::OkStatus();
    const double exact = value.is_number() ? value.get<double>() : 0;
    const auto number = static_cast<float>(std::clamp(exact, least - 1.0, most + 1.0));
    const bool low = least_open ? number > least : number >= least;
    const bool high = most_open ? number < most : number <= most;
    if (!value.is_number() || !low || !high) {
      return Wrong(key, value,
                   fmt::format("{} {}, {} {}", least_open ? "above" : "at least", least,
                               most_open ? "below" : "at most", most));
    }
    out = number;
    return absl::OkStatus();
  }

  // -1 is another word for 0: all tokens.
  absl::Status TopK(int& out) const {
    const nlohmann::json& value = Member(json_, "top_k");
    if (value.is_null()) return absl::OkStatus();
    if (!IsWhole(value, -1, kMostTopK)) {
      return Wrong("top_k", value, fmt::format("a whole number, 0 to {}", kMostTopK));
    }
    out = std::max(0, value.get<int>());
    return absl::OkStatus();
  }

  // One id or a list of them.
  absl::Status EndTokens(std::vector<TokenId>& out) const {
    const nlohmann::json& value = Member(json_, "eos_token_id");
    if (value.is_null()) return absl::OkStatus();
    const nlohmann::json list = value.is_array() ? value : nlohmann::json::array({value});
    if (list.size() > kMostEndTokens) {
      return InvalidArgument("{}: eos_token_id has {} entries; the limit is {}", name_, list.size(),
                             kMostEndTokens);
    }
    constexpr TokenId kMost = std::numeric_limits<TokenId>::max();
    std::set<TokenId> ids;
    for (const nlohmann::json& id : list) {
      if (!IsWhole(id, 0, kMost)) {
        return Wrong("eos_token_id", id, fmt::format("token ids, 0 to {}", kMost));
      }
      ids.insert(id.get<TokenId>());
    }
    out.assign(ids.begin(), ids.end());
    return absl::OkStatus();
  }

  absl::Status Flag(const char* key, bool& out) const {
    const nlohmann::json& value = Member(json_, key);
    if (value.is_null()) return absl::OkStatus();
    if (!value.is_boolean()) return Wrong(key, value, "true or false");
    out = value.get<bool>();
    return absl::OkStatus();
  }

 private:
  static bool IsWhole(const nlohmann::json& value, int64_t least, int64_t most) {
    if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(most);
    return value.is_number_integer() && value.get<int64_t>() >= least &&
           value.get<int64_t>() <= most;
  }
  absl::Status Wrong(const char* key, const nlohmann::json& value, const std::string& limit) const {
    const std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return InvalidArgument("{}: {} is {:.80}; it can be {}", name_, key, text, limit);
  }

  const nlohmann::json& json_;
  const std::string& name_;
};

}  // namespace

absl::StatusOr<GenerationConfig> ParseGenerationConfig(std::string_view json,
                                                       const std::string& name) {
  ASSIGN_OR_RETURN(const nlohmann::json parsed, ParseJson(json, name));
  if (!parsed.is_object()) return InvalidArgument("{}: is no object", name);
  const Reader reader(parsed, name);
  GenerationConfig config;
  config.source = json;
  Sampling& sampling = config.sampling;
  bool sampled = true;
  RETURN_IF_ERROR(reader.EndTokens(config.end_tokens));
  RETURN_IF_ERROR(reader.Number("temperature", 0, 100, sampling.temperature));
  RETURN_IF_ERROR(reader.Number("top_p", 0, 1, sampling.top_p, /*least_open=*/true));
  RETURN_IF_ERROR(reader.Number("min_p", 0, 1, sampling.min_p, false, /*most_open=*/true));
  RETURN_IF_ERROR(reader.Number("repetition_penalty", 0, 10, sampling.repetition_penalty,
                                /*least_open=*/true));
  RETURN_IF_ERROR(reader.TopK(sampling.top_k));
  RETURN_IF_ERROR(reader.Flag("do_sample", sampled));
  if (!sampled) sampling.temperature = 0;
  return config;
}

absl::StatusOr<GenerationConfig> LoadGenerationConfig(const std::filesystem::path& dir) {
  constexpr char kName[] = "generation_config.json";
  ASSIGN_OR_RETURN(const auto text, ReadFileIfThere(dir / kName, kMostBytes));
  return text ? ParseGenerationConfig(*text, kName) : GenerationConfig{};
}

}  // namespace conclave::worker
