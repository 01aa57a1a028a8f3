#include "worker/text/chat_template.h"

#include <utility>

#include "common/status.h"
#include "worker/text/json_text.h"
#include "worker/text/template_ast.h"
#include "worker/text/template_interpreter.h"

namespace conclave::worker {
namespace {

const char* RoleName(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    default:
      return "assistant";
  }
}

// A member that is a text, or an added token's object with its content.
std::string TokenText(const nlohmann::json& config, const char* key) {
  const nlohmann::json& member = Member(config, key);
  return member.is_object() ? TextMember(member, "content") : TextMember(config, key);
}

// The template among tokenizer_config.json's: a text, or the one named "default" of a list.
std::string TemplateOf(const nlohmann::json& config) {
  const nlohmann::json& member = Member(config, "chat_template");
  if (!member.is_array()) return TextMember(config, "chat_template");
  for (const nlohmann::json& each : member) {
    if (TextMember(each, "name") == "default") return TextMember(each, "template");
  }
  return "";
}

TemplateValue ToValue(const TemplateVariable& variable) {
  if (const auto* text = std::get_if<std::string>(&variable)) return TemplateValue::Text(*text);
  if (const bool* flag = std::get_if<bool>(&variable)) return TemplateValue(*flag);
  if (const int64_t* number = std::get_if<int64_t>(&variable)) return TemplateValue(*number);
  return TemplateValue(std::get<double>(variable));
}

}  // namespace

struct ChatTemplate::Program {
  std::string name, source, bos_token, eos_token;
  std::vector<TemplateNode> nodes;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string source, const std::string& name,
                                                 std::string bos_token, std::string eos_token) {
  if (source.size() > kMaxSourceBytes) {
    return InvalidArgument("{}: the template has {} bytes; the limit is {}", name, source.size(),
                           kMaxSourceBytes);
  }
  auto nodes = ParseTemplate(source);
  if (!nodes.ok()) return Annotate(nodes.status(), name);
  auto program = std::make_shared<Program>();
  program->name = name;
  program->source = std::move(source);
  program->bos_token = std::move(bos_token);
  program->eos_token = std::move(eos_token);
  program->nodes = *std::move(nodes);
  return ChatTemplate(std::move(program));
}

absl::StatusOr<ChatTemplate> ChatTemplate::Load(const std::filesystem::path& dir) {
  const auto config_path = dir / "tokenizer_config.json";
  nlohmann::json config;
  if (const auto text = ReadFile(config_path, size_t{16} << 20); text.ok()) {
    ASSIGN_OR_RETURN(config, ParseJson(*text, config_path.string()));
  }
  const std::string bos = TokenText(config, "bos_token"), eos = TokenText(config, "eos_token");
  const auto own = dir / "chat_template.jinja";
  std::error_code error;
  if (std::filesystem::exists(own, error)) {
    ASSIGN_OR_RETURN(std::string source, ReadFile(own, kMaxSourceBytes));
    return Parse(std::move(source), own.string(), bos, eos);
  }
  const auto wrapped = dir / "chat_template.json";
  if (std::filesystem::exists(wrapped, error)) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(wrapped, size_t{16} << 20));
    ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, wrapped.string()));
    return Parse(TemplateOf(json), wrapped.string(), bos, eos);
  }
  std::string source = TemplateOf(config);
  if (source.empty()) return NotFound("{} has no chat template", dir.string());
  return Parse(std::move(source), config_path.string(), bos, eos);
}

absl::StatusOr<MarkedString> ChatTemplate::Render(const TemplateInput& input,
                                                  const TemplateLimits& limits) const {
  TemplateList messages;
  for (const Message& message : input.messages) {
    messages.push_back(TemplateValue::Dict(
        {{MarkedString::Template("role"), TemplateValue::Text(RoleName(message.role))},
         {MarkedString::Template("content"),
          TemplateValue(MarkedString::Caller(TextOf(message)))}}));
  }
  std::map<std::string, TemplateValue> globals;
  globals["messages"] = TemplateValue::List(std::move(messages));
  globals["add_generation_prompt"] = TemplateValue(input.add_generation_prompt);
  globals["bos_token"] = TemplateValue::Text(program_->bos_token);
  globals["eos_token"] = TemplateValue::Text(program_->eos_token);
  for (const auto& [name, variable] : input.variables) globals[name] = ToValue(variable);
  auto text = InterpretTemplate(program_->nodes, std::move(globals), input.time_of_day, limits);
  if (!text.ok()) return Annotate(text.status(), program_->name);
  return text;
}

const std::string& ChatTemplate::source() const { return program_->source; }
const std::string& ChatTemplate::bos_token() const { return program_->bos_token; }
const std::string& ChatTemplate::eos_token() const { return program_->eos_token; }

}  // namespace conclave::worker
