#include "worker/text/template_lexer.h"

#include <algorithm>
#include <cctype>

#include "common/status.h"

namespace conclave::worker {
namespace {

using Kind = TemplateToken::Kind;

constexpr std::string_view kSpace = " \t\n\r\f\v";

bool IsNameStart(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  absl::StatusOr<std::vector<TemplateToken>> Run() {
    while (at_ < source_.size()) RETURN_IF_ERROR(NextPiece());
    return std::move(tokens_);
  }

 private:
  // Literal text up to a tag, then the tag.
  absl::Status NextPiece() {
    size_t tag = at_;
    while (tag < source_.size() &&
           !(source_[tag] == '{' && tag + 1 < source_.size() &&
             std::string_view("{%#").find(source_[tag + 1]) != std::string_view::npos)) {
      ++tag;
    }
    std::string text(source_.substr(at_, tag - at_));
    if (trim_next_) text.erase(0, std::min(text.find_first_not_of(kSpace), text.size()));
    if (drop_newline_ && !text.empty() && text[0] == '\n') text.erase(0, 1);
    trim_next_ = drop_newline_ = false;
    const int line = line_;
    Advance(tag);
    if (tag == source_.size()) {
      AddText(text, line);
      return absl::OkStatus();
    }
    const char type = source_[tag + 1];
    const bool trim = tag + 2 < source_.size() && source_[tag + 2] == '-';
    if (trim) {
      text.erase(text.find_last_not_of(kSpace) + 1);
    } else if (type != '{' && !(tag + 2 < source_.size() && source_[tag + 2] == '+')) {
      StripIndent(tag, text);
    }
    AddText(text, line);
    Advance(tag + 2 + (trim || (tag + 2 < source_.size() && source_[tag + 2] == '+') ? 1 : 0));
    return type == '#' ? Comment() : Tag(type);
  }

  // lstrip_blocks: spaces between the start of a line and a block go.
  void StripIndent(size_t tag, std::string& text) const {
    size_t start = tag;
    while (start > 0 && (source_[start - 1] == ' ' || source_[start - 1] == '\t')) --start;
    if (start != 0 && source_[start - 1] != '\n') return;
    text.erase(text.size() - std::min(text.size(), tag - start));
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string_view::npos)
      return InvalidArgument("line {}: a comment has no end", line_);
    trim_next_ = end > at_ && source_[end - 1] == '-';
    Advance(end + 2);
    drop_newline_ = true;
    return absl::OkStatus();
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
      const bool dash = source_[at_] == '-' && source_.substr(at_ + 1, 2) == close;
      if (nesting == 0 && (dash || source_.substr(at_, 2) == close)) {
        Advance(at_ + (dash ? 3 : 2));
        trim_next_ = dash;
        drop_newline_ = !print;
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
    size_t end = at_ + 1;
    if (IsNameStart(c)) {
      while (end < source_.size() && (IsNameStart(source_[end]) || IsDigit(source_[end]))) ++end;
      Add(Kind::kName, source_.substr(at_, end - at_));
    } else if (IsDigit(c)) {
      bool point = false;
      while (end < source_.size() &&
             (IsDigit(source_[end]) || (!point && source_[end] == '.' && end + 1 < source_.size() &&
                                        IsDigit(source_[end + 1])))) {
        point = point || source_[end] == '.';
        ++end;
      }
      Add(point ? Kind::kFloat : Kind::kInteger, source_.substr(at_, end - at_));
    } else if (c == '\'' || c == '"') {
      return String(c);
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

  absl::Status String(char quote) {
    std::string text;
    const int line = line_;
    size_t end = at_ + 1;
    for (; end < source_.size() && source_[end] != quote; ++end) {
      char c = source_[end];
      if (c == '\\' && end + 1 < source_.size()) {
        c = source_[++end];
        c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
        if (std::string_view("\n\t\r\\'\"").find(c) == std::string_view::npos) text += '\\';
      }
      text += c;
    }
    if (end >= source_.size()) return InvalidArgument("line {}: a string has no end", line);
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

}  // namespace

absl::StatusOr<std::vector<TemplateToken>> LexTemplate(std::string_view source) {
  return Lexer(source).Run();
}

}  // namespace conclave::worker
