#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/chat.h"
#include "worker/text/marked_string.h"

namespace conclave::worker {

// A variable that the profile or the caller gives to a template, such as enable_thinking = false.
using TemplateVariable = std::variant<bool, int64_t, double, std::string>;

// What a template sees of a conversation.
struct TemplateInput {
  std::vector<Message> messages;  // Their texts are marked as the caller's.
  bool add_generation_prompt = true;
  std::map<std::string, TemplateVariable> variables;  // Written by the template's side.
  int64_t time_of_day = 0;  // Seconds since 1970, shown as UTC by strftime_now.
};

// What one rendering may cost. Beyond it: kResourceExhausted.
struct TemplateLimits {
  int64_t steps = 4'000'000;  // Evaluated nodes, elements made, and one for every 64 bytes moved.
  int depth = 400;            // Nested calls, blocks and expressions.
  size_t output_bytes = size_t{8} << 20;  // Also of each string and, in elements, each list.
};

// A model's chat template: the part of Jinja that models use, interpreted on marked strings, with
// the settings that Hugging Face renders with (trim_blocks, lstrip_blocks). Immutable, so any
// thread may use it; cheap to copy.
class ChatTemplate {
 public:
  static constexpr size_t kMaxSourceBytes = size_t{1} << 20;

  // The template of a model's folder: chat_template.jinja, else chat_template.json, else
  // tokenizer_config.json (a string, or a list of named ones: "default"). bos_token and eos_token
  // are tokenizer_config.json's. kNotFound when the model has none.
  static absl::StatusOr<ChatTemplate> Load(const std::filesystem::path& dir);
  // `name` stands in errors. kInvalidArgument: "name:line: what is wrong".
  static absl::StatusOr<ChatTemplate> Parse(std::string source, const std::string& name,
                                            std::string bos_token = "", std::string eos_token = "");

  // kInvalidArgument: the template raised an exception or cannot take these messages (name, line
  // and reason in the message); kResourceExhausted: a limit.
  absl::StatusOr<MarkedString> Render(const TemplateInput& input,
                                      const TemplateLimits& limits = {}) const;
  // The same over variables of a caller's JSON: messages of any form, tools, documents. Every text
  // in it is the caller's, but for the role of a message if it is a plain word.
  absl::StatusOr<MarkedString> RenderJson(const nlohmann::ordered_json& variables,
                                          int64_t time_of_day,
                                          const TemplateLimits& limits = {}) const;
  const std::string& source() const;
  const std::string& bos_token() const;
  const std::string& eos_token() const;

 private:
  struct Program;
  explicit ChatTemplate(std::shared_ptr<const Program> program);
  std::shared_ptr<const Program> program_;  // Shared by copies: parsed once, never changed.
};

}  // namespace conclave::worker
