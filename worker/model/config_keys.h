#pragma once

#include <absl/status/status.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "common/status.h"

namespace conclave::worker {

// A value as messages show it: ASCII, and not longer than a line.
std::string Excerpt(const nlohmann::json& value);

// Reads keys of one JSON object of config.json. The first complaint stays: key, value, reason. A
// key that is null counts as left out, and what is left out leaves `out` as it was.
class ConfigKeys {
 public:
  // `place`: what messages put before a key ("rope_scaling."). `object` must outlive the reader.
  explicit ConfigKeys(const nlohmann::json& object, std::string place = "")
      : object_(object), place_(std::move(place)) {}

  bool Has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  bool IsNull(const char* key) const { return object_.contains(key) && object_[key].is_null(); }
  const nlohmann::json& operator[](const char* key) const { return object_[key]; }

  void Require(const char* key);
  // An integer from `least` to `most`.
  void Int(const char* key, int least, int most, int& out);
  // A number above 0; with bounds, one from `least` to `most`.
  struct Bounds {
    double least, most;
  };
  void Number(const char* key, double& out);
  void Number(const char* key, double& out, Bounds bounds);
  void Bool(const char* key, bool& out);
  void Word(const char* key, std::string& out);

  template <typename... Args>
  void Fail(const char* key, fmt::format_string<Args...> format, Args&&... args) {
    if (!status_.ok()) return;
    status_ =
        InvalidArgument("{}{} {}", place_, key, fmt::format(format, std::forward<Args>(args)...));
  }
  const absl::Status& status() const { return status_; }

 private:
  const nlohmann::json& object_;
  const std::string place_;
  absl::Status status_;
};

}  // namespace conclave::worker
