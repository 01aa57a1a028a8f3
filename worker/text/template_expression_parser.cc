#include <algorithm>
#include <array>
#include <utility>

#include "common/status.h"
#include "worker/text/template_parser.h"

namespace conclave::worker {
namespace {

using Expression = TemplateExpression;
using Ptr = TemplateExpressionPtr;
using Token = TemplateToken;

Ptr Make(Expression::Kind kind, std::string text, int line) {
  auto e = std::make_unique<Expression>();
  e->kind = kind;
  e->text = std::move(text);
  e->line = line;
  return e;
}

Ptr Over(Expression::Kind kind, std::string text, int line, Ptr operand) {
  Ptr e = Make(kind, std::move(text), line);
  e->parts.push_back(std::move(operand));
  return e;
}

bool OneOf(const Token& token, std::string_view spaced) {
  return token.kind == Token::Kind::kSign &&
         spaced.find(" " + token.text + " ") != std::string_view::npos;
}

}  // namespace

TemplateExpressionParser::TemplateExpressionParser(std::vector<Token> tokens)
    : tokens_(std::move(tokens)) {
  tokens_.push_back(
      {Token::Kind::kEndBlock, "end of the template", tokens_.empty() ? 1 : tokens_.back().line});
}

const Token& TemplateExpressionParser::Peek(size_t ahead) const {
  return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
}

bool TemplateExpressionParser::Take(Token::Kind kind, std::string_view text) {
  if (!Peek().Is(kind, text)) return false;
  ++at_;
  return true;
}

absl::Status TemplateExpressionParser::Error(const std::string& what) const {
  return InvalidArgument("line {}: {}", Peek().line, what);
}

absl::Status TemplateExpressionParser::Expect(Token::Kind kind, std::string_view text) {
  if (Peek().kind == kind && (text.empty() || Peek().text == text)) {
    ++at_;
    return absl::OkStatus();
  }
  return Error(fmt::format("'{}' stands where '{}' belongs", Peek().text,
                           text.empty() ? "the tag's end" : text));
}

absl::StatusOr<std::string> TemplateExpressionParser::Name() {
  if (Peek().kind != Token::Kind::kName) {
    return Error(fmt::format("'{}' stands where a name belongs", Peek().text));
  }
  return tokens_[at_++].text;
}

absl::Status TemplateExpressionParser::Count() {
  return ++nodes_ > kMostNodes ? Error("an expression is too long") : absl::OkStatus();
}

absl::StatusOr<Ptr> TemplateExpressionParser::Tuple(bool with_condition) {
  const int line = Peek().line;
  ASSIGN_OR_RETURN(Ptr first, Condition(with_condition));
  if (!Peek().Is(Token::Kind::kSign, ",")) return first;
  Ptr tuple = Over(Expression::Kind::kTuple, "", line, std::move(first));
  while (Sign(",")) {
    const Token::Kind next = Peek().kind;
    if (next == Token::Kind::kEndBlock || next == Token::Kind::kEndPrint ||
        Peek().Is(Token::Kind::kSign, "=")) {
      break;
    }
    ASSIGN_OR_RETURN(Ptr part, Condition(with_condition));
    tuple->parts.push_back(std::move(part));
  }
  return tuple;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Condition(bool with_condition) {
  if (++depth_ > kMostDepth) return Error("an expression is nested too deep");
  ASSIGN_OR_RETURN(Ptr value, Or());
  while (with_condition && Peek().Is(Token::Kind::kName, "if")) {
    RETURN_IF_ERROR(Count());
    Ptr condition = Over(Expression::Kind::kCondition, "if", Peek().line, std::move(value));
    ++at_;
    ASSIGN_OR_RETURN(Ptr test, Or());
    condition->parts.push_back(std::move(test));
    Ptr otherwise;
    if (Word("else")) {
      ASSIGN_OR_RETURN(otherwise, Condition(true));
    }
    condition->parts.push_back(std::move(otherwise));
    value = std::move(condition);
  }
  --depth_;
  return value;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Binary(Ptr left, const std::string& op,
                                                     absl::StatusOr<Ptr> right) {
  RETURN_IF_ERROR(right.status());
  RETURN_IF_ERROR(Count());
  const int line = left->line;
  Ptr e = Over(Expression::Kind::kBinary, op, line, std::move(left));
  e->parts.push_back(*std::move(right));
  return e;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Or() {
  ASSIGN_OR_RETURN(Ptr left, And());
  while (Word("or")) {
    ASSIGN_OR_RETURN(left, Binary(std::move(left), "or", And()));
  }
  return left;
}

absl::StatusOr<Ptr> TemplateExpressionParser::And() {
  ASSIGN_OR_RETURN(Ptr left, Not());
  while (Word("and")) {
    ASSIGN_OR_RETURN(left, Binary(std::move(left), "and", Not()));
  }
  return left;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Not() {
  // "not in" belongs to a comparison; a name "not" is no variable.
  if (!Word("not")) return Compare();
  if (++depth_ > kMostDepth) return Error("an expression is nested too deep");
  const int line = Peek().line;
  ASSIGN_OR_RETURN(Ptr operand, Not());
  --depth_;
  return Over(Expression::Kind::kUnary, "not", line, std::move(operand));
}

absl::StatusOr<Ptr> TemplateExpressionParser::Compare() {
  ASSIGN_OR_RETURN(Ptr value, Chain(0));
  for (;;) {
    std::string op;
    if (OneOf(Peek(), " == != < > <= >= ")) {
      op = Peek().text;
      ++at_;
    } else if (Peek().Is(Token::Kind::kName, "not") && Peek(1).Is(Token::Kind::kName, "in")) {
      op = "not in";
      at_ += 2;
    } else if (Word("in")) {
      op = "in";
    } else {
      return value;
    }
    RETURN_IF_ERROR(Count());
    if (value->kind != Expression::Kind::kCompare || value->text != "open") {
      const int line = value->line;
      value = Over(Expression::Kind::kCompare, "open", line, std::move(value));
    }
    ASSIGN_OR_RETURN(Ptr right, Chain(0));
    value->parts.push_back(std::move(right));
    value->names.push_back(op);
  }
}

// Left-associative levels: + and -, then ~, then * / // %, then **.
absl::StatusOr<Ptr> TemplateExpressionParser::Chain(size_t level) {
  static constexpr std::array<std::string_view, 4> kLevels = {" + - ", " ~ ", " * / // % ", " ** "};
  if (level == kLevels.size()) return Unary(true);
  ASSIGN_OR_RETURN(Ptr left, Chain(level + 1));
  while (OneOf(Peek(), kLevels[level])) {
    const std::string op = Peek().text;
    ++at_;
    ASSIGN_OR_RETURN(left, Binary(std::move(left), op, Chain(level + 1)));
  }
  return left;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Unary(bool with_filters) {
  Ptr value;
  if (OneOf(Peek(), " - + ")) {
    if (++depth_ > kMostDepth) return Error("an expression is nested too deep");
    const Token sign = Peek();
    ++at_;
    ASSIGN_OR_RETURN(Ptr operand, Unary(false));
    value = Over(Expression::Kind::kUnary, sign.text, sign.line, std::move(operand));
    --depth_;
  } else {
    ASSIGN_OR_RETURN(value, Primary());
  }
  ASSIGN_OR_RETURN(value, Postfix(std::move(value)));
  if (!with_filters) return value;
  return Filters(std::move(value));
}

absl::StatusOr<Ptr> TemplateExpressionParser::Postfix(Ptr value) {
  for (;;) {
    const int line = Peek().line;
    if (Sign(".")) {
      RETURN_IF_ERROR(Count());
      const Token token = Peek();
      ++at_;
      if (token.kind == Token::Kind::kInteger) {
        value = Over(Expression::Kind::kItem, "", line, std::move(value));
        value->parts.push_back(Make(Expression::Kind::kInteger, token.text, line));
      } else if (token.kind == Token::Kind::kName) {
        value = Over(Expression::Kind::kAttribute, token.text, line, std::move(value));
      } else {
        --at_;
        return Error(fmt::format("'{}' is no attribute", token.text));
      }
    } else if (Sign("[")) {
      RETURN_IF_ERROR(Count());
      ASSIGN_OR_RETURN(value, Subscript(std::move(value)));
    } else if (Peek().Is(Token::Kind::kSign, "(")) {
      ASSIGN_OR_RETURN(value, Call(std::move(value)));
    } else {
      return value;
    }
  }
}

absl::StatusOr<Ptr> TemplateExpressionParser::Filters(Ptr value) {
  for (;;) {
    if (Sign("|")) {
      ASSIGN_OR_RETURN(value, Filter(std::move(value)));
    } else if (Word("is")) {
      ASSIGN_OR_RETURN(value, Test(std::move(value)));
    } else if (Peek().Is(Token::Kind::kSign, "(")) {
      ASSIGN_OR_RETURN(value, Call(std::move(value)));
    } else {
      return value;
    }
  }
}

absl::StatusOr<Ptr> TemplateExpressionParser::Filter(Ptr value) {
  RETURN_IF_ERROR(Count());
  const int line = Peek().line;
  ASSIGN_OR_RETURN(std::string name, Name());
  Ptr e = Over(Expression::Kind::kFilter, std::move(name), line, std::move(value));
  if (Sign("(")) RETURN_IF_ERROR(Arguments(*e));
  return e;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Test(Ptr value) {
  RETURN_IF_ERROR(Count());
  const int line = Peek().line;
  const bool negated = Word("not");
  ASSIGN_OR_RETURN(std::string name, Name());
  Ptr e = Over(Expression::Kind::kTest, std::move(name), line, std::move(value));
  const Token& next = Peek();
  const bool begins = next.kind == Token::Kind::kString || next.kind == Token::Kind::kInteger ||
                      next.kind == Token::Kind::kFloat || OneOf(next, " [ { ") ||
                      (next.kind == Token::Kind::kName &&
                       std::string_view(" else or and if in is not ").find(" " + next.text + " ") ==
                           std::string_view::npos);
  if (Sign("(")) {
    RETURN_IF_ERROR(Arguments(*e));
  } else if (begins) {
    ASSIGN_OR_RETURN(Ptr argument, Primary());
    ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    e->parts.push_back(std::move(argument));
    e->names.emplace_back();
  }
  return negated ? Over(Expression::Kind::kUnary, "not", line, std::move(e)) : std::move(e);
}

absl::StatusOr<Ptr> TemplateExpressionParser::Subscript(Ptr value) {
  Ptr e = Over(Expression::Kind::kItem, "", Peek().line, std::move(value));
  for (;;) {
    Ptr bound;
    if (!OneOf(Peek(), " : ] ")) {
      ASSIGN_OR_RETURN(bound, Parse());
    }
    e->parts.push_back(std::move(bound));
    if (!Sign(":")) break;
    e->kind = Expression::Kind::kSlice;
  }
  RETURN_IF_ERROR(Expect(Token::Kind::kSign, "]"));
  if (e->parts.size() > 4 || (e->kind == Expression::Kind::kItem && e->parts[1] == nullptr)) {
    return Error("a subscript is malformed");
  }
  if (e->kind == Expression::Kind::kSlice) e->parts.resize(4);
  return e;
}

absl::StatusOr<Ptr> TemplateExpressionParser::Call(Ptr value) {
  RETURN_IF_ERROR(Count());
  Ptr e = Over(Expression::Kind::kCall, "", Peek().line, std::move(value));
  ++at_;  // The bracket.
  RETURN_IF_ERROR(Arguments(*e));
  return e;
}

absl::Status TemplateExpressionParser::Arguments(Expression& call) {
  while (!Sign(")")) {
    std::string keyword;
    if (Peek().kind == Token::Kind::kName && Peek(1).Is(Token::Kind::kSign, "=")) {
      keyword = Peek().text;
      at_ += 2;
    } else if (OneOf(Peek(), " * ** ")) {
      keyword = Peek().text;
      ++at_;
    }
    RETURN_IF_ERROR(Count());
    ASSIGN_OR_RETURN(Ptr argument, Parse());
    call.parts.push_back(std::move(argument));
    call.names.push_back(keyword);
    if (!Sign(",") && !Peek().Is(Token::Kind::kSign, ")")) return Error("arguments are not closed");
  }
  return absl::OkStatus();
}

absl::StatusOr<Ptr> TemplateExpressionParser::Primary() {
  const Token token = Peek();
  ++at_;
  switch (token.kind) {
    case Token::Kind::kString: {
      Ptr e = Make(Expression::Kind::kText, token.text, token.line);
      while (Peek().kind == Token::Kind::kString) e->text += Peek().text, ++at_;
      return e;
    }
    case Token::Kind::kInteger:
      return Make(Expression::Kind::kInteger, token.text, token.line);
    case Token::Kind::kFloat:
      return Make(Expression::Kind::kFloat, token.text, token.line);
    case Token::Kind::kName:
      return Make(Expression::Kind::kName, token.text, token.line);
    default:
      break;
  }
  if (token.Is(Token::Kind::kSign, "(")) return Series(")", Expression::Kind::kTuple, token.line);
  if (token.Is(Token::Kind::kSign, "[")) return Series("]", Expression::Kind::kList, token.line);
  if (token.Is(Token::Kind::kSign, "{")) return Series("}", Expression::Kind::kDict, token.line);
  --at_;
  return Error(fmt::format("'{}' begins no expression", token.text));
}

// A list, a dictionary, a tuple, or an expression in brackets.
absl::StatusOr<Ptr> TemplateExpressionParser::Series(std::string_view close, Expression::Kind kind,
                                                     int line) {
  Ptr e = Make(kind, "", line);
  bool comma = false;
  while (!Sign(close)) {
    ASSIGN_OR_RETURN(Ptr part, Parse());
    e->parts.push_back(std::move(part));
    if (kind == Expression::Kind::kDict) {
      RETURN_IF_ERROR(Expect(Token::Kind::kSign, ":"));
      ASSIGN_OR_RETURN(Ptr value, Parse());
      e->parts.push_back(std::move(value));
    }
    if (Sign(",")) {
      comma = true;
    } else if (!Peek().Is(Token::Kind::kSign, close)) {
      return Error(fmt::format("'{}' is missing", close));
    }
  }
  if (kind != Expression::Kind::kTuple || comma || e->parts.size() != 1) return e;
  if (e->parts[0]->kind == Expression::Kind::kCompare) e->parts[0]->text = "closed";
  return std::move(e->parts[0]);
}

}  // namespace conclave::worker
