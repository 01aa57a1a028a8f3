#include "worker/text/template_interpreter.h"

#include <utility>

#include "common/status.h"
#include "worker/text/template_machine.h"
#include "worker/text/template_scopes.h"

namespace conclave::worker {

TemplateMachine::TemplateMachine(std::map<std::string, Value> globals, int64_t time_of_day,
                                 const TemplateLimits& limits)
    : time_of_day_(time_of_day), limits_(limits) {
  for (auto& [name, value] : globals) globals_.variables[name] = std::move(value);
}

absl::StatusOr<MarkedString> TemplateMachine::Run(const std::vector<TemplateNode>& nodes) {
  RETURN_IF_ERROR(RunAll(nodes));
  return std::move(out_);
}

absl::Status TemplateMachine::AtLine(int line, const absl::Status& status) {
  if (status.ok() || placed_) return status;
  placed_ = true;
  return MakeStatus(status.code(), fmt::format("line {}: {}", line, MessageOf(status)));
}

absl::Status TemplateMachine::Spend(int64_t steps) {
  steps_ += steps;
  if (steps_ <= limits_.steps) return absl::OkStatus();
  return ResourceExhausted("the template took more than {} steps", limits_.steps);
}

absl::Status TemplateMachine::SpendSearch(size_t bytes, size_t part) {
  constexpr size_t kCompared = 4096;  // Bytes in the time of a step.
  const size_t places = bytes < part ? 0 : bytes - part + 1;
  return Spend(static_cast<int64_t>(bytes / 64 + places * part / kCompared));
}

absl::StatusOr<TemplateValue> TemplateMachine::Made(Value value) {
  if (value.text()) {
    const size_t size = value.text()->size();
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(size / 64 + value.text()->runs().size() / 8)));
    if (size > limits_.output_bytes) {
      return ResourceExhausted("a string has more than {} bytes", limits_.output_bytes);
    }
  } else if (value.list()) {
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.list()->items.size())));
  } else if (value.dict()) {
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.dict()->items.size())));
  }
  if ((value.list() || value.dict()) && value.depth() > kMostValueDepth) {
    return ResourceExhausted("a value is nested deeper than {}, or holds a namespace or a loop",
                             kMostValueDepth);
  }
  if (value.weight() > limits_.steps) {
    return ResourceExhausted("a value holds more than {} others", limits_.steps);
  }
  return value;
}

absl::Status TemplateMachine::Print(const MarkedString& text) {
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(text.size() / 64)));
  if (out_.size() + text.size() > limits_.output_bytes) {
    return ResourceExhausted("the output has more than {} bytes", limits_.output_bytes);
  }
  out_.Append(text);
  return absl::OkStatus();
}

absl::Status TemplateMachine::RunAll(const std::vector<TemplateNode>& nodes) {
  for (const TemplateNode& node : nodes) {
    RETURN_IF_ERROR(RunNode(node));
    if (flow_ != Flow::kNext) break;
  }
  return absl::OkStatus();
}

absl::Status TemplateMachine::RunNode(const TemplateNode& node) {
  Deeper deeper(*this);
  absl::Status status = deeper.Check();
  if (status.ok()) status = Spend(1);
  if (status.ok()) status = RunKind(node);
  return AtLine(node.line, status);
}

absl::Status TemplateMachine::RunKind(const TemplateNode& node) {
  using Kind = TemplateNode::Kind;
  switch (node.kind) {
    case Kind::kText:
      return Print(MarkedString::Template(node.text));
    case Kind::kPrint: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value));
      ASSIGN_OR_RETURN(const MarkedString text, TextOf(value));
      return Print(text);
    }
    case Kind::kIf:
      return If(node);
    case Kind::kFor:
      return Loop(node);
    case Kind::kSet:
      return Set(node);
    case Kind::kMacro:
      scope_->variables[node.text] = MakeMacro(node);
      return absl::OkStatus();
    case Kind::kCall: {
      ASSIGN_OR_RETURN(const Value callee, Evaluate(*node.value->parts[0]));
      ASSIGN_OR_RETURN(TemplateArguments args, Arguments(*node.value));
      args.named.emplace_back("caller", MakeMacro(node));
      ASSIGN_OR_RETURN(const Value value, Call(callee, std::move(args)));
      ASSIGN_OR_RETURN(const MarkedString text, TextOf(value));
      return Print(text);
    }
    case Kind::kFilter: {
      ASSIGN_OR_RETURN(MarkedString body, Capture(node.body[0]));
      piped_ = Value(std::move(body));
      ASSIGN_OR_RETURN(const Value value, Evaluate(*node.filter));
      ASSIGN_OR_RETURN(const MarkedString text, TextOf(value));
      return Print(text);
    }
    case Kind::kScope:
      return Scope(node);
    case Kind::kBreak:
      flow_ = Flow::kBreak;
      return absl::OkStatus();
    case Kind::kContinue:
      flow_ = Flow::kContinue;
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status TemplateMachine::If(const TemplateNode& node) {
  for (size_t i = 0; i < node.body.size(); ++i) {
    bool taken = i == node.conditions.size();
    if (!taken) {
      ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.conditions[i]));
      taken = condition.truthy();
    }
    if (taken) return RunAll(node.body[i]);
  }
  return absl::OkStatus();
}

// What the body prints, with variables of its own.
absl::StatusOr<MarkedString> TemplateMachine::Capture(const std::vector<TemplateNode>& body) {
  Inside inside(*this);
  MarkedString before = std::exchange(out_, {});
  RETURN_IF_ERROR(RunAll(body));
  return std::exchange(out_, std::move(before));
}

absl::Status TemplateMachine::Set(const TemplateNode& node) {
  Value value;
  if (node.value) {
    ASSIGN_OR_RETURN(value, Evaluate(*node.value));
  } else {
    ASSIGN_OR_RETURN(MarkedString body, Capture(node.body[0]));
    value = Value(std::move(body));
    if (node.filter) {
      piped_ = std::move(value);
      ASSIGN_OR_RETURN(value, Evaluate(*node.filter));
    }
  }
  return Bind(node.target, value);
}

absl::Status TemplateMachine::Scope(const TemplateNode& node) {
  TemplateItems values;  // Evaluated outside.
  for (const TemplateExpressionPtr& each : node.defaults) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*each));
    values.push_back(std::move(value));
  }
  Inside inside(*this);
  for (size_t i = 0; i < values.size(); ++i) {
    scope_->variables[node.parameters[i]] = std::move(values[i]);
  }
  return RunAll(node.body[0]);
}

absl::Status TemplateMachine::Bind(const TemplateTarget& target, const Value& value) {
  if (!target.parts.empty()) {
    ASSIGN_OR_RETURN(const TemplateItems parts, ItemsOf(value));
    if (parts.size() != target.parts.size()) {
      return InvalidArgument("{} values for {} names", parts.size(), target.parts.size());
    }
    for (size_t i = 0; i < parts.size(); ++i) RETURN_IF_ERROR(Bind(target.parts[i], parts[i]));
    return absl::OkStatus();
  }
  if (target.field.empty()) {
    scope_->variables[target.name] = value;
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const Value holder, Name(target.name));
  TemplateNamespace* space = holder.space();
  if (space == nullptr) return InvalidArgument("'{}' is no namespace", target.name);
  // Only namespaces change; as nothing holds one, nothing can hold itself.
  if (value.depth() > kMostValueDepth) {
    return InvalidArgument("a namespace can't hold a namespace or a loop");
  }
  if (Value* field = space->Find(target.field)) {
    *field = value;
  } else {
    space->fields.emplace_back(target.field, value);
  }
  return Spend(static_cast<int64_t>(space->fields.size() / 16));
}

absl::Status TemplateMachine::Loop(const TemplateNode& node) {
  ASSIGN_OR_RETURN(const Value sequence, Evaluate(*node.value));
  return LoopOver(node, sequence, 1);
}

absl::Status TemplateMachine::LoopOver(const TemplateNode& node, const Value& sequence,
                                       int64_t depth) {
  ASSIGN_OR_RETURN(TemplateItems all, ItemsOf(sequence));
  if (node.filter) {
    TemplateItems kept;
    for (Value& each : all) {
      Inside inside(*this);
      RETURN_IF_ERROR(Bind(node.target, each));
      ASSIGN_OR_RETURN(const Value keep, Evaluate(*node.filter));
      if (keep.truthy()) kept.push_back(std::move(each));
    }
    all = std::move(kept);
  }
  if (all.empty()) return node.body.size() > 1 ? RunAll(node.body[1]) : absl::OkStatus();
  auto loop = std::make_shared<TemplateLoop>();
  loop->items = std::move(all);
  loop->depth = depth;
  if (node.recursive) {
    loop->node = &node;
    loop->outside = scope_;
    Remember(scope_);
  }
  const int64_t size = static_cast<int64_t>(loop->items.size());
  for (; loop->index < size; ++loop->index) {
    RETURN_IF_ERROR(Spend(1));
    Inside inside(*this);
    scope_->variables["loop"] = Value(loop);
    RETURN_IF_ERROR(Bind(node.target, loop->items[static_cast<size_t>(loop->index)]));
    RETURN_IF_ERROR(RunAll(node.body[0]));
    if (std::exchange(flow_, Flow::kNext) == Flow::kBreak) break;
  }
  return absl::OkStatus();
}

void TemplateMachine::Remember(TemplateScope* scope) {
  for (; scope != nullptr && !scope->captured; scope = scope->parent) scope->captured = true;
}

TemplateValue TemplateMachine::MakeMacro(const TemplateNode& node) {
  Remember(scope_);
  auto macro = std::make_shared<TemplateCallable>();
  macro->kind = TemplateCallable::Kind::kMacro;
  macro->name = node.text;
  macro->node = &node;
  macro->scope = scope_;
  return Value(std::shared_ptr<const TemplateCallable>(std::move(macro)));
}

absl::StatusOr<MarkedString> InterpretTemplate(const std::vector<TemplateNode>& nodes,
                                               std::map<std::string, TemplateValue> globals,
                                               int64_t time_of_day, const TemplateLimits& limits) {
  return TemplateMachine(std::move(globals), time_of_day, limits).Run(nodes);
}

}  // namespace conclave::worker
