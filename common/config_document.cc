#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <set>
#include <sstream>
#include <tuple>
#include <vector>

#include "common/config_value.h"
#include "common/status.h"

namespace conclave {
namespace {

using Kind = ConfigValue::Kind;

constexpr int kMostNodes = 20'000;
constexpr int kMostDepth = 32;
constexpr size_t kMostComplaints = 20;

ConfigPlace PlaceOf(const std::string& name, const YAML::Mark& mark) {
  return {fmt::format("{}:{}:{}", name, mark.line + 1, mark.column + 1), mark.line + 1,
          mark.column + 1};
}

ConfigPlace OverridePlace(const std::string& name) { return {name, INT_MAX, 0}; }

// Turns YAML nodes into values.
class Builder {
 public:
  Builder(std::string name, bool from_file, ConfigErrors& errors)
      : name_(std::move(name)), from_file_(from_file), errors_(errors) {}

  // `path` is where the value stands, for messages.
  absl::StatusOr<std::unique_ptr<ConfigValue>> Build(const YAML::Node& node,
                                                     const std::string& path, int depth) {
    auto value = std::make_unique<ConfigValue>();
    value->place = PlaceOf(node);
    // Aliases are expanded here, so the count also stops a document that refers to itself many
    // times over.
    if (++nodes_ > kMostNodes) return InvalidArgument("{}: more than {} values", name_, kMostNodes);
    if (depth > kMostDepth) {
      return InvalidArgument("{}: {}: nested more than {} deep", value->place.text, path,
                             kMostDepth);
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
  ConfigPlace PlaceOf(const YAML::Node& node) const {
    return from_file_ ? conclave::PlaceOf(name_, node.Mark()) : OverridePlace(name_);
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
    std::set<std::string> seen;
    for (const auto& entry : node) {
      const ConfigPlace place = PlaceOf(entry.first);
      if (!entry.first.IsScalar()) {
        errors_.Add(place, path, "a key must be a word");
        continue;
      }
      const std::string key = entry.first.Scalar();
      if (!seen.insert(key).second) {
        errors_.Add(place, JoinPath(path, key), "the key is there twice");
        continue;
      }
      ASSIGN_OR_RETURN(auto child, Build(entry.second, JoinPath(path, key), depth + 1));
      value.entries.emplace_back(key, std::move(child));
      value.key_places.push_back(place);
    }
    return absl::OkStatus();
  }

  const std::string name_;
  const bool from_file_;
  ConfigErrors& errors_;
  int nodes_ = 0;
};

absl::StatusOr<std::unique_ptr<ConfigValue>> Build(const std::string& text, const std::string& name,
                                                   bool from_file, ConfigErrors& errors) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1) {
      return InvalidArgument("{}: a second document begins; only one is read",
                             from_file ? PlaceOf(name, documents[1].Mark()).text : name);
    }
    return Builder(name, from_file, errors)
        .Build(documents.empty() ? YAML::Node() : documents[0], "", 0);
  } catch (const YAML::Exception& error) {
    if (!from_file) return InvalidArgument("{}: {}", name, error.msg);
    return InvalidArgument("{}: {}", PlaceOf(name, error.mark).text, error.msg);
  }
}

// The place for `key` under `value`, made when it is not there. Null: `value` cannot hold it.
std::unique_ptr<ConfigValue>* Slot(ConfigValue& value, const std::string& key,
                                   const ConfigPlace& place) {
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
  value.entries.back().second->place = place;
  value.key_places.push_back(place);
  return &value.entries.back().second;
}

}  // namespace

std::string JoinPath(std::string_view path, std::string_view key) {
  return path.empty() ? std::string(key) : fmt::format("{}.{}", path, key);
}

void ConfigErrors::Add(const ConfigPlace& place, std::string_view path, std::string_view what) {
  complaints.push_back({place, std::string(path), std::string(what)});
}

absl::Status ConfigErrors::Status() const {
  if (complaints.empty()) return absl::OkStatus();
  std::vector<const Complaint*> sorted;
  for (const Complaint& complaint : complaints) sorted.push_back(&complaint);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Complaint* a, const Complaint* b) {
    return std::tie(a->place.line, a->place.column) < std::tie(b->place.line, b->place.column);
  });
  std::string text;
  for (size_t i = 0; i < std::min(sorted.size(), kMostComplaints); ++i) {
    const Complaint& one = *sorted[i];
    text += fmt::format("{}{}: {}{}{}", i == 0 ? "" : "\n", one.place.text, one.path,
                        one.path.empty() ? "" : ": ", one.what);
  }
  if (sorted.size() > kMostComplaints) {
    text += fmt::format("\n{}: {} more complaints", name, sorted.size() - kMostComplaints);
  }
  return MakeStatus(absl::StatusCode::kInvalidArgument, text);
}

absl::StatusOr<std::unique_ptr<ConfigValue>> BuildConfig(const std::string& text,
                                                         const std::string& name,
                                                         ConfigErrors& errors) {
  ASSIGN_OR_RETURN(auto root, Build(text, name, true, errors));
  if (root->kind != Kind::kMap && root->kind != Kind::kNull) {
    return InvalidArgument("{}: needs keys", root->place.text);
  }
  return root;
}

void OverrideConfig(ConfigValue& root, const std::string& setting, ConfigErrors& errors) {
  const std::string origin = fmt::format("--set {}", setting);
  const ConfigPlace place = OverridePlace(origin);
  const size_t equals = setting.find('=');
  if (equals == std::string::npos || equals == 0) {
    return errors.Add(place, "", "needs the form key=value, as group.threads=4");
  }
  auto value = Build(setting.substr(equals + 1), origin, false, errors);
  if (!value.ok()) {
    return errors.Add(place, "", MessageOf(value.status()).substr(origin.size() + 2));
  }
  ConfigValue* node = &root;
  std::unique_ptr<ConfigValue>* slot = nullptr;
  std::istringstream path(setting.substr(0, equals));
  for (std::string key; std::getline(path, key, '.');) {
    slot = key.empty() ? nullptr : Slot(*node, key, place);
    if (slot == nullptr) {
      return errors.Add(place, "", fmt::format("there is no place \"{}\"", key));
    }
    node = slot->get();
  }
  *slot = *std::move(value);
}

}  // namespace conclave
