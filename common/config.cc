#include "common/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>

#include "common/status.h"

namespace conclave {

// The document in our own form: yaml-cpp stays in this file, and an override can say that it came
// from the command line.
struct ConfigValue {
  enum class Kind { kNull, kScalar, kMap, kList };

  Kind kind = Kind::kNull;
  std::string text;
  std::string origin;  // "file:line:column", or the override.
  std::vector<std::pair<std::string, std::unique_ptr<ConfigValue>>> entries;  // kMap
  std::vector<std::string> key_origins;             // kMap, beside entries.
  std::vector<std::unique_ptr<ConfigValue>> items;  // kList
  std::vector<std::string> known;                   // Keys that were read.
};

struct ConfigErrors {
  std::string name;  // The document's, for complaints about what is absent.
  absl::Status first;
};

namespace {

using Kind = ConfigValue::Kind;

constexpr int kMostNodes = 20'000;
constexpr int kMostDepth = 32;
constexpr size_t kMostBytes = 1 << 20;

std::string Join(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

std::string Place(const std::string& name, const YAML::Mark& mark) {
  return fmt::format("{}:{}:{}", name, mark.line + 1, mark.column + 1);
}

// Turns YAML nodes into values. `place` says where a mark lies.
class Builder {
 public:
  explicit Builder(std::string name, bool from_file)
      : name_(std::move(name)), from_file_(from_file) {}

  // `path` is where the value stands, for messages.
  absl::StatusOr<std::unique_ptr<ConfigValue>> Build(const YAML::Node& node,
                                                     const std::string& path, int depth) {
    auto value = std::make_unique<ConfigValue>();
    value->origin = PlaceOf(node);
    // Aliases are expanded here, so the count also stops a document that refers to itself many
    // times over.
    if (++nodes_ > kMostNodes) return InvalidArgument("{}: more than {} values", name_, kMostNodes);
    if (depth > kMostDepth) {
      return InvalidArgument("{}: {}: nested more than {} deep", value->origin, path, kMostDepth);
    }
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        break;
      case YAML::NodeType::Scalar:
        value->kind = Kind::kScalar;
        value->text = node.Scalar();
        break;
      case YAML::NodeType::Sequence:
        RETURN_IF_ERROR(BuildList(node, path, depth, *value));
        break;
      case YAML::NodeType::Map:
        RETURN_IF_ERROR(BuildMap(node, path, depth, *value));
        break;
    }
    return value;
  }

 private:
  std::string PlaceOf(const YAML::Node& node) const {
    return from_file_ ? Place(name_, node.Mark()) : name_;
  }

  absl::Status BuildList(const YAML::Node& node, const std::string& path, int depth,
                         ConfigValue& value) {
    value.kind = Kind::kList;
    for (size_t i = 0; i < node.size(); ++i) {
      ASSIGN_OR_RETURN(auto item, Build(node[i], fmt::format("{}[{}]", path, i), depth + 1));
      value.items.push_back(std::move(item));
    }
    return absl::OkStatus();
  }

  absl::Status BuildMap(const YAML::Node& node, const std::string& path, int depth,
                        ConfigValue& value) {
    value.kind = Kind::kMap;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        return InvalidArgument("{}: {}: a key must be a word", PlaceOf(entry.first), path);
      }
      const std::string key = entry.first.Scalar();
      for (const auto& [other, unused] : value.entries) {
        if (other == key) {
          return InvalidArgument("{}: {}: the key is there twice", PlaceOf(entry.first),
                                 Join(path, key));
        }
      }
      ASSIGN_OR_RETURN(auto child, Build(entry.second, Join(path, key), depth + 1));
      value.entries.emplace_back(key, std::move(child));
      value.key_origins.push_back(PlaceOf(entry.first));
    }
    return absl::OkStatus();
  }

  const std::string name_;
  const bool from_file_;
  int nodes_ = 0;
};

absl::StatusOr<std::unique_ptr<ConfigValue>> BuildDocument(const std::string& text,
                                                           const std::string& name,
                                                           bool from_file) {
  try {
    return Builder(name, from_file).Build(YAML::Load(text), "", 0);
  } catch (const YAML::Exception& error) {
    if (!from_file) return InvalidArgument("{}: {}", name, error.msg);
    return InvalidArgument("{}: {}", Place(name, error.mark), error.msg);
  }
}

// The place for `key` under `value`, made when it is not there. Null: `value` cannot hold it.
std::unique_ptr<ConfigValue>* Slot(ConfigValue& value, const std::string& key,
                                   const std::string& origin) {
  if (value.kind == Kind::kList) {
    size_t index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    if (error != std::errc() || end != key.data() + key.size() || index >= value.items.size())
      return nullptr;
    return &value.items[index];
  }
  if (value.kind == Kind::kScalar) return nullptr;
  value.kind = Kind::kMap;
  for (auto& [name, child] : value.entries) {
    if (name == key) return &child;
  }
  value.entries.emplace_back(key, std::make_unique<ConfigValue>());
  value.entries.back().second->origin = origin;
  value.key_origins.push_back(origin);
  return &value.entries.back().second;
}

// Lays one "a.b=value" over the document.
absl::Status Override(ConfigValue& root, const std::string& setting) {
  const std::string origin = fmt::format("--set {}", setting);
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0)
    return InvalidArgument("{}: needs the form key=value", origin);
  ASSIGN_OR_RETURN(auto value, BuildDocument(setting.substr(equals + 1), origin, false));

  ConfigValue* node = &root;
  std::unique_ptr<ConfigValue>* slot = nullptr;
  std::istringstream path(setting.substr(0, equals));
  for (std::string key; std::getline(path, key, '.');) {
    slot = key.empty() ? nullptr : Slot(*node, key, origin);
    if (slot == nullptr) return InvalidArgument("{}: there is no place \"{}\"", origin, key);
    node = slot->get();
  }
  *slot = std::move(value);
  return absl::OkStatus();
}

template <typename T>
bool ParseWhole(const std::string& text, T* number) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stopped == end && !text.empty();
}

bool ParseByteSize(const std::string& text, ByteSize* size) {
  static constexpr std::pair<std::string_view, int64_t> kUnits[] = {
      {"", 1},          {"B", 1},         {"kB", 1000},    {"MB", 1000'000}, {"GB", 1000'000'000},
      {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  int64_t number = 0;
  if (!ParseWhole(text.substr(0, digits), &number)) return false;
  std::string_view unit = std::string_view(text).substr(digits);
  if (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  for (const auto& [name, factor] : kUnits) {
    if (unit == name) return !__builtin_mul_overflow(number, factor, &size->bytes);
  }
  return false;
}

std::string Show(int64_t number) { return fmt::to_string(number); }
std::string Show(double number) { return fmt::to_string(number); }
std::string Show(absl::Duration duration) { return absl::FormatDuration(duration); }
std::string Show(ByteSize size) { return fmt::format("{}", size.bytes); }

// What is wrong with `value`; empty when it lies within the range.
template <typename T>
std::string OutsideOf(const std::string& text, T value, T least, T most) {
  if (value >= least && value <= most) return {};
  return fmt::format("\"{}\" is out of range; {} to {} is allowed", text, Show(least), Show(most));
}

absl::Status UnknownKeys(const ConfigValue& value, const std::string& path) {
  for (size_t i = 0; i < value.entries.size(); ++i) {
    const auto& [key, child] = value.entries[i];
    if (std::find(value.known.begin(), value.known.end(), key) == value.known.end()) {
      const std::string nearest = NearestWord(key, value.known);
      return InvalidArgument("{}: {}: unknown key{}", value.key_origins[i], Join(path, key),
                             nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest));
    }
    // A mapping whose keys nobody asked for was read as a whole, or complained about.
    if (!child->known.empty() || child->kind == Kind::kList)
      RETURN_IF_ERROR(UnknownKeys(*child, Join(path, key)));
  }
  for (size_t i = 0; i < value.items.size(); ++i) {
    RETURN_IF_ERROR(UnknownKeys(*value.items[i], fmt::format("{}[{}]", path, i)));
  }
  return absl::OkStatus();
}

int EditDistance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row.back();
}

}  // namespace

std::string NearestWord(std::string_view word, const std::vector<std::string>& known) {
  std::string nearest;
  int least = static_cast<int>(std::max<size_t>(2, word.size() / 3)) + 1;
  for (const std::string& candidate : known) {
    const int distance = EditDistance(word, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

std::string ConfigNode::PathOf(std::string_view key) const {
  return key.empty() ? path_ : Join(path_, key);
}

void ConfigNode::FailAt(const ConfigValue& at, std::string_view key, std::string_view what) {
  if (!errors_->first.ok()) return;
  errors_->first = InvalidArgument("{}: {}: {}", at.origin, PathOf(key), what);
}

void ConfigNode::Fail(std::string_view key, std::string_view what) {
  const ConfigValue* value = key.empty() ? value_ : Find(key);
  if (value == nullptr) value = value_;
  if (value != nullptr) return FailAt(*value, key, what);
  if (errors_->first.ok()) {
    errors_->first = InvalidArgument("{}: {}: {}", errors_->name, PathOf(key), what);
  }
}

const ConfigValue* ConfigNode::Find(std::string_view key) {
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
  FailAt(*value, key, fmt::format("needs {}", expected));
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
  if (value->kind != Kind::kList) return FailAt(*value, key, "needs a list of texts");
  std::vector<std::string> texts;
  for (const auto& item : value->items) {
    if (item->kind != Kind::kScalar) return FailAt(*item, key, "needs a list of texts");
    texts.push_back(item->text);
  }
  *target = std::move(texts);
}

void ConfigNode::Read(std::string_view key, int64_t* target, Range<int64_t> range) {
  const ConfigValue* value = Scalar(key, "a whole number");
  if (value == nullptr) return;
  int64_t number = 0;
  if (!ParseWhole(value->text, &number)) {
    return FailAt(*value, key, fmt::format("\"{}\" is not a whole number", value->text));
  }
  const std::string wrong = OutsideOf(value->text, number, range.least, range.most);
  if (!wrong.empty()) return FailAt(*value, key, wrong);
  *target = number;
}

void ConfigNode::Read(std::string_view key, int* target, Range<int> range) {
  int64_t number = *target;
  Read(key, &number, Range<int64_t>{range.least, range.most});
  *target = static_cast<int>(number);
}

void ConfigNode::Read(std::string_view key, double* target, Range<double> range) {
  const ConfigValue* value = Scalar(key, "a number");
  if (value == nullptr) return;
  double number = 0;
  if (!ParseWhole(value->text, &number) || !std::isfinite(number)) {
    return FailAt(*value, key, fmt::format("\"{}\" is not a number", value->text));
  }
  const std::string wrong = OutsideOf(value->text, number, range.least, range.most);
  if (!wrong.empty()) return FailAt(*value, key, wrong);
  *target = number;
}

void ConfigNode::Read(std::string_view key, float* target, Range<float> range) {
  double number = *target;
  Read(key, &number, Range<double>{range.least, range.most});
  *target = static_cast<float>(number);
}

void ConfigNode::Read(std::string_view key, absl::Duration* target, Range<absl::Duration> range) {
  const ConfigValue* value = Scalar(key, "a duration, as in \"5s\"");
  if (value == nullptr) return;
  absl::Duration duration;
  if (!absl::ParseDuration(value->text, &duration) || duration == absl::InfiniteDuration()) {
    return FailAt(*value, key,
                  fmt::format("\"{}\" is not a duration, as in \"5s\" or \"250ms\"", value->text));
  }
  const std::string wrong = OutsideOf(value->text, duration, range.least, range.most);
  if (!wrong.empty()) return FailAt(*value, key, wrong);
  *target = duration;
}

void ConfigNode::Read(std::string_view key, ByteSize* target, Range<ByteSize> range) {
  const ConfigValue* value = Scalar(key, "a size, as in \"64MiB\"");
  if (value == nullptr) return;
  ByteSize size;
  if (!ParseByteSize(value->text, &size)) {
    return FailAt(*value, key,
                  fmt::format("\"{}\" is not a size, as in \"64MiB\" or \"4096\"", value->text));
  }
  const std::string wrong = OutsideOf(value->text, size, range.least, range.most);
  if (!wrong.empty()) return FailAt(*value, key, wrong);
  *target = size;
}

int ConfigNode::ReadWord(std::string_view key, const std::vector<std::string_view>& words) {
  const std::string expected = fmt::format("one of {}", fmt::join(words, ", "));
  const ConfigValue* value = Scalar(key, expected);
  if (value == nullptr) return -1;
  const auto found = std::find(words.begin(), words.end(), value->text);
  if (found != words.end()) return static_cast<int>(found - words.begin());
  FailAt(*value, key, fmt::format("\"{}\" is not {}", value->text, expected));
  return -1;
}

ConfigNode ConfigNode::Section(std::string_view key) {
  const ConfigValue* value = Find(key);
  if (value != nullptr && value->kind != Kind::kMap) {
    if (value->kind != Kind::kNull) FailAt(*value, key, "needs keys under it");
    value = nullptr;
  }
  return ConfigNode(const_cast<ConfigValue*>(value), errors_, PathOf(key));
}

std::vector<ConfigNode> ConfigNode::Items(std::string_view key, int most) {
  std::vector<ConfigNode> nodes;
  const ConfigValue* value = Find(key);
  if (value == nullptr || value->kind == Kind::kNull) return nodes;
  if (value->kind != Kind::kList) {
    FailAt(*value, key, "needs a list");
    return nodes;
  }
  if (value->items.size() > static_cast<size_t>(most)) {
    FailAt(*value, key, fmt::format("has {} entries; the limit is {}", value->items.size(), most));
    return nodes;
  }
  for (size_t i = 0; i < value->items.size(); ++i) {
    const std::string name = fmt::format("{}[{}]", key, i);
    if (value->items[i]->kind != Kind::kMap) {
      FailAt(*value->items[i], name, "needs keys under it");
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
  text.resize(static_cast<size_t>(file.gcount()));
  return Parse(text, path, overrides);
}

absl::StatusOr<Config> Config::Parse(const std::string& text, const std::string& name,
                                     const std::vector<std::string>& overrides) {
  if (text.size() > kMostBytes) return InvalidArgument("{}: more than {} bytes", name, kMostBytes);
  ASSIGN_OR_RETURN(auto root, BuildDocument(text, name, true));
  if (root->kind != Kind::kMap && root->kind != Kind::kNull) {
    return InvalidArgument("{}: needs keys", root->origin);
  }
  for (const std::string& setting : overrides) RETURN_IF_ERROR(Override(*root, setting));
  return Config(std::move(root), std::make_unique<ConfigErrors>(ConfigErrors{name, {}}));
}

ConfigNode Config::root() { return ConfigNode(root_.get(), errors_.get(), ""); }

absl::Status Config::Finish() const {
  return errors_->first.ok() ? UnknownKeys(*root_, "") : errors_->first;
}

}  // namespace conclave
