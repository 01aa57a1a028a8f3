#include "worker/text/post_processor.h"

#include <string>

#include "common/status.h"
#include "worker/text/tokenizer_json.h"

namespace conclave::worker {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostTokens = 64;

// One special token of a template: its ids stand under "special_tokens".
absl::Status AppendIds(const Json& processor, const std::string& path, const std::string& name,
                       std::vector<TokenId>& out) {
  const Json& ids = Member(Member(Member(processor, "special_tokens"), name.c_str()), "ids");
  if (!ids.is_array() || ids.size() > kMostTokens) {
    return InvalidArgument("{}.special_tokens.{}: has no ids", path, name);
  }
  for (const Json& id : ids) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX) {
      return InvalidArgument("{}.special_tokens.{}: {} is no id", path, name, id.dump());
    }
    out.push_back(id.get<TokenId>());
  }
  return absl::OkStatus();
}

absl::Status ReadTemplate(const Json& processor, const std::string& path,
                          std::vector<TokenId>& front, std::vector<TokenId>& back) {
  const Json& single = Member(processor, "single");
  if (!single.is_array() || single.size() > kMostTokens) {
    return InvalidArgument("{}.single: is not a list of at most {}", path, kMostTokens);
  }
  bool behind = false;
  for (size_t i = 0; i < single.size(); ++i) {
    const Json& special = Member(single[i], "SpecialToken");
    if (special.is_object()) {
      RETURN_IF_ERROR(AppendIds(processor, path, TextMember(special, "id"), behind ? back : front));
    } else if (Member(single[i], "Sequence").is_object() && !behind) {
      behind = true;
    } else {
      return InvalidArgument("{}.single[{}]: is neither a token nor the text", path, i);
    }
  }
  return behind ? absl::OkStatus() : InvalidArgument("{}.single: lacks the text", path);
}

}  // namespace

absl::Status ReadPostProcessor(const Json& node, std::vector<TokenId>& front,
                               std::vector<TokenId>& back) {
  int count = 0;
  bool templated = false;
  return ForEachStep(node, "post_processor", "processors", count,
                     [&](const Json& each, const std::string& path) -> absl::Status {
                       const std::string type = TypeOf(each);
                       if (type == "ByteLevel") return absl::OkStatus();  // Offsets only.
                       if (type != "TemplateProcessing" || templated) {
                         return Unimplemented("{}: {} is not supported", path, type);
                       }
                       templated = true;
                       return ReadTemplate(each, path, front, back);
                     });
}

}  // namespace conclave::worker
