#include <algorithm>
#include <charconv>
#include <utility>

#include "common/status.h"
#include "worker/text/template_filters.h"
#include "worker/text/template_operators.h"
#include "worker/text/template_strings.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;
using Result = absl::StatusOr<Value>;
using Machine = TemplateMachine;
using Name = const std::string&;
using Arguments = const TemplateArguments&;
using Kind = TemplateList::Kind;

// "a.b.0" of a value, step by step.
Result Path(Machine& machine, const Value& value, const Value& path) {
  int64_t index = 0;
  if (path.AsInteger(index)) return machine.Item(value, path);
  if (path.text() == nullptr) return InvalidArgument("an attribute is a string or an integer");
  RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(path.text()->size())));
  Value at = value;
  for (const MarkedString& part : path.text()->Split(".")) {
    const std::string& name = part.text();
    const auto read = std::from_chars(name.data(), name.data() + name.size(), index);
    const bool number =
        !name.empty() && read.ec == std::errc() && read.ptr == name.data() + name.size();
    ASSIGN_OR_RETURN(at, machine.Item(at, number ? Value(index) : Value::Of(name)));
  }
  return at;
}

// Texts compare without their case unless asked otherwise.
Result KeyOf(Machine& machine, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key = item;
  if (attribute != nullptr && !attribute->none()) {
    ASSIGN_OR_RETURN(key, Path(machine, item, *attribute));
  }
  RETURN_IF_ERROR(machine.Spend(key.weight()));  // It will be compared.
  if (case_sensitive || key.text() == nullptr) return key;
  return Value(CaseTemplateText(*key.text(), TextCase::kLower));
}

// Stable. The keys decide; the first error among them is the answer.
absl::Status SortByKeys(Machine& machine, std::vector<std::pair<Value, Value>>& keyed,
                        bool reverse) {
  absl::Status status;
  const bool undefined = std::all_of(keyed.begin(), keyed.end(), [](const auto& each) {
    return !each.first.defined() || each.first.none();
  });
  if (keyed.size() < 2 || undefined) return status;
  for (size_t n = keyed.size(); n > 0; n /= 2) {
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(keyed.size())));
  }
  const auto before = [&](const auto& a, const auto& b) {
    if (!status.ok()) return false;
    const auto order = TemplateOrder(a.first, b.first);
    if (!order.ok()) status = order.status();
    return order.ok() && (reverse ? *order > 0 : *order < 0);
  };
  // Merges of neighbours: unlike std::sort they are safe with an order that fails half-way.
  std::stable_sort(keyed.begin(), keyed.end(), before);
  return status;
}

Result Length(Machine& machine, Name, const Value& value, Arguments) {
  if (value.text()) {
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(value.text()->size() / 64)));
    return Value(TemplateTextLength(*value.text()));
  }
  if (value.list() && value.list()->sized()) {
    return Value(static_cast<int64_t>(value.list()->items.size()));
  }
  if (value.dict()) return Value(static_cast<int64_t>(value.dict()->items.size()));
  if (value.loop()) return Value(static_cast<int64_t>(value.loop()->items.size()));
  if (!value.defined()) return Value(int64_t{0});
  return InvalidArgument("object of type '{}' has no len()", value.type_name());
}

Result Join(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"d", "attribute"}));
  MarkedString glue;
  if (bound[0] != nullptr) {
    ASSIGN_OR_RETURN(glue, machine.TextOf(*bound[0]));
  }
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  MarkedString out;
  for (size_t i = 0; i < items.size(); ++i) {
    Value item = items[i];
    if (bound[1] != nullptr) {
      ASSIGN_OR_RETURN(item, Path(machine, item, *bound[1]));
    }
    ASSIGN_OR_RETURN(const MarkedString text, machine.TextOf(item));
    if (i > 0) out.Append(glue);
    out.Append(text);
    if (out.size() > machine.most_bytes()) {
      return ResourceExhausted("join makes more than {} bytes", machine.most_bytes());
    }
  }
  return machine.Made(std::move(out));
}

Result Items(Machine& machine, Name, const Value& value, Arguments) {
  TemplateItems items;
  if (value.dict()) {
    for (const auto& [key, each] : value.dict()->items) items.push_back(Value::Tuple({key, each}));
  } else if (value.defined()) {
    return InvalidArgument("items of '{}', which is no mapping", value.type_name());
  }
  return machine.MadeList(std::move(items), Kind::kGenerator);
}

Result List(Machine& machine, Name, const Value& value, Arguments) {
  ASSIGN_OR_RETURN(TemplateItems items, machine.ItemsOf(value));
  return machine.MadeList(std::move(items));
}

Result Ends(Machine& machine, Name name, const Value& value, Arguments) {
  if (name == "last" && value.list() && !value.list()->sized()) {
    return InvalidArgument("'generator' object is not reversible");
  }
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  if (items.empty()) return Value::Missing(fmt::format("there is no {} item", name));
  return name == "first" ? items.front() : items.back();
}

Result Reverse(Machine& machine, Name, const Value& value, Arguments) {
  ASSIGN_OR_RETURN(TemplateItems items, machine.ItemsOf(value));
  std::reverse(items.begin(), items.end());
  if (value.text() == nullptr) return machine.MadeList(std::move(items), Kind::kGenerator);
  MarkedString text;
  for (const Value& each : items) text.Append(*each.text());
  return machine.Made(std::move(text));
}

Result Sort(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound,
                   BindArguments(name, args, {"reverse", "case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, KeyOf(machine, item, bound[2], FlagArgument(bound[1])));
    keyed.emplace_back(std::move(key), item);
  }
  RETURN_IF_ERROR(SortByKeys(machine, keyed, FlagArgument(bound[0])));
  TemplateItems sorted;
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return machine.MadeList(std::move(sorted));
}

Result DictSort(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound,
                   BindArguments(name, args, {"case_sensitive", "by", "reverse"}));
  if (value.dict() == nullptr) return InvalidArgument("dictsort of '{}'", value.type_name());
  const std::string by = bound[1] && bound[1]->text() ? bound[1]->text()->text() : "key";
  if (by != "key" && by != "value") return InvalidArgument("dictsort is by key or value");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, each] : value.dict()->items) {
    ASSIGN_OR_RETURN(Value sort_key,
                     KeyOf(machine, by == "key" ? key : each, nullptr, FlagArgument(bound[0])));
    keyed.emplace_back(std::move(sort_key), Value::Tuple({key, each}));
  }
  RETURN_IF_ERROR(SortByKeys(machine, keyed, FlagArgument(bound[2])));
  TemplateItems sorted;
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return machine.MadeList(std::move(sorted));
}

Result Unique(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  TemplateItems kept, seen;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, KeyOf(machine, item, bound[1], FlagArgument(bound[0])));
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(seen.size()) * key.weight()));
    if (std::any_of(seen.begin(), seen.end(),
                    [&](const Value& each) { return TemplateEquals(each, key); })) {
      continue;
    }
    seen.push_back(std::move(key));
    kept.push_back(item);
  }
  return machine.MadeList(std::move(kept), Kind::kGenerator);
}

Result Extreme(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"case_sensitive", "attribute"}));
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  if (items.empty()) return Value::Missing("there is no item");
  Value best = items[0];
  ASSIGN_OR_RETURN(Value best_key, KeyOf(machine, best, bound[1], FlagArgument(bound[0])));
  for (size_t i = 1; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(Value key, KeyOf(machine, items[i], bound[1], FlagArgument(bound[0])));
    ASSIGN_OR_RETURN(const int order, TemplateOrder(key, best_key));
    if (name == "min" ? order >= 0 : order <= 0) continue;
    best = items[i];
    best_key = std::move(key);
  }
  return best;
}

Result Sum(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"attribute", "start"}));
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  Value total = bound[1] != nullptr ? *bound[1] : Value(int64_t{0});
  for (const Value& item : items) {
    Value each = item;
    if (bound[0] != nullptr && !bound[0]->none()) {
      ASSIGN_OR_RETURN(each, Path(machine, item, *bound[0]));
    }
    ASSIGN_OR_RETURN(total, TemplateArithmetic(machine, "+", total, each));
  }
  return total;
}

// The arguments behind the first `n`.
TemplateArguments Behind(Arguments args, size_t n) {
  TemplateArguments rest;
  rest.named = args.named;
  if (args.positional.size() > n) {
    rest.positional.assign(args.positional.begin() + static_cast<long>(n), args.positional.end());
  }
  return rest;
}

Result Map(Machine& machine, Name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  const Value *attribute = nullptr, *fallback = nullptr;
  for (const auto& [name, each] : args.named) {
    if (name == "attribute") attribute = &each;
    if (name == "default") fallback = &each;
  }
  TemplateItems mapped;
  for (const Value& item : items) {
    Value each;
    if (args.positional.empty() && attribute != nullptr) {
      ASSIGN_OR_RETURN(each, Path(machine, item, *attribute));
      if (!each.defined() && fallback != nullptr) each = *fallback;
    } else if (!args.positional.empty() && args.positional[0].text() != nullptr) {
      ASSIGN_OR_RETURN(each, CallTemplateFilter(machine, args.positional[0].text()->text(), item,
                                                Behind(args, 1)));
    } else {
      return InvalidArgument("map takes a filter's name or an attribute");
    }
    mapped.push_back(std::move(each));
  }
  return machine.MadeList(std::move(mapped), Kind::kGenerator);
}

// select, reject, selectattr, rejectattr.
Result Select(Machine& machine, Name name, const Value& value, Arguments args) {
  const bool of_attribute = name.ends_with("attr"), select = name.starts_with("select");
  if (of_attribute && args.positional.empty()) return InvalidArgument("{} takes a name", name);
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  const size_t at = of_attribute ? 1 : 0;
  const bool tested = args.positional.size() > at;
  if (tested && args.positional[at].text() == nullptr) {
    return InvalidArgument("{} takes a test's name", name);
  }
  const TemplateItems rest = Behind(args, at + 1).positional;
  TemplateItems kept;
  for (const Value& item : items) {
    Value each = item;
    if (of_attribute) {
      ASSIGN_OR_RETURN(each, Path(machine, item, args.positional[0]));
    }
    bool holds = each.truthy();
    if (tested) {
      ASSIGN_OR_RETURN(holds,
                       TestTemplateValue(machine, args.positional[at].text()->text(), each, rest));
    }
    if (holds == select) kept.push_back(item);
  }
  return machine.MadeList(std::move(kept), Kind::kGenerator);
}

Result Batch(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"linecount", "fill_with"}));
  ASSIGN_OR_RETURN(const int64_t size, IntegerArgument("linecount", bound[0], 0));
  if (size < 1) return InvalidArgument("batch takes a positive number");
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  TemplateItems batches, batch;
  for (const Value& item : items) {
    batch.push_back(item);
    if (static_cast<int64_t>(batch.size()) < size) continue;
    batches.push_back(Value::List(std::exchange(batch, {})));
  }
  if (!batch.empty()) {
    if (bound[1] != nullptr && !bound[1]->none()) {
      RETURN_IF_ERROR(machine.Spend(size));
      batch.resize(static_cast<size_t>(size), *bound[1]);
    }
    batches.push_back(Value::List(std::move(batch)));
  }
  return machine.MadeList(std::move(batches), Kind::kGenerator);
}

Result GroupBy(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound,
                   BindArguments(name, args, {"attribute", "default", "case_sensitive"}));
  if (bound[0] == nullptr) return InvalidArgument("groupby takes an attribute");
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(value));
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items) {
    ASSIGN_OR_RETURN(Value key, Path(machine, item, *bound[0]));
    if (!key.defined() && bound[1] != nullptr) key = *bound[1];
    ASSIGN_OR_RETURN(key, KeyOf(machine, key, nullptr, FlagArgument(bound[2])));
    keyed.emplace_back(std::move(key), item);
  }
  RETURN_IF_ERROR(SortByKeys(machine, keyed, false));
  TemplateItems groups;
  for (size_t i = 0; i < keyed.size();) {
    TemplateItems group;
    const size_t first = i;
    for (; i < keyed.size() && TemplateEquals(keyed[i].first, keyed[first].first); ++i) {
      group.push_back(keyed[i].second);
    }
    ASSIGN_OR_RETURN(Value grouper, Path(machine, group[0], *bound[0]));
    if (!grouper.defined() && bound[1] != nullptr) grouper = *bound[1];
    groups.push_back(Value::Tuple({std::move(grouper), Value::List(std::move(group))}));
  }
  return machine.MadeList(std::move(groups));
}

constexpr std::pair<std::string_view, TemplateFilter> kFilters[] = {
    {"length", Length},    {"count", Length},      {"join", Join},     {"items", Items},
    {"list", List},        {"first", Ends},        {"last", Ends},     {"reverse", Reverse},
    {"sort", Sort},        {"dictsort", DictSort}, {"unique", Unique}, {"min", Extreme},
    {"max", Extreme},      {"sum", Sum},           {"map", Map},       {"select", Select},
    {"reject", Select},    {"selectattr", Select}, {"batch", Batch},   {"groupby", GroupBy},
    {"rejectattr", Select}};

}  // namespace

TemplateFilter FindSequenceFilter(const std::string& name) {
  for (const auto& [each, filter] : kFilters) {
    if (name == each) return filter;
  }
  return nullptr;
}

}  // namespace conclave::worker
