#include "common/answer/answer_key.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "common/answer/normalise.h"
#include "common/answer/pattern.h"
#include "common/check.h"
#include "common/status.h"

namespace conclave {
namespace {

constexpr size_t kMaxArgumentBytes = 512;
// Only the end of a longer text is looked at: answers stand there.
constexpr size_t kMaxScannedBytes = size_t{256} << 10;
// Sum of the bytes that repeated attempts (matches, objects) may look at in one text, so that no
// text and pattern together cost more than a moment. A pattern's byte costs as many steps as its
// program has instructions: what RE2's slowest engine takes.
constexpr size_t kMaxWork = size_t{16} << 20;
constexpr int kMaxProgram = 500;
constexpr int kMaxJsonDepth = 64;

std::string_view Tail(std::string_view text) {
  if (text.size() <= kMaxScannedBytes) return text;
  text.remove_prefix(text.size() - kMaxScannedBytes);
  while (!text.empty() && (static_cast<unsigned char>(text[0]) & 0xC0u) == 0x80u) {
    text.remove_prefix(1);
  }
  return text;
}

// The answer without outer space, or nothing when nothing is left of it.
std::optional<std::string> Trimmed(std::string_view answer) {
  answer = TrimSpace(answer);
  if (answer.empty()) return std::nullopt;
  return std::string(answer);
}

// One pass with a stack of open braces, so that unclosed boxes cost nothing.
std::optional<std::string> LastBoxed(std::string_view text) {
  constexpr std::string_view kCommand = "\\boxed{";
  constexpr size_t kPlainBrace = 0;  // A box's content never starts at 0.
  std::vector<size_t> open;
  std::string_view best;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.substr(i, kCommand.size()) == kCommand) {
      i += kCommand.size() - 1;
      open.push_back(i + 1);
    } else if (text[i] == '\\') {
      ++i;  // \{ and \} are characters, not groups.
    } else if (text[i] == '{') {
      open.push_back(kPlainBrace);
    } else if (text[i] == '}' && !open.empty()) {
      const size_t begin = open.back();
      open.pop_back();
      if (begin == kPlainBrace) continue;
      const std::string_view content = text.substr(begin, i - begin);
      const bool later = best.empty() || content.data() > best.data();
      if (later && !TrimSpace(content).empty()) best = content;
    }
  }
  if (best.empty()) return std::nullopt;
  return Trimmed(best);
}

// Calls visit(line) from the last line to the first until it returns true.
template <typename Visit>
void VisitLinesBackwards(std::string_view text, Visit visit) {
  while (true) {
    const size_t newline = text.rfind('\n');
    const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (visit(text.substr(begin)) || newline == std::string_view::npos) return;
    text = text.substr(0, newline);
  }
}

std::string_view TrimMarkup(std::string_view text) {
  const auto markup = [](char c) { return c == '*' || IsSpace(c); };
  while (!text.empty() && markup(text.front())) text.remove_prefix(1);
  while (!text.empty() && markup(text.back())) text.remove_suffix(1);
  return text;
}

std::optional<std::string> LastAnswerLine(std::string_view text) {
  constexpr std::string_view kWord = "answer";
  std::optional<std::string> answer;
  VisitLinesBackwards(text, [&](std::string_view line) {
    line = TrimMarkup(line);
    if (line.size() < kWord.size() || LowerCase(line.substr(0, kWord.size())) != kWord) {
      return false;
    }
    line.remove_prefix(kWord.size());
    while (!line.empty() && line.front() == '*') line.remove_prefix(1);
    if (line.empty() || line.front() != ':') return false;
    answer = Trimmed(TrimMarkup(line.substr(1)));
    return answer.has_value();
  });
  return answer;
}

std::optional<std::string> LastLine(std::string_view text) {
  std::optional<std::string> answer;
  VisitLinesBackwards(text, [&](std::string_view line) {
    answer = Trimmed(line);
    return answer.has_value();
  });
  return answer;
}

// Reads one object and keeps one field of its own, numbers exactly as they are written (a double
// would make different huge numbers equal).
class FieldReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit FieldReader(const std::string& field) : field_(field) {}

  bool null() override { return Keep(std::nullopt); }
  bool boolean(bool value) override { return Keep(value ? "true" : "false"); }
  bool number_integer(int64_t value) override { return Keep(std::to_string(value)); }
  bool number_unsigned(uint64_t value) override { return Keep(std::to_string(value)); }
  bool number_float(double, const std::string& text) override { return Keep(text); }
  bool string(std::string& value) override { return Keep(value); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool key(std::string& name) override {
    if (depth_ == 1) wanted_ = name == field_;
    return true;
  }
  bool start_object(size_t) override { return Enter(); }
  bool start_array(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

  const std::optional<std::string>& value() const { return value_; }
  bool is_container() const { return is_container_; }

 private:
  bool Enter() {
    if (depth_ == 1 && wanted_) {
      is_container_ = true;
      value_.reset();
    }
    return ++depth_ <= kMaxJsonDepth;
  }
  bool Leave() {
    --depth_;
    return true;
  }
  bool Keep(std::optional<std::string> value) {
    if (depth_ != 1 || !wanted_) return true;
    value_ = std::move(value);
    is_container_ = false;
    return true;
  }

  const std::string& field_;
  int depth_ = 0;
  bool wanted_ = false;
  bool is_container_ = false;
  std::optional<std::string> value_;
};

// The text of the object that starts at text[0], by its braces; empty when it does not end.
std::string_view ObjectAtStart(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{') {
      ++depth;
    } else if (c == '}' && --depth == 0) {
      return text.substr(0, i + 1);
    }
  }
  return {};
}

std::optional<std::string> FieldOf(std::string_view object, const std::string& field) {
  FieldReader reader(field);
  if (!nlohmann::json::sax_parse(object.begin(), object.end(), &reader)) return std::nullopt;
  if (!reader.is_container()) {
    return reader.value() ? Trimmed(*reader.value()) : std::nullopt;
  }
  const nlohmann::json parsed = nlohmann::json::parse(object, nullptr, false);
  return Trimmed(parsed[field].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

// From the last brace to the first: what follows an object can't change what it says.
std::optional<std::string> LastJsonField(std::string_view text, const std::string& field) {
  size_t work = 0;
  size_t at = text.size();
  while (at > 0 && (at = text.rfind('{', at - 1)) != std::string_view::npos) {
    const std::string_view object = ObjectAtStart(text.substr(at));
    work += object.empty() ? text.size() - at : object.size();
    if (work > kMaxWork) return std::nullopt;
    if (object.empty()) continue;
    if (std::optional<std::string> value = FieldOf(object, field)) return value;
  }
  return std::nullopt;
}

std::optional<std::string> LastMatch(const RE2& pattern, std::string_view text) {
  std::optional<std::string> answer;
  size_t work = 0, at = 0;
  const re2::StringPiece whole(text.data(), text.size());
  re2::StringPiece groups[2];
  while (at <= text.size()) {
    work += (text.size() - at + 1) * static_cast<size_t>(pattern.ProgramSize());
    if (work > kMaxWork) return std::nullopt;
    if (!pattern.Match(whole, at, text.size(), RE2::UNANCHORED, groups, 2)) break;
    if (groups[1].data() != nullptr) {
      std::optional<std::string> found = Trimmed({groups[1].data(), groups[1].size()});
      if (found) answer = std::move(found);
    }
    const size_t end = static_cast<size_t>(groups[0].data() - whole.data()) + groups[0].size();
    at = groups[0].empty() ? end + 1 : end;
  }
  return answer;
}

bool TakesArgument(AnswerKeySpec::Kind kind) {
  return kind == AnswerKeySpec::Kind::kJsonField || kind == AnswerKeySpec::Kind::kRegex;
}

}  // namespace

struct AnswerKey::Rules {
  AnswerKeySpec spec;
  std::unique_ptr<const RE2> pattern;  // kRegex only.
};

AnswerKey::AnswerKey(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}

absl::StatusOr<AnswerKey> AnswerKey::Parse(const AnswerKeySpec& spec) {
  const std::string& argument = spec.argument;
  if (argument.size() > kMaxArgumentBytes) {
    return InvalidArgument("answer key's argument has {} bytes; the limit is {}", argument.size(),
                           kMaxArgumentBytes);
  }
  if (TakesArgument(spec.kind) && argument.empty()) {
    return InvalidArgument("answer key lacks its argument: the field's name, or a pattern");
  }
  if (!TakesArgument(spec.kind) && !argument.empty()) {
    return InvalidArgument("answer key of this kind takes no argument, but has '{}'", argument);
  }
  auto rules = std::make_shared<Rules>();
  rules->spec = spec;
  if (spec.kind == AnswerKeySpec::Kind::kRegex) {
    auto pattern = CompilePattern(argument, kMaxProgram);
    if (!pattern.ok()) {
      return InvalidArgument("answer key's pattern {}", MessageOf(pattern.status()));
    }
    rules->pattern = *std::move(pattern);
    if (rules->pattern->NumberOfCapturingGroups() != 1) {
      return InvalidArgument("answer key's pattern has {} groups; it needs exactly one",
                             rules->pattern->NumberOfCapturingGroups());
    }
  }
  return AnswerKey(std::move(rules));
}

std::optional<std::string> AnswerKey::Find(std::string_view text) const {
  text = Tail(text);
  switch (rules_->spec.kind) {
    case AnswerKeySpec::Kind::kBoxed:
      return LastBoxed(text);
    case AnswerKeySpec::Kind::kAnswerLine:
      return LastAnswerLine(text);
    case AnswerKeySpec::Kind::kJsonField:
      return LastJsonField(text, rules_->spec.argument);
    case AnswerKeySpec::Kind::kRegex:
      return LastMatch(*rules_->pattern, text);
    case AnswerKeySpec::Kind::kLastLine:
      return LastLine(text);
    case AnswerKeySpec::Kind::kWholeText:
      return Trimmed(text);
  }
  CHECK(false);
}

std::optional<std::string> AnswerKey::Extract(std::string_view text) const {
  const std::optional<std::string> found = Find(text);
  if (!found) return std::nullopt;
  return NormaliseAnswer(*found);
}

const AnswerKeySpec& AnswerKey::spec() const { return rules_->spec; }

}  // namespace conclave
