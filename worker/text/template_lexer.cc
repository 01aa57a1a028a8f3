#include "worker/text/template_lexer.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "common/status.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Kind = TemplateToken::Kind;

constexpr std::string_view kSpace = " \t\n\r\f\v";

bool IsNameStart(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The value of one of Python's string literals without its quotes. Unknown escapes stay.
std::string Unescaped(std::string_view literal) {
  static constexpr std::string_view kSimple = "n\nt\tr\ra\ab\bf\fv\v\\\\''\"\"";
  std::string text;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] != '\\' || i + 1 == literal.size()) {
      text += literal[i];
      continue;
    }
    const char c = literal[++i];
    size_t simple = 0;
    while (simple < kSimple.size() && kSimple[simple] != c) simple += 2;
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    uint32_t code = 0;
    if (simple < kSimple.size()) {
      text += kSimple[simple + 1];
    } else if (c == '\n') {  // Goes with its backslash.
    } else if (c >= '0' && c <= '7') {
      size_t end = i;
      for (; end < literal.size() && end < i + 3 && literal[end] >= '0' && literal[end] <= '7';
           ++end) {
        code = code * 8 + static_cast<uint32_t>(literal[end] - '0');
      }
      AppendUtf8(code, text);
      i = end - 1;
    } else if (digits > 0 && i + digits < literal.size() &&
               std::from_chars(literal.data() + i + 1, literal.data() + i + 1 + digits, code, 16)
                       .ptr == literal.data() + i + 1 + digits &&
               code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF)) {
      AppendUtf8(code, text);
      i += digits;
    } else {
      text += {'\\', c};
    }
  }
  return text;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  absl::StatusOr<std::vector<TemplateToken>> Run() {
    while (at_ < source_.size()) RETURN_IF_ERROR(NextPiece());
    return std::move(tokens_);
  }

 private:
  char At(size_t at) const { return at < source_.size() ? source_[at] : '\0'; }

  // Where the next tag begins.
  size_t NextTag(size_t from) const {
    for (size_t tag = source_.find('{', from); tag != std::string_view::npos;
         tag = source_.find('{', tag + 1)) {
      const char type = At(tag + 1);
      if (type == '{' || type == '%' || type == '#') return tag;
    }
    return source_.size();
  }

  // Literal text up to a tag, then the tag.
  absl::Status NextPiece() {
    const size_t tag = NextTag(at_);
    std::string text = Literal(tag);
    const int line = line_;
    Advance(tag);
    if (tag == source_.size()) {
      AddText(text, line);
      return absl::OkStatus();
    }
    const char type = source_[tag + 1], sign = At(tag + 2);
    TrimBefore(tag, type, sign, text);
    AddText(text, line);
    Advance(tag + 2 + (sign == '-' || sign == '+' ? 1 : 0));
    if (type == '#') return Comment();
    if (type == '%' && IsWord(at_, "raw")) return Raw();
    return Tag(type);
  }

  // The text up to `tag`, without what the tag before it takes.
  std::string Literal(size_t tag) {
    std::string text(source_.substr(at_, tag - at_));
    if (trim_next_) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
    if (drop_newline_ && !text.empty() && text[0] == '\n') text.erase(0, 1);
    trim_next_ = drop_newline_ = false;
    return text;
  }

  void TrimBefore(size_t tag, char type, char sign, std::string& text) const {
    if (sign == '-') {
      text.erase(text.find_last_not_of(kSpace) + 1);
    } else if (type != '{' && sign != '+') {
      StripIndent(tag, text);
    }
  }

  // lstrip_blocks: white space between the start of a line and a block goes.
  void StripIndent(size_t tag, std::string& text) const {
    size_t start = tag;
    while (start > 0 && source_[start - 1] != '\n' &&
           kSpace.find(source_[start - 1]) != std::string_view::npos) {
      --start;
    }
    if (start != 0 && source_[start - 1] != '\n') return;
    text.erase(text.size() - std::min(text.size(), tag - start));
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos)
      return InvalidArgument("line {}: a comment has no end", line_);
    const char sign = end > at_ ? source_[end - 1] : '\0';
    trim_next_ = sign == '-';
    drop_newline_ = sign != '+';
    Advance(end + 2);
    return absl::OkStatus();
  }

  // Whether a block of this one word ends at `at`, its end included; then `end` is behind it.
  bool IsWord(size_t at, std::string_view word, size_t* end = nullptr, char* sign = nullptr) const {
    const auto skip_space = [&] {
      while (at < source_.size() && kSpace.find(source_[at]) != std::string_view::npos) ++at;
    };
    skip_space();
    if (source_.substr(at, word.size()) != word) return false;
    at += word.size();
    skip_space();
    const char found = At(at) == '-' || At(at) == '+' ? At(at) : '\0';
    if (found != '\0') ++at;
    if (source_.substr(at, 2) != "%}") return false;
    if (end != nullptr) *end = at + 2;
    if (sign != nullptr) *sign = found;
    return true;
  }

  // Everything up to {% endraw %} is text.
  absl::Status Raw() {
    const int line = line_;
    size_t end = 0;
    char sign = '\0';
    IsWord(at_, "raw", &end, &sign);
    Advance(end);
    trim_next_ = sign == '-';
    drop_newline_ = sign != '+';
    for (size_t tag = source_.find("{%", at_); tag != std::string_view::npos;
         tag = source_.find("{%", tag + 1)) {
      const char before = At(tag + 2);
      if (!IsWord(tag + (before == '-' || before == '+' ? 3 : 2), "endraw", &end, &sign)) continue;
      std::string text = Literal(tag);
      TrimBefore(tag, '%', before, text);
      AddText(text, line);
      Advance(end);
      trim_next_ = sign == '-';
      drop_newline_ = sign != '+';
      return absl::OkStatus();
    }
    return InvalidArgument("line {}: the block 'raw' has no end", line);
  }

  absl::Status Tag(char type) {
    const bool print = type == '{';
    Add(print ? Kind::kBeginPrint : Kind::kBeginBlock, "");
    const std::string_view close = print ? "}}" : "%}";
    int nesting = 0;
    for (;;) {
      while (at_ < source_.size() && kSpace.find(source_[at_]) != std::string_view::npos)
        Advance(at_ + 1);
      if (at_ >= source_.size()) return InvalidArgument("line {}: a tag has no end", line_);
      const char sign = source_[at_];
      const bool signed_end =
          (sign == '-' || (sign == '+' && !print)) && source_.substr(at_ + 1, 2) == close;
      if (nesting == 0 && (signed_end || source_.substr(at_, 2) == close)) {
        Advance(at_ + (signed_end ? 3 : 2));
        trim_next_ = signed_end && sign == '-';
        drop_newline_ = !print && !signed_end;
        Add(print ? Kind::kEndPrint : Kind::kEndBlock, "");
        return absl::OkStatus();
      }
      RETURN_IF_ERROR(Token());
      if (tokens_.back().kind == Kind::kSign) {
        const char c = tokens_.back().text[0];
        nesting += c == '(' || c == '[' || c == '{' ? 1 : c == ')' || c == ']' || c == '}' ? -1 : 0;
      }
    }
  }

  absl::Status Token() {
    const char c = source_[at_];
    if (IsDigit(c)) return Number();
    if (c == '\'' || c == '"') return String(c);
    size_t end = at_ + 1;
    if (IsNameStart(c)) {
      while (IsNameStart(At(end)) || IsDigit(At(end))) ++end;
      Add(Kind::kName, source_.substr(at_, end - at_));
    } else {
      const std::string_view two = source_.substr(at_, 2);
      const bool pair =
          two == "==" || two == "!=" || two == "<=" || two == ">=" || two == "//" || two == "**";
      if (!pair && std::string_view("()[]{}.,:|+-*/%~<>=").find(c) == std::string_view::npos) {
        return InvalidArgument("line {}: '{}' is no part of an expression", line_, c);
      }
      end = at_ + (pair ? 2 : 1);
      Add(Kind::kSign, source_.substr(at_, end - at_));
    }
    Advance(end);
    return absl::OkStatus();
  }

  // Digits with _ between them; behind a point ("a.0.1") an index, never a fraction.
  absl::Status Number() {
    const bool index = at_ > 0 && source_[at_ - 1] == '.';
    std::string digits;
    size_t end = at_;
    const auto take = [&] {
      while (IsDigit(At(end)) || (At(end) == '_' && IsDigit(At(end + 1)))) {
        if (source_[end] != '_') digits += source_[end];
        ++end;
      }
    };
    take();
    bool fraction = false;
    if (!index && At(end) == '.' && IsDigit(At(end + 1))) {
      fraction = true;
      digits += source_[end++];
      take();
    }
    const size_t sign = At(end + 1) == '+' || At(end + 1) == '-' ? 1 : 0;
    if (!index && (At(end) == 'e' || At(end) == 'E') && IsDigit(At(end + 1 + sign))) {
      fraction = true;
      digits.append(source_.substr(end, 1 + sign));
      end += 1 + sign;
      take();
    }
    Add(fraction ? Kind::kFloat : Kind::kInteger, digits);
    Advance(end);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    const int line = line_;
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return InvalidArgument("line {}: a string has no end", line);
    std::string text = Unescaped(source_.substr(at_ + 1, end - at_ - 1));
    Advance(end + 1);
    tokens_.push_back({Kind::kString, std::move(text), line});
    return absl::OkStatus();
  }

  void AddText(const std::string& text, int line) {
    if (!text.empty()) tokens_.push_back({Kind::kText, text, line});
  }
  void Add(Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }
  void Advance(size_t to) {
    to = std::min(to, source_.size());
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + to, '\n'));
    at_ = to;
  }

  const std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool trim_next_ = false, drop_newline_ = false;
  std::vector<TemplateToken> tokens_;
};

// Jinja reads all kinds of line ends as "\n", and drops the last of the file.
std::string WithPlainLines(std::string_view source) {
  std::string plain;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
      plain += '\n';
    } else {
      plain += source[i];
    }
  }
  if (plain.ends_with('\n')) plain.pop_back();
  return plain;
}

}  // namespace

absl::StatusOr<std::vector<TemplateToken>> LexTemplate(std::string_view source) {
  if (const size_t at = FirstInvalidUtf8(source); at < source.size()) {
    return InvalidArgument("the template is not valid UTF-8 at byte {}", at);
  }
  const std::string plain = WithPlainLines(source);
  return Lexer(plain).Run();
}

}  // namespace conclave::worker
