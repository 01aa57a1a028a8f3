#include "worker/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "worker/text/tokenizer_json.h"

namespace conclave::worker {
namespace {

using Json = nlohmann::json;
using Behavior = SplitPattern::Behavior;

// What GPT-2 splits with, which ByteLevel implies with use_regex.
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// ASCII's punctuation is what is printable and neither letter nor digit.
constexpr char kPunctuation[] = R"([!-/:-@\[-`{-~]|\p{P})";
constexpr char kWordsOrSigns[] = R"([\p{L}\p{M}\p{N}\p{Pc}]+|[^\p{L}\p{M}\p{N}\p{Pc}\s]+)";

// Of all words that one text's steps change, each as a string.
constexpr size_t kMostChangedBytes = size_t{64} << 20;

std::string WithMarks(std::string_view text, std::string_view mark) {
  std::string marked;
  for (const char c : text) {
    if (c == ' ') {
      marked += mark;
    } else {
      marked += c;
    }
  }
  return marked;
}

absl::StatusOr<Behavior> BehaviorOf(const Json& node, const std::string& path,
                                    const std::string& fallback) {
  static constexpr std::pair<std::string_view, Behavior> kAll[] = {
      {"Isolated", Behavior::kIsolated},
      {"Removed", Behavior::kRemoved},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous}};
  const std::string name = TextMember(node, "behavior", fallback);
  for (const auto& [each, behavior] : kAll) {
    if (name == each) return behavior;
  }
  return Unimplemented("{}.behavior: '{}' is not supported", path, name);
}

// A flag that is true when the file does not say.
bool FlagOrTrue(const Json& node, const char* key) {
  return !Member(node, key).is_boolean() || FlagMember(node, key);
}

}  // namespace

struct PreTokenizer::Reader {
  static absl::StatusOr<Step> SplitBy(const std::string& pattern, SplitPattern::Options options) {
    Step step;
    ASSIGN_OR_RETURN(step.split, SplitPattern::Compile(pattern, options));
    return step;
  }

  static absl::StatusOr<Step> Metaspace(const Json& node, const std::string& path) {
    Step step;
    step.marks_spaces = true;
    ASSIGN_OR_RETURN(step.mark, InsertedText(node, path, "replacement"));
    if (step.mark.empty()) return InvalidArgument("{}.replacement: is empty", path);
    // Older files say add_prefix_space instead of prepend_scheme.
    const bool prefix = FlagOrTrue(node, "add_prefix_space");
    const std::string scheme = TextMember(node, "prepend_scheme", prefix ? "always" : "never");
    if (scheme == "always" || scheme == "first") {
      step.scheme = scheme == "first" ? Scheme::kFirst : Scheme::kAlways;
    } else if (scheme != "never") {
      return Unimplemented("{}.prepend_scheme: '{}' is not supported", path, scheme);
    }
    if (FlagOrTrue(node, "split")) {
      ASSIGN_OR_RETURN(step.split,
                       SplitPattern::Compile(
                           step.mark, {.literal = true, .behavior = Behavior::kMergedWithNext}));
    }
    return step;
  }

  static absl::StatusOr<Step> ByteLevel(const Json& node) {
    Step step;
    if (FlagMember(node, "add_prefix_space")) {
      step.scheme = Scheme::kAlways;
      step.mark = " ";
    }
    if (FlagOrTrue(node, "use_regex")) {
      ASSIGN_OR_RETURN(step.split, SplitPattern::Compile(kGpt2Pattern, {}));
    }
    return step;
  }

  static absl::StatusOr<Step> Read(const Json& node, const std::string& path) {
    const std::string type = TypeOf(node);
    if (type == "Split") {
      Step step;
      SplitPattern::Options options;
      options.invert = FlagMember(node, "invert");
      ASSIGN_OR_RETURN(options.behavior, BehaviorOf(node, path, ""));
      ASSIGN_OR_RETURN(step.split, PatternOf(node, path, options));
      return step;
    }
    if (type == "Punctuation") {
      SplitPattern::Options options;
      ASSIGN_OR_RETURN(options.behavior, BehaviorOf(node, path, "Isolated"));
      return SplitBy(kPunctuation, options);
    }
    if (type == "Digits") {
      return SplitBy(FlagMember(node, "individual_digits") ? "\\p{N}" : "\\p{N}+", {});
    }
    if (type == "Whitespace") {
      return SplitBy(kWordsOrSigns, {.invert = true, .behavior = Behavior::kRemoved});
    }
    if (type == "WhitespaceSplit") return SplitBy("\\s", {.behavior = Behavior::kRemoved});
    if (type == "Metaspace") return Metaspace(node, path);
    if (type == "ByteLevel") return ByteLevel(node);
    return Unimplemented("{}: {} is not supported", path, type);
  }
};

absl::StatusOr<PreTokenizer> PreTokenizer::Parse(const Json& node) {
  PreTokenizer all;
  int count = 0;
  RETURN_IF_ERROR(ForEachStep(node, "pre_tokenizer", "pretokenizers", count,
                              [&](const Json& each, const std::string& path) -> absl::Status {
                                // ByteLevel spells bytes anew: what follows would have to look at
                                // its spelling.
                                if (all.byte_level_) {
                                  return Unimplemented("{}: {} after ByteLevel is not supported",
                                                       path, TypeOf(each));
                                }
                                ASSIGN_OR_RETURN(Step step, Reader::Read(each, path));
                                all.byte_level_ = TypeOf(each) == "ByteLevel";
                                all.steps_.push_back(std::move(step));
                                return absl::OkStatus();
                              }));
  return all;
}

absl::Status Words::Reserve(size_t bytes) {
  changed_bytes += bytes + sizeof(std::string);
  if (changed_bytes <= kMostChangedBytes) return absl::OkStatus();
  return ResourceExhausted("with its marks, the text has more than {} bytes", kMostChangedBytes);
}

absl::Status PreTokenizer::Run(const Step& step, bool at_start, MatchBudget& budget,
                               Words& words) const {
  std::vector<std::string_view> pieces;
  for (size_t i = 0; i < words.words.size(); ++i) {
    std::string_view word = words.words[i];
    if (step.marks_spaces && word.find(' ') != std::string_view::npos) {
      const auto spaces = static_cast<size_t>(std::count(word.begin(), word.end(), ' '));
      RETURN_IF_ERROR(words.Reserve(word.size() + spaces * step.mark.size()));
      word = words.changed.emplace_back(WithMarks(word, step.mark));
    }
    const bool marked =
        step.scheme == Scheme::kAlways || (step.scheme == Scheme::kFirst && at_start && i == 0);
    if (marked && !word.starts_with(step.mark)) {
      RETURN_IF_ERROR(words.Reserve(word.size() + step.mark.size()));
      word = words.changed.emplace_back(step.mark + std::string(word));
    }
    if (step.split) {
      RETURN_IF_ERROR(step.split->Split(word, budget, pieces));
    } else {
      pieces.push_back(word);
    }
  }
  words.words.swap(pieces);
  return absl::OkStatus();
}

absl::Status PreTokenizer::Cut(std::string_view text, bool at_start, Words& words) const {
  words.changed.clear();
  words.changed_bytes = 0;
  words.words.assign(1, text);
  MatchBudget budget(text.size());
  for (const Step& step : steps_) RETURN_IF_ERROR(Run(step, at_start, budget, words));
  return absl::OkStatus();
}

}  // namespace conclave::worker
