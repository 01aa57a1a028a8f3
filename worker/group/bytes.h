#pragma once

#include <absl/status/status.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "common/status.h"

namespace conclave::worker {

// Values appended to a string, as plan_codec.h describes them.
class ByteWriter {
 public:
  void Byte(uint8_t value) { bytes_.push_back(static_cast<char>(value)); }
  void Fixed(uint64_t value, int num_bytes) {
    for (int i = 0; i < num_bytes; ++i) Byte(static_cast<uint8_t>(value >> 8 * i));
  }
  void Float(float value) { Fixed(std::bit_cast<uint32_t>(value), 4); }
  void Unsigned(uint64_t value) {
    for (; value >= 0x80; value >>= 7) Byte(static_cast<uint8_t>(value | 0x80));
    Byte(static_cast<uint8_t>(value));
  }
  void Signed(int32_t value) {
    const auto bits = static_cast<uint32_t>(value);
    Unsigned(bits << 1 ^ (value < 0 ? ~uint32_t{0} : 0));
  }
  void Text(std::string_view text) {
    Unsigned(text.size());
    bytes_ += text;
  }

  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// Reads the same back from any bytes. After the first fault every read returns zero and every count
// is zero, so a decoder looks at status() once, at the end. `bytes` must outlive it.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  uint8_t Byte() { return static_cast<uint8_t>(Fixed(1)); }
  uint64_t Fixed(int num_bytes) {
    if (left() < static_cast<size_t>(num_bytes)) Fail("ends too early");
    if (!status_.ok()) return 0;
    uint64_t value = 0;
    for (int i = 0; i < num_bytes; ++i) {
      value |= uint64_t{static_cast<uint8_t>(bytes_[at_++])} << 8 * i;
    }
    return value;
  }
  float Float() { return std::bit_cast<float>(static_cast<uint32_t>(Fixed(4))); }

  // A whole number up to `max`, in its shortest spelling.
  uint64_t Unsigned(uint64_t max = UINT64_MAX) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t byte = Byte();
      const uint64_t bits = byte & 0x7f;
      if (shift == 63 && bits > 1) break;
      value |= bits << shift;
      if ((byte & 0x80) != 0) continue;
      if (byte == 0 && shift > 0) break;
      if (value > max) Fail("holds a number that is too large");
      return status_.ok() ? value : 0;
    }
    Fail("holds a number that is not in its shortest spelling");
    return 0;
  }
  int32_t Signed() {
    const auto bits = static_cast<uint32_t>(Unsigned(UINT32_MAX));
    return static_cast<int32_t>(bits >> 1 ^ ((bits & 1) != 0 ? ~uint32_t{0} : 0));
  }

  // A count of things that take at least `min_bytes` each: so it is never more than what is left
  // could hold.
  size_t Count(size_t min_bytes) {
    const uint64_t count = Unsigned();
    if (count > left() / min_bytes) Fail("announces more than it holds");
    return status_.ok() ? count : 0;
  }

  std::string Text() {
    const size_t size = Count(1);
    at_ += size;
    return std::string(bytes_.substr(at_ - size, size));
  }

  // Everything must have been read.
  void End() {
    if (left() > 0) Fail("goes on after its end");
  }
  void Fail(std::string_view what) {
    if (status_.ok()) status_ = InvalidArgument("message {} at byte {}", what, at_);
  }

  size_t left() const { return bytes_.size() - at_; }
  const absl::Status& status() const { return status_; }

 private:
  std::string_view bytes_;
  size_t at_ = 0;
  absl::Status status_;
};

}  // namespace conclave::worker
