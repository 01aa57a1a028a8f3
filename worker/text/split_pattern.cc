#include "worker/text/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>

#include "common/status.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

// Backtracking steps: of one match at first, at most, and of all matches that need more than the
// first for a text.
constexpr uint32_t kFirstLimit = 1000, kMatchLimit = 16'000'000;
constexpr size_t kSpareSteps = 1'000'000, kStepsAByte = 256;
constexpr uint32_t kHeapLimitKib = 64 << 10;
constexpr size_t kJitStackBytes = size_t{1} << 20;

struct Freed {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <typename T>
using Owned = std::unique_ptr<T, Freed>;

std::string ErrorText(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

// PCRE2's \s is not quite Unicode's white space (it has U+180E), which is what the makers of
// tokenizers mean.
std::string WithUnicodeSpace(const std::string& pattern) {
  std::string result;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '\\' || i + 1 == pattern.size()) {
      result += pattern[i];
      continue;
    }
    const char escaped = pattern[++i];
    if (escaped == 's') {
      result += "\\p{White_Space}";
    } else if (escaped == 'S') {
      result += "\\P{White_Space}";
    } else {
      result += {'\\', escaped};
    }
  }
  return result;
}

// What every match of a thread needs: made once, as its stack is costly.
struct Workspace {
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};  // The whole match's borders.
  Owned<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack> stack{pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)};

  Workspace() {
    pcre2_set_heap_limit(context.get(), kHeapLimitKib);
    pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

// Matches one pattern in one text. A match that goes back and forth more than a little is tried
// again with twice the limit, and what that takes is bounded over the whole text: linear in it.
class Matcher {
 public:
  Matcher(const pcre2_code* code, std::string_view text)
      : code_(code), text_(text), budget_(kSpareSteps + kStepsAByte * text.size()) {}

  // PCRE2's result: >= 0 a match, whose borders are then at begin() and end().
  int Next(size_t from) {
    for (uint32_t limit = kFirstLimit;; limit *= 2) {
      pcre2_set_match_limit(space().context.get(), limit);
      int result = Run(from, PCRE2_NO_UTF_CHECK);
      // The compiled code's stack is small; the interpreter has the heap, under its own limit.
      if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
        result = Run(from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
      }
      if (result != PCRE2_ERROR_MATCHLIMIT || limit > kMatchLimit) return result;
      spent_ += limit;
      if (spent_ > budget_) return result;
    }
  }
  size_t begin() const { return pcre2_get_ovector_pointer(space().data.get())[0]; }
  size_t end() const { return pcre2_get_ovector_pointer(space().data.get())[1]; }

 private:
  static Workspace& space() {
    thread_local Workspace workspace;
    return workspace;
  }
  int Run(size_t from, uint32_t options) const {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), from,
                       options, space().data.get(), space().context.get());
  }

  const pcre2_code* code_;
  const std::string_view text_;
  const size_t budget_;
  size_t spent_ = 0;
};

}  // namespace

struct SplitPattern::Code {
  Owned<pcre2_code> code;
};

absl::StatusOr<SplitPattern> SplitPattern::Compile(const std::string& pattern, Options options) {
  const std::string source = options.literal ? pattern : WithUnicodeSpace(pattern);
  uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  if (options.literal) flags = PCRE2_UTF | PCRE2_LITERAL;
  int error = 0;
  size_t at = 0;
  auto code = std::make_shared<Code>();
  code->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), flags,
                                 &error, &at, nullptr));
  if (code->code == nullptr) {
    return InvalidArgument("pattern '{}' is not valid: {}", pattern, ErrorText(error));
  }
  // Without just-in-time code (a machine that forbids it) the interpreter matches the same.
  pcre2_jit_compile(code->code.get(), PCRE2_JIT_COMPLETE);
  return SplitPattern(std::move(code), options);
}

absl::Status SplitPattern::Cut(std::string_view text, std::vector<Piece>& pieces) const {
  Matcher matcher(code_->code.get(), text);
  const auto put = [&](size_t begin, size_t end, bool matched) {
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), matched});
  };
  size_t done = 0, from = 0;
  while (from < text.size()) {
    const int result = matcher.Next(from);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      return ResourceExhausted("splitting the text at byte {} failed: {}", from, ErrorText(result));
    }
    if (matcher.begin() == matcher.end()) {  // Nothing was matched: look behind the next character.
      if (matcher.end() >= text.size()) break;
      from = matcher.end() + ReadUtf8(text.substr(matcher.end())).bytes;
      continue;
    }
    put(done, matcher.begin(), false);
    put(matcher.begin(), matcher.end(), true);
    done = from = matcher.end();
  }
  put(done, text.size(), false);
  return absl::OkStatus();
}

absl::Status SplitPattern::Split(std::string_view text,
                                 std::vector<std::string_view>& pieces) const {
  std::vector<Piece> cut;
  RETURN_IF_ERROR(Cut(text, cut));
  const auto joined = [](std::string_view a, std::string_view b) {
    return std::string_view(a.data(), a.size() + b.size());  // Neighbours in one text.
  };
  bool last_separator = false;
  for (size_t i = 0; i < cut.size(); ++i) {
    const bool separator = cut[i].matched != options_.invert;
    const bool first = i == 0;
    bool join = false;
    switch (options_.behavior) {
      case Behavior::kIsolated:
        break;
      case Behavior::kRemoved:
        if (separator) continue;
        break;
      case Behavior::kMergedWithPrevious:
        join = !first && separator && !last_separator;
        break;
      case Behavior::kMergedWithNext:
        join = !first && !separator && last_separator;
        break;
      case Behavior::kContiguous:
        join = !first && separator == last_separator;
        break;
    }
    last_separator = separator;
    if (join) {
      pieces.back() = joined(pieces.back(), cut[i].text);
    } else {
      pieces.push_back(cut[i].text);
    }
  }
  return absl::OkStatus();
}

}  // namespace conclave::worker
