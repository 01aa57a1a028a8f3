#include <algorithm>
#include <array>
#include <utility>

#include "common/status.h"
#include "worker/text/template_ast.h"
#include "worker/text/template_lexer.h"

namespace conclave::worker {
namespace {

using Expression = TemplateExpression;
using Ptr = TemplateExpressionPtr;
using Token = TemplateToken;
constexpr int kMostDepth = 100;
// Nodes of one statement's expressions: a chain like "a + b + c ..." nests without recursion here,
// but not where it is evaluated and freed.
constexpr int kMostNodes = 1000;

Ptr Make(Expression::Kind kind, std::string text, int line) {
  auto e = std::make_unique<Expression>();
  e->kind = kind;
  e->text = std::move(text);
  e->line = line;
  return e;
}

// Recursive descent, in Jinja's order of precedence.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {
    tokens_.push_back(
        {Token::Kind::kEndBlock, "end of the template", tokens_.empty() ? 1 : tokens_.back().line});
  }

  absl::StatusOr<std::vector<TemplateNode>> Run() {
    ASSIGN_OR_RETURN(auto nodes, Nodes({}));
    if (at_ + 1 != tokens_.size()) return Error(fmt::format("'{}' has no beginning", Peek(1).text));
    return nodes;
  }

 private:
  const Token& Peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool Sign(std::string_view text) { return Take(Token::Kind::kSign, text); }
  bool Word(std::string_view text) { return Take(Token::Kind::kName, text); }
  bool Take(Token::Kind kind, std::string_view text) {
    if (!Peek().Is(kind, text)) return false;
    ++at_;
    return true;
  }
  absl::Status Error(const std::string& what) const {
    return InvalidArgument("line {}: {}", Peek().line, what);
  }
  absl::Status Expect(Token::Kind kind, std::string_view text) {
    if (Peek().kind == kind && (text.empty() || Peek().text == text)) {
      ++at_;
      return absl::OkStatus();
    }
    return Error(fmt::format("'{}' stands where '{}' belongs", Peek().text,
                             text.empty() ? "the tag's end" : text));
  }
  absl::Status EndBlock() { return Expect(Token::Kind::kEndBlock, ""); }

  // Statements up to a block that begins with one of `until`, which stays.
  absl::StatusOr<std::vector<TemplateNode>> Nodes(const std::vector<std::string_view>& until) {
    if (++depth_ > kMostDepth) return Error("blocks are nested too deep");
    std::vector<TemplateNode> nodes;
    while (at_ + 1 < tokens_.size()) {
      const Token& token = Peek();
      TemplateNode node;
      node.line = token.line;
      nodes_ = 0;
      if (token.kind == Token::Kind::kText) {
        node.text = token.text;
        ++at_;
      } else if (token.kind == Token::Kind::kBeginPrint) {
        ++at_;
        node.kind = TemplateNode::Kind::kPrint;
        ASSIGN_OR_RETURN(node.value, Parse());
        RETURN_IF_ERROR(Expect(Token::Kind::kEndPrint, ""));
      } else {
        const std::string& word = Peek(1).text;
        if (std::find(until.begin(), until.end(), word) != until.end()) break;
        if (until.empty() && (word.starts_with("end") || word == "else" || word == "elif")) break;
        ++at_;
        ASSIGN_OR_RETURN(node, Block());
      }
      nodes.push_back(std::move(node));
    }
    --depth_;
    return nodes;
  }

  absl::StatusOr<TemplateNode> Block() {
    const int line = Peek().line;
    const std::string word = Peek().text;
    ++at_;
    absl::StatusOr<TemplateNode> node =
        word == "if"    ? If()
        : word == "for" ? For()
        : word == "set" ? Set()
                        : absl::StatusOr<TemplateNode>(InvalidArgument(
                              "line {}: the block '{}' is not interpreted", line, word));
    if (node.ok()) node->line = line;
    return node;
  }

  absl::Status Close(std::string_view word) {
    RETURN_IF_ERROR(Expect(Token::Kind::kBeginBlock, ""));
    RETURN_IF_ERROR(Expect(Token::Kind::kName, word));
    return EndBlock();
  }

  absl::StatusOr<TemplateNode> If() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kIf;
    for (bool more = true; more;) {
      ASSIGN_OR_RETURN(Ptr condition, Parse());
      node.conditions.push_back(std::move(condition));
      RETURN_IF_ERROR(EndBlock());
      ASSIGN_OR_RETURN(auto body, Nodes({"elif", "else", "endif"}));
      node.body.push_back(std::move(body));
      more = Peek(1).text == "elif";
      if (more) at_ += 2;
    }
    if (Peek(1).text == "else") {
      at_ += 2;
      RETURN_IF_ERROR(EndBlock());
      ASSIGN_OR_RETURN(auto body, Nodes({"endif"}));
      node.body.push_back(std::move(body));
    }
    RETURN_IF_ERROR(Close("endif"));
    return node;
  }

  absl::StatusOr<TemplateNode> For() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kFor;
    do {
      node.names.push_back(Peek().text);
      RETURN_IF_ERROR(
          Expect(Token::Kind::kName, Peek().kind == Token::Kind::kName ? Peek().text : "name"));
    } while (Sign(","));
    RETURN_IF_ERROR(Expect(Token::Kind::kName, "in"));
    ASSIGN_OR_RETURN(node.value, Or());
    if (Word("if")) {
      ASSIGN_OR_RETURN(node.filter, Parse());
    }
    RETURN_IF_ERROR(EndBlock());
    ASSIGN_OR_RETURN(auto body, Nodes({"else", "endfor"}));
    node.body.push_back(std::move(body));
    if (Peek(1).text == "else") {
      at_ += 2;
      RETURN_IF_ERROR(EndBlock());
      ASSIGN_OR_RETURN(auto otherwise, Nodes({"endfor"}));
      node.body.push_back(std::move(otherwise));
    }
    RETURN_IF_ERROR(Close("endfor"));
    return node;
  }

  absl::StatusOr<TemplateNode> Set() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kSet;
    std::string name = Peek().text;
    RETURN_IF_ERROR(Expect(Token::Kind::kName, Peek().kind == Token::Kind::kName ? name : "name"));
    if (Sign(".")) {
      name += "." + Peek().text;
      ++at_;
    }
    node.names.push_back(name);
    if (Sign("=")) {
      ASSIGN_OR_RETURN(node.value, Parse());
      RETURN_IF_ERROR(EndBlock());
      return node;
    }
    RETURN_IF_ERROR(EndBlock());
    ASSIGN_OR_RETURN(auto body, Nodes({"endset"}));
    node.body.push_back(std::move(body));
    RETURN_IF_ERROR(Close("endset"));
    return node;
  }

  absl::StatusOr<Ptr> Parse() {
    if (++depth_ > kMostDepth) return Error("an expression is nested too deep");
    ASSIGN_OR_RETURN(Ptr value, Or());
    if (Peek().Is(Token::Kind::kName, "if")) {
      Ptr condition = Make(Expression::Kind::kCondition, "if", Peek().line);
      ++at_;
      condition->parts.push_back(std::move(value));
      ASSIGN_OR_RETURN(Ptr test, Or());
      condition->parts.push_back(std::move(test));
      Ptr otherwise;
      if (Word("else")) {
        ASSIGN_OR_RETURN(otherwise, Parse());
      }
      condition->parts.push_back(std::move(otherwise));
      value = std::move(condition);
    }
    --depth_;
    return value;
  }

  absl::StatusOr<Ptr> Binary(Ptr left, const std::string& op, absl::StatusOr<Ptr> right) {
    RETURN_IF_ERROR(right.status());
    Ptr e = Make(Expression::Kind::kBinary, op, Peek().line);
    e->parts.push_back(std::move(left));
    e->parts.push_back(*std::move(right));
    return e;
  }

  absl::StatusOr<Ptr> Or() {
    ASSIGN_OR_RETURN(Ptr left, And());
    while (Word("or")) {
      ASSIGN_OR_RETURN(left, Binary(std::move(left), "or", And()));
    }
    return left;
  }
  absl::StatusOr<Ptr> And() {
    ASSIGN_OR_RETURN(Ptr left, Not());
    while (Word("and")) {
      ASSIGN_OR_RETURN(left, Binary(std::move(left), "and", Not()));
    }
    return left;
  }
  absl::StatusOr<Ptr> Not() {
    if (!Word("not")) return Compare();
    if (++depth_ > kMostDepth) return Error("an expression is nested too deep");
    Ptr e = Make(Expression::Kind::kUnary, "not", Peek().line);
    ASSIGN_OR_RETURN(Ptr operand, Not());
    e->parts.push_back(std::move(operand));
    --depth_;
    return e;
  }
  absl::StatusOr<Ptr> Compare() {
    ASSIGN_OR_RETURN(Ptr left, Chain(0));
    for (;;) {
      std::string op;
      if (Peek().kind == Token::Kind::kSign &&
          std::string_view(" == != < > <= >= ").find(" " + Peek().text + " ") !=
              std::string_view::npos) {
        op = Peek().text;
        ++at_;
      } else if (Peek().Is(Token::Kind::kName, "not") && Peek(1).Is(Token::Kind::kName, "in")) {
        op = "not in";
        at_ += 2;
      } else if (Word("in")) {
        op = "in";
      } else {
        return left;
      }
      ASSIGN_OR_RETURN(left, Binary(std::move(left), op, Chain(0)));
    }
  }
  // Left-associative levels: + and -, then ~, then * / // %.
  absl::StatusOr<Ptr> Chain(size_t level) {
    static constexpr std::array<std::string_view, 3> kLevels = {" + - ", " ~ ", " * / // % "};
    if (level == kLevels.size()) return Unary();
    ASSIGN_OR_RETURN(Ptr left, Chain(level + 1));
    while (Peek().kind == Token::Kind::kSign &&
           kLevels[level].find(" " + Peek().text + " ") != std::string_view::npos) {
      const std::string op = Peek().text;
      ++at_;
      ASSIGN_OR_RETURN(left, Binary(std::move(left), op, Chain(level + 1)));
    }
    return left;
  }
  absl::StatusOr<Ptr> Unary() {
    if (!Peek().Is(Token::Kind::kSign, "-") && !Peek().Is(Token::Kind::kSign, "+"))
      return Postfix();
    if (++depth_ > kMostDepth) return Error("an expression is nested too deep");
    Ptr e = Make(Expression::Kind::kUnary, Peek().text, Peek().line);
    ++at_;
    ASSIGN_OR_RETURN(Ptr operand, Unary());
    e->parts.push_back(std::move(operand));
    --depth_;
    return e;
  }

  absl::StatusOr<Ptr> Postfix() {
    ASSIGN_OR_RETURN(Ptr value, Primary());
    for (;;) {
      if (++nodes_ > kMostNodes) return Error("an expression is too long");
      const int line = Peek().line;
      if (Sign(".")) {
        Ptr e = Make(Expression::Kind::kAttribute, Peek().text, line);
        ++at_;
        e->parts.push_back(std::move(value));
        value = std::move(e);
      } else if (Sign("[")) {
        ASSIGN_OR_RETURN(value, Subscript(std::move(value), line));
      } else if (Sign("(")) {
        Ptr e = Make(Expression::Kind::kCall, "", line);
        e->parts.push_back(std::move(value));
        RETURN_IF_ERROR(Arguments(*e));
        value = std::move(e);
      } else if (Sign("|")) {
        ASSIGN_OR_RETURN(value, Named(Expression::Kind::kFilter, std::move(value), line));
      } else if (Word("is")) {
        const bool negated = Word("not");
        ASSIGN_OR_RETURN(value, Named(Expression::Kind::kTest, std::move(value), line));
        if (negated) {
          Ptr e = Make(Expression::Kind::kUnary, "not", line);
          e->parts.push_back(std::move(value));
          value = std::move(e);
        }
      } else {
        return value;
      }
    }
  }

  absl::StatusOr<Ptr> Named(Expression::Kind kind, Ptr value, int line) {
    Ptr e = Make(kind, Peek().text, line);
    RETURN_IF_ERROR(
        Expect(Token::Kind::kName, Peek().kind == Token::Kind::kName ? Peek().text : "name"));
    e->parts.push_back(std::move(value));
    if (Sign("(")) {
      RETURN_IF_ERROR(Arguments(*e));
    } else if (kind == Expression::Kind::kTest && (e->text == "in" || e->text == "equalto")) {
      ASSIGN_OR_RETURN(Ptr argument, Unary());
      e->parts.push_back(std::move(argument));
    }
    return e;
  }

  absl::StatusOr<Ptr> Subscript(Ptr value, int line) {
    Ptr e = Make(Expression::Kind::kItem, "", line);
    e->parts.push_back(std::move(value));
    for (;;) {
      Ptr bound;
      if (!Peek().Is(Token::Kind::kSign, ":") && !Peek().Is(Token::Kind::kSign, "]")) {
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

  absl::Status Arguments(Expression& call) {
    call.names.resize(call.parts.size());
    while (!Sign(")")) {
      std::string keyword;
      if (Peek().kind == Token::Kind::kName && Peek(1).Is(Token::Kind::kSign, "=")) {
        keyword = Peek().text;
        at_ += 2;
      }
      ASSIGN_OR_RETURN(Ptr argument, Parse());
      call.parts.push_back(std::move(argument));
      call.names.push_back(keyword);
      if (!Sign(",") && !Peek().Is(Token::Kind::kSign, ")"))
        return Error("arguments are not closed");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Ptr> Primary() {
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
    if (token.Is(Token::Kind::kSign, "(")) return Series(")", Expression::Kind::kList, token.line);
    if (token.Is(Token::Kind::kSign, "[")) return Series("]", Expression::Kind::kList, token.line);
    if (token.Is(Token::Kind::kSign, "{")) return Series("}", Expression::Kind::kDict, token.line);
    --at_;
    return Error(fmt::format("'{}' begins no expression", token.text));
  }

  // A list, a dictionary, a tuple, or an expression in brackets.
  absl::StatusOr<Ptr> Series(std::string_view close, Expression::Kind kind, int line) {
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
    if (close == ")" && !comma && e->parts.size() == 1) return std::move(e->parts[0]);
    return e;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, nodes_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<TemplateNode>> ParseTemplate(std::string_view source) {
  ASSIGN_OR_RETURN(auto tokens, LexTemplate(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace conclave::worker
