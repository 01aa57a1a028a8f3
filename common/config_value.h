#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The inside of common/config.h: a document in our own form, and what is wrong with it.
namespace conclave {

// Where something stands: "file:line:column", or the override that brought it.
struct ConfigPlace {
  std::string text;
  int line = 0, column = 0;  // From 1, to sort by; an override is behind every line.
};

// One value of a document. yaml-cpp is not seen behind it.
struct ConfigValue {
  enum class Kind { kNull, kScalar, kMap, kList };

  Kind kind = Kind::kNull;
  std::string text;
  ConfigPlace place;
  std::vector<std::pair<std::string, std::unique_ptr<ConfigValue>>> entries;  // kMap
  std::vector<ConfigPlace> key_places;              // kMap, beside entries.
  std::vector<std::unique_ptr<ConfigValue>> items;  // kList
  std::vector<std::string> known;                   // Keys that were read.
};

// Everything that is wrong with one document.
struct ConfigErrors {
  struct Complaint {
    ConfigPlace place;
    std::string path, what;  // The key's path, and what is wrong with it.
  };

  void Add(const ConfigPlace& place, std::string_view path, std::string_view what);
  // OK, or kInvalidArgument: one line each, in the order of the document. At most 20.
  absl::Status Status() const;

  std::string name;  // The document's, for complaints about what is absent.
  std::vector<Complaint> complaints;
  std::set<std::string> unread;       // Paths of values that could not be read.
  std::set<std::string> known_paths;  // Keys that were asked for: "server.listen", "rows[].length".
};

// `text` as a value; `name` stands for the file in places. Keys that are there twice are added to
// `errors`. kInvalidArgument: not YAML, or beyond the limits of any config.
absl::StatusOr<std::unique_ptr<ConfigValue>> BuildConfig(const std::string& text,
                                                         const std::string& name,
                                                         ConfigErrors& errors);

// Lays one "a.b=value" over the document; what is wrong with it is added to `errors`.
void OverrideConfig(ConfigValue& root, const std::string& setting, ConfigErrors& errors);

// Adds every key below `value`, which stands at `path`, that nobody asked for, with the ones that
// may have been meant.
void AddUnknownKeys(const ConfigValue& value, const std::string& path, ConfigErrors& errors);

// "server" and "listen" as "server.listen".
std::string JoinPath(std::string_view path, std::string_view key);

}  // namespace conclave
