#include "worker/text/split_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "common/status.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

// A match is looked for in a short window first, by code that does not count and can cost little:
// the window's bytes times kQuickSteps for each place where it may begin. What goes beyond is
// looked for again by code that counts what it does. Both find the same match.
constexpr size_t kWindowBytes = 64;
constexpr uint32_t kQuickSteps = 32;
// Real patterns take at most 14 steps a byte of the text that suits them least.
constexpr size_t kSpareSteps = 65'536, kStepsAByte = 100;

// What is repeated so often counts as one step while it fails.
constexpr int kMostRepetitions = 100;
constexpr uint32_t kMostLookBehind = 64;
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

// The last border between characters that is not behind `at`.
size_t FloorOfUtf8(std::string_view text, size_t at) {
  if (at >= text.size()) return text.size();
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

// As messages show it.
std::string Excerpt(const std::string& pattern) {
  constexpr size_t kMost = 80;
  if (pattern.size() <= kMost) return pattern;
  return pattern.substr(0, FloorOfUtf8(pattern, kMost)) + "...";
}

// The greatest number in {n}, {n,} and {n,m}.
int GreatestRepetition(std::string_view pattern) {
  int greatest = 0;
  for (size_t i = pattern.find('{'); i < pattern.size(); i = pattern.find('{', i + 1)) {
    int number = 0;
    for (size_t at = i + 1; at < pattern.size(); ++at) {
      const char c = pattern[at];
      if (c == ',') number = 0;
      if (c != ',' && (c < '0' || c > '9')) break;
      if (c != ',') number = std::min(10 * number + (c - '0'), 1'000'000);
      greatest = std::max(greatest, number);
    }
  }
  return greatest;
}

absl::StatusOr<Owned<pcre2_code>> CompileCode(const std::string& pattern, uint32_t flags,
                                              uint32_t jit) {
  int error = 0;
  size_t at = 0;
  Owned<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       flags, &error, &at, nullptr));
  if (code == nullptr) return InvalidArgument("is not valid: {}", ErrorText(error));
  // Without just-in-time code (a machine that forbids it) the interpreter matches the same.
  pcre2_jit_compile(code.get(), jit);
  return code;
}

// What would cost more than is counted.
absl::Status CheckCost(const pcre2_code* code, std::string_view pattern, bool literal) {
  uint32_t references = 0, behind = 0;
  pcre2_pattern_info(code, PCRE2_INFO_BACKREFMAX, &references);
  if (references > 0) return Unimplemented("refers back to a group, which is not supported");
  pcre2_pattern_info(code, PCRE2_INFO_MAXLOOKBEHIND, &behind);
  if (behind > kMostLookBehind) {
    return InvalidArgument("looks behind {} characters; the limit is {}", behind, kMostLookBehind);
  }
  const int repetitions = literal ? 0 : GreatestRepetition(pattern);
  if (repetitions <= kMostRepetitions) return absl::OkStatus();
  return InvalidArgument("repeats {} times; the limit is {}", repetitions, kMostRepetitions);
}

// Counts the steps of one match: PCRE2 calls before each item of the pattern.
struct StepCount {
  size_t steps = 0, most = 0;
  size_t at = 0;  // In the text.

  static int OnStep(pcre2_callout_block* block, void* count) {
    auto& self = *static_cast<StepCount*>(count);
    const size_t to = block->current_position;
    self.steps += 1 + (to > self.at ? to - self.at : self.at - to);
    self.at = to;
    return self.steps > self.most ? PCRE2_ERROR_CALLOUT : 0;
  }
};

// What every match of a thread needs: made once, as its stack is costly.
struct Workspace {
  Owned<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};  // The whole match's borders.
  Owned<pcre2_match_context> quick{pcre2_match_context_create(nullptr)};
  Owned<pcre2_match_context> counting{pcre2_match_context_create(nullptr)};
  Owned<pcre2_jit_stack> stack{pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)};

  Workspace() {
    for (pcre2_match_context* each : {quick.get(), counting.get()}) {
      pcre2_set_heap_limit(each, kHeapLimitKib);
      pcre2_jit_stack_assign(each, nullptr, stack.get());
    }
    pcre2_set_match_limit(quick.get(), kQuickSteps);
    pcre2_set_match_limit(counting.get(), UINT32_MAX);
  }
};

// One pattern's compiled code.
struct MatchCode {
  Owned<pcre2_code> quick, counting;
};

// Matches one pattern in one text.
class Matcher {
 public:
  Matcher(const MatchCode& code, std::string_view text, MatchBudget& budget)
      : code_(code), text_(text), budget_(budget) {}

  // PCRE2's result: >= 0 a match, whose borders are then at begin() and end().
  int Next(size_t from) {
    while (from < text_.size()) {
      const size_t end = FloorOfUtf8(text_, from + kWindowBytes);
      const bool whole = end == text_.size();
      const int result = Run(code_.quick.get(), space().quick.get(), text_.substr(0, end), from,
                             whole ? 0 : PCRE2_PARTIAL_HARD);
      if (result >= 0 || (whole && result == PCRE2_ERROR_NOMATCH)) return result;
      if (result == PCRE2_ERROR_NOMATCH) {
        from = end;
      } else if (result == PCRE2_ERROR_PARTIAL && begin() > from) {
        from = begin();  // What lies behind the window decides whether it begins here.
      } else {
        return Count(from);
      }
    }
    return PCRE2_ERROR_NOMATCH;
  }
  size_t begin() const { return pcre2_get_ovector_pointer(space().data.get())[0]; }
  size_t end() const { return pcre2_get_ovector_pointer(space().data.get())[1]; }

 private:
  static Workspace& space() {
    thread_local Workspace workspace;
    return workspace;
  }

  // In all of the text.
  int Count(size_t from) {
    StepCount count{.most = budget_.left(), .at = from};
    pcre2_match_context* context = space().counting.get();
    pcre2_set_callout(context, &StepCount::OnStep, &count);
    int result = Run(code_.counting.get(), context, text_, from, 0);
    // The compiled code's stack is small; the interpreter has the heap, under its own limit.
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = Run(code_.counting.get(), context, text_, from, PCRE2_NO_JIT);
    }
    budget_.Spend(count.steps);
    return result;
  }

  static int Run(const pcre2_code* code, pcre2_match_context* context, std::string_view text,
                 size_t from, uint32_t options) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                       options | PCRE2_NO_UTF_CHECK, space().data.get(), context);
  }

  const MatchCode& code_;
  const std::string_view text_;
  MatchBudget& budget_;
};

}  // namespace

MatchBudget::MatchBudget(size_t text_bytes) : left_(kSpareSteps + kStepsAByte * text_bytes) {}

struct SplitPattern::Code {
  std::string pattern;
  MatchCode match;
};

absl::StatusOr<SplitPattern> SplitPattern::Compile(const std::string& pattern, Options options) {
  auto code = std::make_shared<Code>();
  code->pattern = Excerpt(pattern);
  const absl::Status compiled = [&]() -> absl::Status {
    const std::string source = options.literal ? pattern : WithUnicodeSpace(pattern);
    uint32_t flags = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    if (options.literal) flags = PCRE2_UTF | PCRE2_LITERAL;
    ASSIGN_OR_RETURN(code->match.quick,
                     CompileCode(source, flags, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD));
    RETURN_IF_ERROR(CheckCost(code->match.quick.get(), pattern, options.literal));
    ASSIGN_OR_RETURN(code->match.counting,
                     CompileCode(source, flags | PCRE2_AUTO_CALLOUT, PCRE2_JIT_COMPLETE));
    return absl::OkStatus();
  }();
  if (!compiled.ok()) {
    return MakeStatus(compiled.code(),
                      fmt::format("pattern '{}' {}", code->pattern, MessageOf(compiled)));
  }
  return SplitPattern(std::move(code), options);
}

absl::Status SplitPattern::Cut(std::string_view text, MatchBudget& budget,
                               std::vector<Piece>& pieces) const {
  Matcher matcher(code_->match, text, budget);
  const auto put = [&](size_t begin, size_t end, bool matched) {
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), matched});
  };
  size_t done = 0, from = 0;
  while (from < text.size()) {
    const int result = matcher.Next(from);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      return ResourceExhausted(
          "pattern '{}' takes too long: more than {} steps and {} for each byte of the text (at "
          "byte {} of {})",
          code_->pattern, kSpareSteps, kStepsAByte, from, text.size());
    }
    if (matcher.begin() >= matcher.end()) {  // Nothing was matched: look behind the next character.
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

absl::Status SplitPattern::Split(std::string_view text, MatchBudget& budget,
                                 std::vector<std::string_view>& pieces) const {
  std::vector<Piece> cut;
  RETURN_IF_ERROR(Cut(text, budget, cut));
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
