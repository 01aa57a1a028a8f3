#include "router/api/answer_gate.h"

#include <openssl/sha.h>

#include <algorithm>

#include "common/status.h"

namespace conclave::router {
namespace {

std::string Sha256(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

bool IsInsideCharacter(const std::string& text) {
  return !text.empty() && (static_cast<unsigned char>(text.front()) & 0xc0u) == 0x80u;
}

}  // namespace

absl::StatusOr<std::string> AnswerGate::Pass(std::string text) {
  if (open()) return text;
  const size_t lacking = static_cast<size_t>(held_.bytes) - withheld_.size();
  const size_t taken = std::min(lacking, text.size());
  withheld_.append(text, 0, taken);
  text.erase(0, taken);
  if (taken < lacking) return text;
  if (Sha256(withheld_) != held_.sha256) {
    return Aborted("the answer's first {} bytes are not those that resume.answer_sha256 names",
                   held_.bytes);
  }
  if (IsInsideCharacter(text)) {
    return Aborted("resume.answer_bytes is {}: inside a character of the answer", held_.bytes);
  }
  held_ = {};
  withheld_ = {};
  return text;
}

absl::Status AnswerGate::Close() const {
  if (open()) return absl::OkStatus();
  return Aborted("resume.answer_bytes is {}; the answer has {}", held_.bytes, withheld_.size());
}

}  // namespace conclave::router
