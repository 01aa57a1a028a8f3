#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string_view>

namespace conclave {

// A part of JSON Schema, kept strictly: type, enum, const, required, properties,
// additionalProperties, items (one schema), minItems, maxItems, minimum, maximum, minLength,
// maxLength, pattern (RE2, found anywhere in the string), each as the specification says. $schema,
// title and description may stand there and say nothing. Numbers are compared exactly as long as
// they are 64-bit integers or doubles. Immutable, so any thread may use it; cheap to copy.
class JsonSchema {
 public:
  // At most 65536 bytes, 32 deep, 16 patterns. kInvalidArgument in words that stand behind the
  // schema's name, with the place: "is wrong at /properties/a/format: it is no keyword that is
  // known here".
  static absl::StatusOr<JsonSchema> Parse(std::string_view text);

  // OK when `text` is one JSON value, outer space or one fence of ``` around it apart, that the
  // schema accepts. Otherwise kInvalidArgument with the first place that it doesn't, in words that
  // stand behind the answer's name: "is string, not integer at /items/2", "is not valid JSON at
  // byte 3". At most 256 KiB, 64 deep, and so much work that it takes a moment.
  absl::Status Check(std::string_view text) const;

 private:
  struct Rules;
  explicit JsonSchema(std::shared_ptr<const Rules> rules);
  std::shared_ptr<const Rules> rules_;  // Shared by copies: compiled once, never changed.
};

}  // namespace conclave
