#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/text/chat_template.h"
#include "worker/text/template_ast.h"
#include "worker/text/template_value.h"

namespace conclave::worker {

// The variables of one block. Those of macros look further in the scope where they were defined.
struct TemplateScope {
  TemplateScope* parent = nullptr;
  absl::flat_hash_map<std::string, TemplateValue> variables;
  bool captured = false;  // A macro remembers it: it outlives its block.
};

struct TemplateArguments {
  TemplateItems positional;
  std::vector<std::pair<std::string, TemplateValue>> named;
};

// Runs one template once, within limits. Statements are in template_interpreter.cc, expressions in
// template_evaluator.cc, calls in template_calls.cc. One thread.
class TemplateMachine {
 public:
  using Value = TemplateValue;
  using Expression = TemplateExpression;

  TemplateMachine(std::map<std::string, Value> globals, int64_t time_of_day,
                  const TemplateLimits& limits);
  absl::StatusOr<MarkedString> Run(const std::vector<TemplateNode>& nodes);

  // For filters, methods and tests. What was made is paid for before anybody sees it:
  // kResourceExhausted beyond the limits.
  absl::Status Spend(int64_t steps);
  // Before `part` bytes are looked for in `bytes`: a search may try them at every place.
  absl::Status SpendSearch(size_t bytes, size_t part);
  // Before a text is taken apart: each part becomes a value.
  absl::Status SpendParts(size_t parts) { return Spend(kStepsAPart * static_cast<int64_t>(parts)); }
  absl::StatusOr<Value> Made(Value value);
  absl::StatusOr<Value> Made(MarkedString text) { return Made(Value(std::move(text))); }
  absl::StatusOr<Value> MadeList(TemplateItems items,
                                 TemplateList::Kind kind = TemplateList::Kind::kList) {
    return Made(MakeTemplateList(kind, std::move(items)));
  }
  // Python's str().
  absl::StatusOr<MarkedString> TextOf(const Value& value);
  // What a loop goes over: elements, keys, characters. Uses up generators.
  absl::StatusOr<TemplateItems> ItemsOf(const Value& value);
  absl::StatusOr<Value> Attribute(const Value& value, const std::string& name);
  absl::StatusOr<Value> Item(const Value& value, const Value& key);
  absl::StatusOr<Value> Call(const Value& callee, TemplateArguments args);
  size_t most_bytes() const { return limits_.output_bytes; }

 private:
  class Inside;  // Enters a scope for a C++ block.
  class Deeper;  // One more nested call, block or expression.
  enum class Flow { kNext, kBreak, kContinue };
  static constexpr int kMostValueDepth = 100;  // Of containers in containers.
  static constexpr int64_t kStepsAPart = 16;

  absl::Status AtLine(int line, const absl::Status& status);
  absl::Status Print(const MarkedString& text);
  absl::Status RunAll(const std::vector<TemplateNode>& nodes);
  absl::Status RunNode(const TemplateNode& node);
  absl::Status RunKind(const TemplateNode& node);
  absl::Status If(const TemplateNode& node);
  absl::Status Loop(const TemplateNode& node);
  absl::Status LoopOver(const TemplateNode& node, const Value& sequence, int64_t depth);
  absl::Status Set(const TemplateNode& node);
  absl::Status Scope(const TemplateNode& node);
  absl::Status Bind(const TemplateTarget& target, const Value& value);
  absl::StatusOr<MarkedString> Capture(const std::vector<TemplateNode>& body);
  Value MakeMacro(const TemplateNode& node);
  void Remember(TemplateScope* scope);

  absl::StatusOr<Value> Evaluate(const Expression& e);
  absl::StatusOr<Value> EvaluateKind(const Expression& e);
  absl::StatusOr<TemplateItems> All(const Expression& e);
  absl::StatusOr<Value> Name(const std::string& name);
  absl::StatusOr<Value> Unary(const Expression& e);
  absl::StatusOr<Value> Binary(const Expression& e);
  absl::StatusOr<Value> Compare(const Expression& e);
  absl::StatusOr<Value> Condition(const Expression& e);
  absl::StatusOr<Value> Slice(const Expression& e);
  absl::StatusOr<Value> SliceOfText(const MarkedString& text, const Value* bounds);
  absl::StatusOr<Value> Dict(const Expression& e);
  absl::StatusOr<TemplateArguments> Arguments(const Expression& e);

  absl::StatusOr<Value> LoopAttribute(TemplateLoop& loop, const Value& self,
                                      const std::string& name);
  absl::StatusOr<Value> CallFunction(const std::string& name, const TemplateArguments& args);
  absl::StatusOr<Value> CallMacro(const TemplateCallable& macro, TemplateArguments args);
  absl::Status BindParameters(const TemplateCallable& macro, TemplateArguments args);
  absl::StatusOr<Value> CallLoop(const TemplateCallable& method, const TemplateArguments& args);
  absl::StatusOr<Value> Recurse(const TemplateLoop& loop, const TemplateArguments& args);
  absl::StatusOr<Value> Range(const TemplateArguments& args);
  absl::StatusOr<Value> Now(const TemplateArguments& args);

  const int64_t time_of_day_;
  const TemplateLimits limits_;
  TemplateScope globals_;
  TemplateScope* scope_ = &globals_;
  std::vector<std::unique_ptr<TemplateScope>> remembered_;
  Flow flow_ = Flow::kNext;
  Value piped_;  // What a chain of filters begins with.
  int64_t steps_ = 0;
  int depth_ = 0;
  bool placed_ = false;  // The error at hand knows its line.
  MarkedString out_;
};

// Arguments by parameter; null where one is absent. kInvalidArgument: too many, or an unknown name.
absl::StatusOr<std::vector<const TemplateValue*>> BindArguments(
    std::string_view callee, const TemplateArguments& args,
    std::initializer_list<std::string_view> parameters);
bool FlagArgument(const TemplateValue* value, bool fallback = false);
absl::StatusOr<int64_t> IntegerArgument(std::string_view name, const TemplateValue* value,
                                        int64_t fallback);

// kInvalidArgument: not applicable; kUnimplemented: no filter of this name is known.
absl::StatusOr<TemplateValue> CallTemplateFilter(TemplateMachine& machine, const std::string& name,
                                                 const TemplateValue& value,
                                                 const TemplateArguments& args);
absl::StatusOr<bool> TestTemplateValue(TemplateMachine& machine, const std::string& name,
                                       const TemplateValue& value, const TemplateItems& args);
// Methods of strings, lists and dictionaries.
bool HasTemplateMethod(const TemplateValue& self, std::string_view name);
absl::StatusOr<TemplateValue> CallTemplateMethod(TemplateMachine& machine, const std::string& name,
                                                 const TemplateValue& self,
                                                 const TemplateArguments& args);

}  // namespace conclave::worker
