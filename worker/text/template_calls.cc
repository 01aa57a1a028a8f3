#include <algorithm>
#include <ctime>
#include <utility>

#include "common/status.h"
#include "worker/text/template_machine.h"
#include "worker/text/template_scopes.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;

constexpr int64_t kMostRange = 100'000;  // As Jinja's sandbox has it.
constexpr size_t kMostTimeBytes = 4096;

// Whether the template wrote all of this text.
bool Ours(const Value& value) {
  return value.text() != nullptr && value.text()->WrittenByTemplate(0, value.text()->size());
}

}  // namespace

absl::StatusOr<TemplateArguments> TemplateMachine::Arguments(const Expression& e) {
  TemplateArguments args;
  for (size_t i = 1; i < e.parts.size(); ++i) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*e.parts[i]));
    const std::string& keyword = e.names[i - 1];
    if (keyword.empty()) {
      args.positional.push_back(std::move(value));
    } else if (keyword == "*") {
      ASSIGN_OR_RETURN(const TemplateItems items, ItemsOf(value));
      args.positional.insert(args.positional.end(), items.begin(), items.end());
    } else if (keyword == "**") {
      if (value.dict() == nullptr) return InvalidArgument("** needs a dictionary");
      RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.dict()->items.size())));
      for (const auto& [key, each] : value.dict()->items) {
        // A keyword carries no marks: a caller's name must not become the template's.
        if (!Ours(key)) return InvalidArgument("keywords must be strings of the template");
        args.named.emplace_back(key.text()->text(), each);
      }
    } else {
      args.named.emplace_back(keyword, std::move(value));
    }
  }
  return args;
}

absl::StatusOr<TemplateValue> TemplateMachine::Call(const Value& callee, TemplateArguments args) {
  if (const auto* missing = callee.As<Value::Undefined>()) {
    return InvalidArgument("{}", missing->what);
  }
  if (callee.loop() != nullptr && callee.loop()->node != nullptr) {
    return Recurse(*callee.loop(), args);
  }
  const TemplateCallable* callable = callee.callable();
  if (callable == nullptr) {
    return InvalidArgument("'{}' object is not callable", callee.type_name());
  }
  switch (callable->kind) {
    case TemplateCallable::Kind::kFunction:
      return CallFunction(callable->name, args);
    case TemplateCallable::Kind::kMethod:
      return CallTemplateMethod(*this, callable->name, callable->self, args);
    case TemplateCallable::Kind::kMacro:
      return CallMacro(*callable, std::move(args));
    case TemplateCallable::Kind::kLoop:
      return CallLoop(*callable, args);
  }
  return Value();
}

absl::StatusOr<TemplateValue> TemplateMachine::CallMacro(const TemplateCallable& macro,
                                                         TemplateArguments args) {
  Deeper deeper(*this);
  RETURN_IF_ERROR(deeper.Check());
  Inside inside(*this, macro.scope);
  MarkedString before = std::exchange(out_, {});
  RETURN_IF_ERROR(BindParameters(macro, std::move(args)));
  RETURN_IF_ERROR(RunAll(macro.node->body[0]));
  return Made(std::exchange(out_, std::move(before)));
}

// In the macro's scope, where its defaults are evaluated, too.
absl::Status TemplateMachine::BindParameters(const TemplateCallable& macro,
                                             TemplateArguments args) {
  const std::vector<std::string>& parameters = macro.node->parameters;
  if (args.positional.size() > parameters.size()) {
    return InvalidArgument("macro '{}' takes not more than {} arguments", macro.name,
                           parameters.size());
  }
  scope_->variables["caller"] = Value::Missing("there is no caller here");
  std::vector<bool> given(parameters.size(), false);
  for (size_t i = 0; i < args.positional.size(); ++i) {
    scope_->variables[parameters[i]] = std::move(args.positional[i]);
    given[i] = true;
  }
  for (auto& [name, value] : args.named) {
    size_t at = 0;
    while (at < parameters.size() && parameters[at] != name) ++at;
    if (at < parameters.size() && given[at]) {
      return InvalidArgument("macro '{}' got '{}' twice", macro.name, name);
    }
    if (at < parameters.size()) {
      given[at] = true;
    } else if (name != "caller") {
      return InvalidArgument("macro '{}' takes no keyword argument '{}'", macro.name, name);
    }
    scope_->variables[name] = std::move(value);
  }
  const size_t first_default = parameters.size() - macro.node->defaults.size();
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (given[i]) continue;
    Value value = Value::Missing(fmt::format("parameter '{}' was not provided", parameters[i]));
    if (i >= first_default) {
      ASSIGN_OR_RETURN(value, Evaluate(*macro.node->defaults[i - first_default]));
    }
    scope_->variables[parameters[i]] = std::move(value);
  }
  return absl::OkStatus();
}

// loop(items) in a recursive loop.
absl::StatusOr<TemplateValue> TemplateMachine::Recurse(const TemplateLoop& loop,
                                                       const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("loop", args, {"items"}));
  if (bound[0] == nullptr) return InvalidArgument("loop() needs what to go through");
  Deeper deeper(*this);
  RETURN_IF_ERROR(deeper.Check());
  Inside inside(*this, loop.outside);
  MarkedString before = std::exchange(out_, {});
  const TemplateNode* node = loop.node;
  RETURN_IF_ERROR(LoopOver(*node, *bound[0], loop.depth + 1));
  return Made(std::exchange(out_, std::move(before)));
}

absl::StatusOr<TemplateValue> TemplateMachine::LoopAttribute(TemplateLoop& loop, const Value& self,
                                                             const std::string& name) {
  const int64_t size = static_cast<int64_t>(loop.items.size()), at = loop.index;
  if (name == "index") return Value(at + 1);
  if (name == "index0") return Value(at);
  if (name == "revindex") return Value(size - at);
  if (name == "revindex0") return Value(size - at - 1);
  if (name == "first") return Value(at == 0);
  if (name == "last") return Value(at + 1 >= size);
  if (name == "length") return Value(size);
  if (name == "depth") return Value(loop.depth);
  if (name == "depth0") return Value(loop.depth - 1);
  if (name == "previtem") {
    return at > 0 ? loop.items[static_cast<size_t>(at - 1)]
                  : Value::Missing("there is no previous item");
  }
  if (name == "nextitem") {
    return at + 1 < size ? loop.items[static_cast<size_t>(at + 1)]
                         : Value::Missing("there is no next item");
  }
  if (name == "cycle" || name == "changed") {
    auto method = std::make_shared<TemplateCallable>();
    method->kind = TemplateCallable::Kind::kLoop;
    method->name = name;
    method->self = self;
    return Value(std::shared_ptr<const TemplateCallable>(std::move(method)));
  }
  return Value::Missing(fmt::format("'loop' has no attribute '{}'", name));
}

absl::StatusOr<TemplateValue> TemplateMachine::CallLoop(const TemplateCallable& method,
                                                        const TemplateArguments& args) {
  TemplateLoop& loop = *method.self.loop();
  if (method.name == "cycle") {
    if (args.positional.empty()) return InvalidArgument("loop.cycle needs items");
    return args.positional[static_cast<size_t>(loop.index) % args.positional.size()];
  }
  ASSIGN_OR_RETURN(Value now, MadeList(args.positional));
  RETURN_IF_ERROR(Spend(std::min(loop.seen.weight(), now.weight())));
  const bool changed = !TemplateEquals(loop.seen, now);
  loop.seen = std::move(now);
  return Value(changed);
}

absl::StatusOr<TemplateValue> TemplateMachine::CallFunction(const std::string& name,
                                                            const TemplateArguments& args) {
  if (name == "range") return Range(args);
  if (name == "strftime_now") return Now(args);
  if (name == "raise_exception") {
    ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"message"}));
    MarkedString reason;
    if (bound[0] != nullptr) {
      ASSIGN_OR_RETURN(reason, TextOf(*bound[0]));
    }
    return InvalidArgument("the template refuses: {}", reason.text());
  }
  // namespace and dict: perhaps a dictionary, then keywords.
  std::vector<std::pair<Value, Value>> items;
  if (args.positional.size() > 1) return InvalidArgument("{} takes one dictionary", name);
  for (const Value& from : args.positional) {
    if (from.dict() == nullptr) return InvalidArgument("{} takes a dictionary", name);
    items = from.dict()->items;
  }
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(items.size() * (1 + args.named.size() / 8))));
  const size_t given = items.size();
  for (const auto& [key, value] : args.named) {
    const auto same = std::find_if(
        items.begin(), items.begin() + static_cast<long>(given),
        [&](const auto& item) { return item.first.text() && item.first.text()->text() == key; });
    if (same != items.begin() + static_cast<long>(given)) {
      same->second = value;  // A keyword goes before the dictionary's.
    } else {
      items.emplace_back(Value::Of(key), value);
    }
  }
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(items.size())));
  if (name == "dict") return Made(Value::Dict(std::move(items)));
  auto space = std::make_shared<TemplateNamespace>();
  for (auto& [key, value] : items) {
    if (key.text() == nullptr) return InvalidArgument("a namespace's names are strings");
    if (value.depth() > kMostValueDepth) {
      return InvalidArgument("a namespace can't hold a namespace or a loop");
    }
    space->fields.emplace_back(key.text()->text(), std::move(value));
  }
  return Value(std::move(space));
}

absl::StatusOr<TemplateValue> TemplateMachine::Range(const TemplateArguments& args) {
  int64_t bounds[3] = {0, 0, 1};
  const size_t n = args.positional.size();
  if (n == 0 || n > 3 || !args.named.empty()) {
    return InvalidArgument("range takes one to three integers");
  }
  for (size_t i = 0; i < n; ++i) {
    if (!args.positional[i].AsInteger(bounds[n == 1 ? 1 : i])) {
      return InvalidArgument("range takes integers, not '{}'", args.positional[i].type_name());
    }
  }
  const auto [from, to, step] = bounds;
  if (step == 0) return InvalidArgument("range's step is 0");
  TemplateItems items;
  for (int64_t at = from; step > 0 ? at < to : at > to;) {
    if (static_cast<int64_t>(items.size()) == kMostRange) {
      return ResourceExhausted("a range has more than {} items", kMostRange);
    }
    items.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return MadeList(std::move(items), TemplateList::Kind::kRange);
}

absl::StatusOr<TemplateValue> TemplateMachine::Now(const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments("strftime_now", args, {"format"}));
  if (bound[0] == nullptr || bound[0]->text() == nullptr) {
    return InvalidArgument("strftime_now takes a format");
  }
  // One character in front tells an empty result from one that does not fit.
  const std::string format = "." + bound[0]->text()->text();
  const std::time_t seconds = time_of_day_;
  std::tm utc{};
  if (gmtime_r(&seconds, &utc) == nullptr) return InvalidArgument("the time of day has no date");
  std::string text(kMostTimeBytes, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &utc));
  if (text.empty()) {
    return ResourceExhausted("strftime_now makes more than {} bytes", kMostTimeBytes);
  }
  return Value(MarkedString(text.substr(1), Ours(*bound[0]) ? Author::kTemplate : Author::kCaller));
}

absl::StatusOr<std::vector<const TemplateValue*>> BindArguments(
    std::string_view callee, const TemplateArguments& args,
    std::initializer_list<std::string_view> parameters) {
  if (args.positional.size() > parameters.size()) {
    return InvalidArgument("{} takes at most {} arguments", callee, parameters.size());
  }
  std::vector<const Value*> bound(parameters.size(), nullptr);
  for (size_t i = 0; i < args.positional.size(); ++i) bound[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    size_t at = 0;
    while (at < parameters.size() && parameters.begin()[at] != name) ++at;
    if (at == parameters.size()) {
      return InvalidArgument("{} takes no keyword argument '{}'", callee, name);
    }
    if (bound[at] != nullptr) return InvalidArgument("{} got '{}' twice", callee, name);
    bound[at] = &value;
  }
  return bound;
}

bool FlagArgument(const TemplateValue* value, bool fallback) {
  return value == nullptr ? fallback : value->truthy();
}

absl::StatusOr<int64_t> IntegerArgument(std::string_view name, const TemplateValue* value,
                                        int64_t fallback) {
  if (value == nullptr) return fallback;
  int64_t number = 0;
  if (!value->AsInteger(number)) {
    return InvalidArgument("{} is '{}', no integer", name, value->type_name());
  }
  return number;
}

}  // namespace conclave::worker
