#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "worker/text/template_ast.h"
#include "worker/text/template_lexer.h"

namespace conclave::worker {

// Reads the expressions of one template's tokens: recursive descent, in Jinja's order of
// precedence. Errors are "line N: ...".
class TemplateExpressionParser {
 public:
  using Expression = TemplateExpression;
  using Ptr = TemplateExpressionPtr;
  using Token = TemplateToken;

  // Most blocks and brackets in each other, and most operators of one statement: a chain like
  // "a.b.c ..." is evaluated and freed as deep as it is long.
  static constexpr int kMostDepth = 100;
  static constexpr int kMostNodes = 1000;

  explicit TemplateExpressionParser(std::vector<Token> tokens);

 protected:
  const Token& Peek(size_t ahead = 0) const;
  bool Take(Token::Kind kind, std::string_view text);
  bool Sign(std::string_view text) { return Take(Token::Kind::kSign, text); }
  bool Word(std::string_view text) { return Take(Token::Kind::kName, text); }
  absl::Status Error(const std::string& what) const;
  absl::Status Expect(Token::Kind kind, std::string_view text);
  absl::StatusOr<std::string> Name();
  // One more operator of this statement.
  absl::Status Count();

  absl::StatusOr<Ptr> Parse() { return Condition(true); }
  // Expressions with commas between them are a tuple.
  absl::StatusOr<Ptr> Tuple(bool with_condition);
  absl::StatusOr<Ptr> Condition(bool with_condition);
  absl::StatusOr<Ptr> Or();
  absl::StatusOr<Ptr> And();
  absl::StatusOr<Ptr> Not();
  absl::StatusOr<Ptr> Compare();
  absl::StatusOr<Ptr> Chain(size_t level);
  absl::StatusOr<Ptr> Unary(bool with_filters);
  absl::StatusOr<Ptr> Primary();
  absl::StatusOr<Ptr> Postfix(Ptr value);
  absl::StatusOr<Ptr> Filters(Ptr value);
  absl::StatusOr<Ptr> Filter(Ptr value);
  absl::StatusOr<Ptr> Test(Ptr value);
  absl::StatusOr<Ptr> Subscript(Ptr value);
  absl::StatusOr<Ptr> Call(Ptr value);
  absl::Status Arguments(Expression& call);
  absl::StatusOr<Ptr> Series(std::string_view close, Expression::Kind kind, int line);
  absl::StatusOr<Ptr> Binary(Ptr left, const std::string& op, absl::StatusOr<Ptr> right);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, nodes_ = 0;
};

}  // namespace conclave::worker
