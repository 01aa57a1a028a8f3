#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <utility>

namespace conclave::router {

// What a client holds of an answer whose stream broke: its first bytes, and their SHA-256.
struct HeldAnswer {
  int64_t bytes = 0;   // At least 0.
  std::string sha256;  // 32 bytes; may be empty when `bytes` is 0.
};

// Withholds from a client the part of an answer that it holds, once it is proved to be the same.
// Open when nothing is held. A value.
class AnswerGate {
 public:
  AnswerGate() = default;
  explicit AnswerGate(HeldAnswer held) : held_(std::move(held)) {}

  // Of `text`, the answer's next bytes, those that the client lacks; may be empty. kAborted: the
  // withheld bytes are others than the client's, or end inside a character. Nothing may follow.
  absl::StatusOr<std::string> Pass(std::string text);

  // The answer has no more bytes. kAborted when the client holds more than it has.
  absl::Status Close() const;

  bool open() const { return held_.bytes == 0; }

 private:
  HeldAnswer held_;
  std::string withheld_;  // Until the gate opens; bounded by the answer.
};

}  // namespace conclave::router
