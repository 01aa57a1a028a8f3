#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// Who wrote a byte of a prompt.
enum class Author : uint8_t { kTemplate, kCaller };

// A string in which every byte knows whether the caller or the template wrote it, so that the
// tokenizer can refuse to make a special token out of what a caller typed. The marks survive
// whatever a chat template does with its strings. A value; compared as plain text.
class MarkedString {
 public:
  // Bytes up to `end` (from the end of the run before) have one author. Neighbours differ.
  struct Run {
    size_t end = 0;
    Author author = Author::kTemplate;

    bool operator==(const Run&) const = default;
  };

  MarkedString() = default;
  MarkedString(std::string text, Author author);
  static MarkedString Template(std::string text) { return {std::move(text), Author::kTemplate}; }
  static MarkedString Caller(std::string text) { return {std::move(text), Author::kCaller}; }

  const std::string& text() const { return text_; }
  const std::vector<Run>& runs() const { return runs_; }  // Empty for an empty string.
  size_t size() const { return text_.size(); }
  bool empty() const { return text_.empty(); }

  // REQUIRES: position < size(). O(log runs).
  Author author_at(size_t position) const;
  // True when the template wrote every byte of [begin, end).
  bool WrittenByTemplate(size_t begin, size_t end) const;

  void Append(const MarkedString& other);
  void Append(std::string_view text, Author author);
  // At most `count` bytes from `begin`, which may lie at the end.
  MarkedString Slice(size_t begin, size_t count = std::string::npos) const;
  // Without the bytes of `set` at the start and at the end.
  MarkedString StripLeft(std::string_view set) const;
  MarkedString StripRight(std::string_view set) const;
  MarkedString Strip(std::string_view set) const { return StripLeft(set).StripRight(set); }
  // Every `from` replaced by `to`, at most `limit` times (negative: all). `from` must not be empty.
  MarkedString Replace(std::string_view from, const MarkedString& to, int64_t limit = -1) const;
  // The parts between separators, at most `limit` splits (negative: all). REQUIRES: a separator.
  std::vector<MarkedString> Split(std::string_view separator, int64_t limit = -1) const;
  // Same length, same authors. REQUIRES: text.size() == size().
  MarkedString WithText(std::string text) const;

  bool operator==(const MarkedString& other) const { return text_ == other.text_; }

 private:
  std::string text_;
  std::vector<Run> runs_;
};

}  // namespace conclave::worker
