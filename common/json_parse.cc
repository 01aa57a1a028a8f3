#include "common/json_parse.h"

#include <set>
#include <string>
#include <vector>

#include "common/json_shape.h"
#include "common/plain_text.h"
#include "common/status.h"

namespace conclave {
namespace {

// Finds the first key that its object has already.
class KeyTwice : public nlohmann::json_sax<nlohmann::json> {
 public:
  const std::string& name() const { return name_; }

  bool key(std::string& key) override {
    const bool first = keys_.back().insert(key).second;
    if (!first) name_ = key;
    return first;
  }
  bool start_object(size_t) override {
    keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    keys_.pop_back();
    return true;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t) override { return true; }
  bool number_unsigned(uint64_t) override { return true; }
  bool number_float(double, const std::string&) override { return true; }
  bool string(std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  std::vector<std::set<std::string>> keys_;  // Of the objects around the place at hand.
  std::string name_;
};

template <typename Json>
size_t MembersOf(const Json& root) {
  size_t members = 0;
  std::vector<const Json*> left = {&root};
  while (!left.empty()) {
    const Json& each = *left.back();
    left.pop_back();
    if (each.is_object()) members += each.size();
    if (!each.is_structured()) continue;
    for (const Json& child : each) {
      if (child.is_structured()) left.push_back(&child);
    }
  }
  return members;
}

template <typename Json>
absl::StatusOr<Json> Build(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    return InvalidArgument("is not valid JSON at byte {}", error.byte);
  } catch (const nlohmann::json::exception&) {
    return InvalidArgument("has a number that is too great");
  }
}

template <typename Json>
absl::StatusOr<Json> Parse(const JsonLimits& limits, std::string_view text) {
  const JsonShape shape = ShapeOfJson(text, limits.depth);
  if (shape.depth > limits.depth) return InvalidArgument("is nested deeper than {}", limits.depth);
  if (shape.keys > limits.keys) {
    return InvalidArgument("an object has {} keys; the limit is {}", shape.keys, limits.keys);
  }
  if (shape.values > limits.values) {
    return InvalidArgument("has {} values; the limit is {}", shape.values, limits.values);
  }
  absl::StatusOr<Json> built = Build<Json>(text);
  // The parser keeps one of those that have the same name: which one is nobody's to guess.
  if (!built.ok() || !limits.keys_once || MembersOf(*built) == shape.all_keys) return built;
  KeyTwice twice;
  nlohmann::json::sax_parse(text, &twice);
  return InvalidArgument("the key \"{}\" is there twice", PlainText(twice.name().substr(0, 80)));
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonWithin(const JsonLimits& limits, std::string_view text) {
  return Parse<nlohmann::json>(limits, text);
}

absl::StatusOr<nlohmann::ordered_json> ParseOrderedJsonWithin(const JsonLimits& limits,
                                                              std::string_view text) {
  return Parse<nlohmann::ordered_json>(limits, text);
}

}  // namespace conclave
