#include "worker/text/chat_template.h"

#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "worker/text/json_text.h"
#include "worker/text/template_ast.h"
#include "worker/text/template_interpreter.h"
#include "worker/text/template_json.h"

namespace conclave::worker {
namespace {

constexpr size_t kMaxConfigBytes = size_t{16} << 20;

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
  if (const auto* text = std::get_if<std::string>(&variable)) return TemplateValue::Of(*text);
  if (const bool* flag = std::get_if<bool>(&variable)) return TemplateValue(*flag);
  if (const int64_t* number = std::get_if<int64_t>(&variable)) return TemplateValue(*number);
  return TemplateValue(std::get<double>(variable));
}

// Whether a role is a plain word, which can be no token that steers the model.
bool PlainWord(const nlohmann::ordered_json& role) {
  if (!role.is_string()) return false;
  const auto& text = role.get_ref<const std::string&>();
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
}

TemplateValue MessageValue(const nlohmann::ordered_json& message) {
  std::vector<std::pair<TemplateValue, TemplateValue>> items;
  for (const auto& [key, value] : message.items()) {
    const bool ours = key == "role" && PlainWord(value);
    items.emplace_back(TemplateValue(MarkedString::Caller(key)),
                       TemplateFromJson(value, ours ? Author::kTemplate : Author::kCaller));
  }
  return TemplateValue::Dict(std::move(items));
}

}  // namespace

struct ChatTemplate::Program {
  std::string name, source, bos_token, eos_token;
  std::vector<TemplateNode> nodes;

  absl::StatusOr<MarkedString> Render(std::map<std::string, TemplateValue> globals,
                                      int64_t time_of_day, const TemplateLimits& limits) const {
    globals.try_emplace("bos_token", TemplateValue::Of(bos_token));
    globals.try_emplace("eos_token", TemplateValue::Of(eos_token));
    auto text = InterpretTemplate(nodes, std::move(globals), time_of_day, limits);
    if (!text.ok()) return Annotate(text.status(), name);
    return text;
  }
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
  ASSIGN_OR_RETURN(const auto config_text, ReadFileIfThere(config_path, kMaxConfigBytes));
  if (config_text) {
    ASSIGN_OR_RETURN(config, ParseJson(*config_text, config_path.string()));
  }
  const std::string bos = TokenText(config, "bos_token"), eos = TokenText(config, "eos_token");
  const auto own = dir / "chat_template.jinja";
  ASSIGN_OR_RETURN(auto own_source, ReadFileIfThere(own, kMaxSourceBytes));
  if (own_source) return Parse(*std::move(own_source), own.string(), bos, eos);
  const auto wrapped = dir / "chat_template.json";
  ASSIGN_OR_RETURN(const auto wrapped_text, ReadFileIfThere(wrapped, kMaxConfigBytes));
  if (wrapped_text) {
    ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(*wrapped_text, wrapped.string()));
    return Parse(TemplateOf(json), wrapped.string(), bos, eos);
  }
  std::string source = TemplateOf(config);
  if (source.empty()) {
    return NotFound(
        "{} has no chat template: none in chat_template.jinja, chat_template.json and "
        "tokenizer_config.json. A base model has none: {{{{ messages[-1].content }}}} in "
        "chat_template.jinja asks it to go on with the question's text",
        dir.string());
  }
  return Parse(std::move(source), config_path.string(), bos, eos);
}

absl::StatusOr<MarkedString> ChatTemplate::Render(const TemplateInput& input,
                                                  const TemplateLimits& limits) const {
  TemplateItems messages;
  for (const Message& message : input.messages) {
    messages.push_back(TemplateValue::Dict(
        {{TemplateValue::Of("role"), TemplateValue::Of(RoleName(message.role))},
         {TemplateValue::Of("content"), TemplateValue(MarkedString::Caller(TextOf(message)))}}));
  }
  std::map<std::string, TemplateValue> globals;
  globals["messages"] = TemplateValue::List(std::move(messages));
  globals["add_generation_prompt"] = TemplateValue(input.add_generation_prompt);
  for (const auto& [name, variable] : input.variables) globals[name] = ToValue(variable);
  return program_->Render(std::move(globals), input.time_of_day, limits);
}

absl::StatusOr<MarkedString> ChatTemplate::RenderJson(const nlohmann::ordered_json& variables,
                                                      int64_t time_of_day,
                                                      const TemplateLimits& limits) const {
  if (!variables.is_object()) return InvalidArgument("the variables are not an object");
  std::map<std::string, TemplateValue> globals;
  for (const auto& [name, value] : variables.items()) {
    if (name != "messages" || !value.is_array()) {
      globals[name] = TemplateFromJson(value, Author::kCaller);
      continue;
    }
    TemplateItems messages;
    for (const auto& each : value) {
      messages.push_back(each.is_object() ? MessageValue(each)
                                          : TemplateFromJson(each, Author::kCaller));
    }
    globals[name] = TemplateValue::List(std::move(messages));
  }
  return program_->Render(std::move(globals), time_of_day, limits);
}

const std::string& ChatTemplate::source() const { return program_->source; }
const std::string& ChatTemplate::bos_token() const { return program_->bos_token; }
const std::string& ChatTemplate::eos_token() const { return program_->eos_token; }

}  // namespace conclave::worker
