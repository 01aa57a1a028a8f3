#include "worker/text/marked_string.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace conclave::worker {

MarkedString::MarkedString(std::string text, Author author) : text_(std::move(text)) {
  if (!text_.empty()) runs_.push_back({text_.size(), author});
}

Author MarkedString::author_at(size_t position) const {
  CHECK(position < size());
  return std::upper_bound(runs_.begin(), runs_.end(), position,
                          [](size_t at, const Run& run) { return at < run.end; })
      ->author;
}

bool MarkedString::WrittenByTemplate(size_t begin, size_t end) const {
  auto run = std::upper_bound(runs_.begin(), runs_.end(), begin,
                              [](size_t at, const Run& r) { return at < r.end; });
  for (; begin < end && run != runs_.end(); begin = run->end, ++run) {
    if (run->author != Author::kTemplate) return false;
  }
  return true;
}

void MarkedString::Append(std::string_view text, Author author) {
  if (text.empty()) return;
  text_ += text;
  if (!runs_.empty() && runs_.back().author == author) {
    runs_.back().end = text_.size();
  } else {
    runs_.push_back({text_.size(), author});
  }
}

void MarkedString::Append(const MarkedString& other) {
  if (&other == this) {
    Append(MarkedString(other));
    return;
  }
  size_t begin = 0;
  for (const Run& run : other.runs_) {
    Append(std::string_view(other.text_).substr(begin, run.end - begin), run.author);
    begin = run.end;
  }
}

MarkedString MarkedString::Slice(size_t begin, size_t count) const {
  CHECK(begin <= size());
  const size_t end = begin + std::min(count, size() - begin);
  MarkedString slice;
  auto run = std::upper_bound(runs_.begin(), runs_.end(), begin,
                              [](size_t at, const Run& r) { return at < r.end; });
  for (; begin < end; ++run) {
    const size_t stop = std::min(end, run->end);
    slice.Append(std::string_view(text_).substr(begin, stop - begin), run->author);
    begin = stop;
  }
  return slice;
}

MarkedString MarkedString::StripLeft(std::string_view set) const {
  return Slice(std::min(text_.find_first_not_of(set), size()));
}

MarkedString MarkedString::StripRight(std::string_view set) const {
  return Slice(0, text_.find_last_not_of(set) + 1);
}

MarkedString MarkedString::Replace(std::string_view from, const MarkedString& to,
                                   int64_t limit) const {
  CHECK(!from.empty());
  MarkedString result;
  size_t begin = 0;
  while (limit != 0) {
    const size_t at = text_.find(from, begin);
    if (at == std::string::npos) break;
    result.Append(Slice(begin, at - begin));
    result.Append(to);
    begin = at + from.size();
    if (limit > 0) --limit;
  }
  result.Append(Slice(begin));
  return result;
}

std::vector<MarkedString> MarkedString::Split(std::string_view separator, int64_t limit) const {
  CHECK(!separator.empty());
  std::vector<MarkedString> parts;
  size_t begin = 0;
  while (limit != 0) {
    const size_t at = text_.find(separator, begin);
    if (at == std::string::npos) break;
    parts.push_back(Slice(begin, at - begin));
    begin = at + separator.size();
    if (limit > 0) --limit;
  }
  parts.push_back(Slice(begin));
  return parts;
}

MarkedString MarkedString::WithText(std::string text) const {
  CHECK(text.size() == size());
  MarkedString result;
  result.text_ = std::move(text);
  result.runs_ = runs_;
  return result;
}

}  // namespace conclave::worker
