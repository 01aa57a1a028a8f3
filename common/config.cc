#include "common/config.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "common/config_text.h"
#include "common/config_value.h"
#include "common/plain_text.h"
#include "common/status.h"

namespace conclave {
namespace {

using Kind = ConfigValue::Kind;

constexpr size_t kMostBytes = 1 << 20;

const char* WordOf(Kind kind) {
  switch (kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return "a single value";
    case Kind::kMap:
      return "keys";
    case Kind::kList:
      return "a list";
  }
  return "";
}

// What is wrong with `value`; empty when it lies within the range.
template <typename T, typename R>
std::string OutsideOf(const std::string& text, T value, R range, const char* unit) {
  if (value >= range.least && value <= range.most) return {};
  return fmt::format("\"{}\" is out of range; it can be {} to {}{}{}", text,
                     ShowValue(T(range.least)), ShowValue(T(range.most)), *unit == '\0' ? "" : " ",
                     unit);
}

}  // namespace

std::string ConfigNode::PathOf(std::string_view key) const {
  return key.empty() ? path_ : JoinPath(path_, key);
}

void ConfigNode::FailAt(const ConfigValue& at, std::string_view key, std::string_view what) {
  errors_->unread.insert(PathOf(key));
  errors_->Add(at.place, PathOf(key), what);
}

void ConfigNode::Fail(std::string_view key, std::string_view what) {
  const std::string path = PathOf(key);
  // The target holds a default that nobody wrote: what is said about it would mislead.
  if (errors_->unread.contains(path)) return;
  const ConfigValue* value = key.empty() ? value_ : Find(key);
  if (value == nullptr) value = value_;
  errors_->Add(value == nullptr ? ConfigPlace{.text = errors_->name} : value->place, path, what);
}

const ConfigValue* ConfigNode::Find(std::string_view key) {
  errors_->known_paths.insert(AnyIndex(PathOf(key)));
  if (value_ == nullptr) return nullptr;
  if (std::find(value_->known.begin(), value_->known.end(), key) == value_->known.end()) {
    value_->known.emplace_back(key);
  }
  for (const auto& [name, child] : value_->entries) {
    if (name == key) return child.get();
  }
  return nullptr;
}

const ConfigValue* ConfigNode::Scalar(std::string_view key, std::string_view expected) {
  const ConfigValue* value = Find(key);
  if (value == nullptr) return nullptr;
  if (value->kind == Kind::kScalar) return value;
  FailAt(*value, key, fmt::format("needs {}; it has {}", expected, WordOf(value->kind)));
  return nullptr;
}

bool ConfigNode::Has(std::string_view key) {
  const ConfigValue* value = Find(key);
  return value != nullptr && value->kind != Kind::kNull;
}

void ConfigNode::Read(std::string_view key, bool* target) {
  const ConfigValue* value = Scalar(key, "true or false");
  if (value == nullptr) return;
  if (value->text != "true" && value->text != "false") {
    return FailAt(*value, key, fmt::format("\"{}\" is neither true nor false", value->text));
  }
  *target = value->text == "true";
}

void ConfigNode::Read(std::string_view key, std::string* target) {
  if (const ConfigValue* value = Scalar(key, "a text")) *target = value->text;
}

void ConfigNode::Read(std::string_view key, std::vector<std::string>* target) {
  const ConfigValue* value = Find(key);
  if (value == nullptr) return;
  if (value->kind != Kind::kList) {
    return FailAt(*value, key,
                  fmt::format("needs a list of texts, as [a, b]; it has {}", WordOf(value->kind)));
  }
  std::vector<std::string> texts;
  for (const auto& item : value->items) {
    if (item->kind != Kind::kScalar) {
      return FailAt(*item, key,
                    fmt::format("needs a list of texts; one has {}", WordOf(item->kind)));
    }
    texts.push_back(item->text);
  }
  *target = std::move(texts);
}

template <typename T, typename R>
void ConfigNode::ReadParsed(std::string_view key, const char* expected,
                            ParsedText (*parse)(const std::string&, T*), R range, T* target) {
  const ConfigValue* value = Scalar(key, expected);
  if (value == nullptr) return;
  T parsed{};
  if (const ParsedText result = parse(value->text, &parsed); !result.ok) {
    return FailAt(*value, key, fmt::format("\"{}\" {}", value->text, result.wrong));
  }
  const std::string wrong = OutsideOf(value->text, parsed, range, range.unit);
  if (!wrong.empty()) return FailAt(*value, key, wrong);
  *target = parsed;
}

void ConfigNode::Read(std::string_view key, int64_t* target, Range<int64_t> range) {
  ReadParsed(key, "a whole number", ParseWhole, range, target);
}

void ConfigNode::Read(std::string_view key, int* target, Range<int> range) {
  int64_t number = *target;
  Read(key, &number, Range<int64_t>{range.least, range.most, range.unit});
  *target = static_cast<int>(number);
}

void ConfigNode::Read(std::string_view key, double* target, Range<double> range) {
  ReadParsed(key, "a number", ParseReal, range, target);
}

void ConfigNode::Read(std::string_view key, float* target, Range<float> range) {
  double number = *target;
  // As people write the bounds: 0.999, not the nearest float's 0.9990000128746033.
  const auto bound = [](float value) { return std::stod(fmt::to_string(value)); };
  Read(key, &number, Range<double>{bound(range.least), bound(range.most), range.unit});
  *target = static_cast<float>(number);
}

void ConfigNode::Read(std::string_view key, absl::Duration* target, Range<absl::Duration> range) {
  ReadParsed(key, "a duration, as \"5s\"", ParseLength, range, target);
}

void ConfigNode::Read(std::string_view key, ByteSize* target, Range<ByteSize> range) {
  ReadParsed(key, "a size, as \"64MiB\"", ParseSize, range, target);
}

int ConfigNode::ReadWord(std::string_view key, const std::vector<std::string_view>& words) {
  const std::string expected = fmt::format("one of {}", fmt::join(words, ", "));
  const ConfigValue* value = Scalar(key, expected);
  if (value == nullptr) return -1;
  const auto found = std::find(words.begin(), words.end(), value->text);
  if (found != words.end()) return static_cast<int>(found - words.begin());
  const std::string nearest =
      NearestWord(value->text, std::vector<std::string>(words.begin(), words.end()));
  FailAt(*value, key,
         fmt::format("\"{}\" is not {}{}", value->text, expected,
                     nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest)));
  return -1;
}

ConfigNode ConfigNode::Section(std::string_view key) {
  const ConfigValue* value = Find(key);
  if (value != nullptr && value->kind != Kind::kMap) {
    if (value->kind != Kind::kNull) {
      FailAt(*value, key, fmt::format("needs keys under it; it has {}", WordOf(value->kind)));
    }
    value = nullptr;
  }
  return ConfigNode(const_cast<ConfigValue*>(value), errors_, PathOf(key));
}

std::vector<ConfigNode> ConfigNode::Items(std::string_view key, int most) {
  std::vector<ConfigNode> nodes;
  const ConfigValue* value = Find(key);
  if (value == nullptr || value->kind == Kind::kNull) return nodes;
  if (value->kind != Kind::kList) {
    FailAt(*value, key, fmt::format("needs a list; it has {}", WordOf(value->kind)));
    return nodes;
  }
  if (value->items.size() > static_cast<size_t>(most)) {
    FailAt(*value, key, fmt::format("has {} entries; the limit is {}", value->items.size(), most));
    return nodes;
  }
  for (size_t i = 0; i < value->items.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", key, i);
    if (value->items[i]->kind != Kind::kMap) {
      FailAt(*value->items[i], name,
             fmt::format("needs keys under it; it has {}", WordOf(value->items[i]->kind)));
      continue;
    }
    nodes.push_back(ConfigNode(value->items[i].get(), errors_, PathOf(name)));
  }
  return nodes;
}

Config::Config(std::unique_ptr<ConfigValue> root, std::unique_ptr<ConfigErrors> errors)
    : root_(std::move(root)), errors_(std::move(errors)) {}
Config::Config(Config&&) noexcept = default;
Config& Config::operator=(Config&&) noexcept = default;
Config::~Config() = default;

absl::StatusOr<Config> Config::Load(const std::string& path,
                                    const std::vector<std::string>& overrides) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound("{}: cannot be opened", path);
  std::string text(kMostBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return NotFound("{}: cannot be read; is it a folder?", path);
  text.resize(static_cast<size_t>(file.gcount()));
  return Parse(text, path, overrides);
}

absl::StatusOr<Config> Config::Parse(const std::string& text, const std::string& name,
                                     const std::vector<std::string>& overrides) {
  if (text.size() > kMostBytes) return InvalidArgument("{}: more than {} bytes", name, kMostBytes);
  auto errors = std::make_unique<ConfigErrors>();
  errors->name = name;
  ASSIGN_OR_RETURN(auto root, BuildConfig(text, name, *errors));
  for (const std::string& setting : overrides) OverrideConfig(*root, setting, *errors);
  return Config(std::move(root), std::move(errors));
}

ConfigNode Config::root() { return ConfigNode(root_.get(), errors_.get(), ""); }

std::vector<std::string> Config::keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, unused] : root_->entries) keys.push_back(key);
  return keys;
}

absl::Status Config::Finish() {
  AddUnknownKeys(*root_, "", *errors_);
  return errors_->Status();
}

std::string ComplaintText(const std::string& program, const absl::Status& status) {
  std::string text;
  std::istringstream lines{PlainText(MessageOf(status))};
  for (std::string line; std::getline(lines, line);) {
    text += fmt::format("{}: {}\n", program, line);
  }
  return text;
}

}  // namespace conclave
