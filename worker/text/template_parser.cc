#include "worker/text/template_parser.h"

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

using Ptr = TemplateExpressionPtr;
using Token = TemplateToken;

// The statements of a template.
class Parser : private TemplateExpressionParser {
 public:
  using TemplateExpressionParser::TemplateExpressionParser;

  absl::StatusOr<std::vector<TemplateNode>> Run() {
    ASSIGN_OR_RETURN(auto nodes, Nodes({}));
    if (at_ + 1 != tokens_.size()) return Error(fmt::format("'{}' has no beginning", Peek(1).text));
    return nodes;
  }

 private:
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
        ASSIGN_OR_RETURN(node.value, Tuple(true));
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
    ASSIGN_OR_RETURN(const std::string word, Name());
    using Method = absl::StatusOr<TemplateNode> (Parser::*)();
    static constexpr std::pair<std::string_view, Method> kBlocks[] = {
        {"if", &Parser::If},          {"for", &Parser::For},
        {"set", &Parser::Set},        {"macro", &Parser::Macro},
        {"call", &Parser::CallBlock}, {"filter", &Parser::FilterBlock},
        {"with", &Parser::With},      {"generation", &Parser::Generation},
        {"break", &Parser::Break},    {"continue", &Parser::Continue}};
    for (const auto& [name, parse] : kBlocks) {
      if (word != name) continue;
      absl::StatusOr<TemplateNode> node = (this->*parse)();
      if (node.ok()) node->line = line;
      return node;
    }
    return InvalidArgument("line {}: the block '{}' is not interpreted", line, word);
  }

  // The body up to `end`, and the block `end` itself.
  absl::Status Body(TemplateNode& node, std::string_view end) {
    ASSIGN_OR_RETURN(auto body, Nodes({end}));
    node.body.push_back(std::move(body));
    return Close(end);
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
      ASSIGN_OR_RETURN(Ptr condition, Tuple(false));
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

  absl::StatusOr<TemplateTarget> OneTarget() {
    TemplateTarget target;
    if (Sign("(")) {
      ASSIGN_OR_RETURN(target, Targets());
      RETURN_IF_ERROR(Expect(Token::Kind::kSign, ")"));
      return target;
    }
    ASSIGN_OR_RETURN(target.name, Name());
    if (Sign(".")) {
      ASSIGN_OR_RETURN(target.field, Name());
    }
    return target;
  }
  absl::StatusOr<TemplateTarget> Targets() {
    if (++depth_ > kMostDepth) return Error("names are nested too deep");
    ASSIGN_OR_RETURN(TemplateTarget first, OneTarget());
    --depth_;
    if (!Peek().Is(Token::Kind::kSign, ",")) return first;
    TemplateTarget all;
    all.parts.push_back(std::move(first));
    while (Sign(",")) {
      if (Peek().kind != Token::Kind::kName && !Peek().Is(Token::Kind::kSign, "(")) break;
      ASSIGN_OR_RETURN(TemplateTarget next, OneTarget());
      all.parts.push_back(std::move(next));
    }
    return all;
  }

  absl::StatusOr<TemplateNode> For() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kFor;
    ASSIGN_OR_RETURN(node.target, Targets());
    RETURN_IF_ERROR(Expect(Token::Kind::kName, "in"));
    ASSIGN_OR_RETURN(node.value, Tuple(false));
    if (Word("if")) {
      ASSIGN_OR_RETURN(node.filter, Parse());
    }
    node.recursive = Word("recursive");
    RETURN_IF_ERROR(EndBlock());
    ++loops_;
    ASSIGN_OR_RETURN(auto body, Nodes({"else", "endfor"}));
    --loops_;
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
    ASSIGN_OR_RETURN(node.target, Targets());
    if (Sign("=")) {
      ASSIGN_OR_RETURN(node.value, Tuple(true));
      RETURN_IF_ERROR(EndBlock());
      return node;
    }
    while (Sign("|")) {
      ASSIGN_OR_RETURN(node.filter, Filter(std::move(node.filter)));
    }
    RETURN_IF_ERROR(EndBlock());
    RETURN_IF_ERROR(Body(node, "endset"));
    return node;
  }

  // "(a, b=1)" behind a macro's name or a call.
  absl::Status Parameters(TemplateNode& node) {
    while (!Sign(")")) {
      ASSIGN_OR_RETURN(std::string name, Name());
      node.parameters.push_back(std::move(name));
      if (Sign("=")) {
        ASSIGN_OR_RETURN(Ptr value, Parse());
        node.defaults.push_back(std::move(value));
      } else if (!node.defaults.empty()) {
        return Error("a parameter without a default follows one that has it");
      }
      if (!Sign(",") && !Peek().Is(Token::Kind::kSign, ")")) {
        return Error("parameters are not closed");
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<TemplateNode> Macro() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kMacro;
    ASSIGN_OR_RETURN(node.text, Name());
    RETURN_IF_ERROR(Expect(Token::Kind::kSign, "("));
    RETURN_IF_ERROR(Parameters(node));
    RETURN_IF_ERROR(EndBlock());
    const int loops = std::exchange(loops_, 0);
    RETURN_IF_ERROR(Body(node, "endmacro"));
    loops_ = loops;
    return node;
  }

  absl::StatusOr<TemplateNode> CallBlock() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kCall;
    node.text = "caller";
    if (Sign("(")) RETURN_IF_ERROR(Parameters(node));
    ASSIGN_OR_RETURN(node.value, Parse());
    if (node.value->kind != TemplateExpression::Kind::kCall) {
      return Error("the block 'call' needs a call");
    }
    RETURN_IF_ERROR(EndBlock());
    const int loops = std::exchange(loops_, 0);
    RETURN_IF_ERROR(Body(node, "endcall"));
    loops_ = loops;
    return node;
  }

  absl::StatusOr<TemplateNode> FilterBlock() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kFilter;
    do {
      ASSIGN_OR_RETURN(node.filter, Filter(std::move(node.filter)));
    } while (Sign("|"));
    RETURN_IF_ERROR(EndBlock());
    RETURN_IF_ERROR(Body(node, "endfilter"));
    return node;
  }

  absl::StatusOr<TemplateNode> With() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kScope;
    while (Peek().kind != Token::Kind::kEndBlock) {
      ASSIGN_OR_RETURN(std::string name, Name());
      node.parameters.push_back(std::move(name));
      RETURN_IF_ERROR(Expect(Token::Kind::kSign, "="));
      ASSIGN_OR_RETURN(Ptr value, Parse());
      node.defaults.push_back(std::move(value));
      if (!Sign(",")) break;
    }
    RETURN_IF_ERROR(EndBlock());
    RETURN_IF_ERROR(Body(node, "endwith"));
    return node;
  }

  // What the assistant says, marked for training: nothing but its body is rendered.
  absl::StatusOr<TemplateNode> Generation() {
    TemplateNode node;
    node.kind = TemplateNode::Kind::kScope;
    RETURN_IF_ERROR(EndBlock());
    RETURN_IF_ERROR(Body(node, "endgeneration"));
    return node;
  }

  absl::StatusOr<TemplateNode> Break() { return Jump(TemplateNode::Kind::kBreak); }
  absl::StatusOr<TemplateNode> Continue() { return Jump(TemplateNode::Kind::kContinue); }
  absl::StatusOr<TemplateNode> Jump(TemplateNode::Kind kind) {
    if (loops_ == 0) return Error("a jump out of a loop stands outside of every loop");
    TemplateNode node;
    node.kind = kind;
    RETURN_IF_ERROR(EndBlock());
    return node;
  }

  int loops_ = 0;  // Around the statement at hand.
};

}  // namespace

absl::StatusOr<std::vector<TemplateNode>> ParseTemplate(std::string_view source) {
  ASSIGN_OR_RETURN(auto tokens, LexTemplate(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace conclave::worker
