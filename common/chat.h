#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace conclave {

enum class Role : uint8_t { kSystem, kUser, kAssistant };

// One piece of a message. Text only, until a model takes images or audio.
struct Part {
  std::string text;  // UTF-8.

  bool operator==(const Part&) const = default;
};

struct Message {
  Role role = Role::kUser;
  std::vector<Part> parts;

  bool operator==(const Message&) const = default;
};

// The text of all parts, in order.
inline std::string TextOf(const Message& message) {
  std::string text;
  for (const Part& part : message.parts) text += part.text;
  return text;
}

}  // namespace conclave
