#include "worker/text/template_value.h"

#include <algorithm>

namespace conclave::worker {
namespace {

constexpr int64_t kMostWeight = int64_t{1} << 40;  // More is never told apart.

template <typename Container>
void Weigh(Container& container, const TemplateValue& value) {
  container.depth = std::max(container.depth, value.depth() + 1);
  container.weight = std::min(container.weight + value.weight(), kMostWeight);
}

bool SameItems(const TemplateItems& a, const TemplateItems& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), TemplateEquals);
}

}  // namespace

TemplateValue MakeTemplateList(TemplateList::Kind kind, TemplateItems items) {
  auto list = std::make_shared<TemplateList>();
  list->kind = kind;
  for (const TemplateValue& each : items) Weigh(*list, each);
  list->items = std::move(items);
  return TemplateValue(std::move(list));
}

TemplateValue TemplateValue::List(TemplateItems items) {
  return MakeTemplateList(TemplateList::Kind::kList, std::move(items));
}

TemplateValue TemplateValue::Tuple(TemplateItems items) {
  return MakeTemplateList(TemplateList::Kind::kTuple, std::move(items));
}

TemplateValue TemplateValue::Dict(std::vector<std::pair<TemplateValue, TemplateValue>> items) {
  auto dict = std::make_shared<TemplateDict>();
  for (const auto& [key, value] : items) {
    Weigh(*dict, key);
    Weigh(*dict, value);
  }
  // Keys are searched one by one.
  const auto size = static_cast<int64_t>(items.size());
  dict->weight = std::min(dict->weight + size * size / 64, kMostWeight);
  dict->items = std::move(items);
  return TemplateValue(std::shared_ptr<const TemplateDict>(std::move(dict)));
}

bool TemplateValue::truthy() const {
  double number = 0;
  if (AsNumber(number)) return number != 0;
  if (text()) return !text()->empty();
  if (list()) return !list()->sized() || !list()->items.empty();
  if (dict()) return !dict()->items.empty();
  if (loop()) return !loop()->items.empty();
  return defined() && !none();
}

bool TemplateValue::AsInteger(int64_t& out) const {
  if (const bool* flag = As<bool>()) {
    out = *flag ? 1 : 0;
  } else if (const int64_t* number = As<int64_t>()) {
    out = *number;
  } else {
    return false;
  }
  return true;
}

bool TemplateValue::AsNumber(double& out) const {
  if (const double* number = As<double>()) {
    out = *number;
    return true;
  }
  int64_t integer = 0;
  if (!AsInteger(integer)) return false;
  out = static_cast<double>(integer);
  return true;
}

const char* TemplateValue::type_name() const {
  if (!defined()) return "Undefined";
  if (none()) return "NoneType";
  if (As<bool>()) return "bool";
  if (As<int64_t>()) return "int";
  if (As<double>()) return "float";
  if (text()) return "str";
  if (dict()) return "dict";
  if (space()) return "Namespace";
  if (loop()) return "LoopContext";
  if (callable()) return "function";
  switch (list()->kind) {
    case TemplateList::Kind::kTuple:
      return "tuple";
    case TemplateList::Kind::kRange:
      return "range";
    case TemplateList::Kind::kView:
      return "dict view";
    case TemplateList::Kind::kGenerator:
      return "generator";
    default:
      return "list";
  }
}

int TemplateValue::depth() const {
  if (list()) return list()->depth;
  if (dict()) return dict()->depth;
  if (space() || loop()) return kNeverHeld;
  return callable() ? std::min(callable()->self.depth(), kNeverHeld - 1) + 1 : 0;
}

int64_t TemplateValue::weight() const {
  if (list()) return list()->weight;
  if (dict()) return dict()->weight;
  if (text()) return 1 + static_cast<int64_t>(text()->size() / 64);
  return callable() ? callable()->self.weight() + 1 : 1;
}

const TemplateValue* TemplateDict::Find(const TemplateValue& key) const {
  for (const auto& [each, value] : items) {
    if (TemplateEquals(each, key)) return &value;
  }
  return nullptr;
}

const TemplateValue* TemplateDict::Find(std::string_view key) const {
  for (const auto& [each, value] : items) {
    if (each.text() && each.text()->text() == key) return &value;
  }
  return nullptr;
}

TemplateValue* TemplateNamespace::Find(std::string_view name) {
  const auto found = std::find_if(fields.begin(), fields.end(),
                                  [&](const auto& field) { return field.first == name; });
  return found == fields.end() ? nullptr : &found->second;
}

bool TemplateEquals(const TemplateValue& a, const TemplateValue& b) {
  double x = 0, y = 0;
  if (a.AsNumber(x) && b.AsNumber(y)) {
    int64_t i = 0, j = 0;  // Exact where both are integers.
    return a.AsInteger(i) && b.AsInteger(j) ? i == j : x == y;
  }
  if (a.data.index() != b.data.index()) return false;
  if (a.text()) return *a.text() == *b.text();
  if (a.list()) {
    if (a.list() == b.list()) return true;
    return a.list()->kind == b.list()->kind && a.list()->sized() &&
           SameItems(a.list()->items, b.list()->items);
  }
  if (a.dict()) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    return std::all_of(a.dict()->items.begin(), a.dict()->items.end(), [&](const auto& each) {
      const TemplateValue* other = b.dict()->Find(each.first);
      return other != nullptr && TemplateEquals(each.second, *other);
    });
  }
  if (a.space()) return a.space() == b.space();
  if (a.loop()) return a.loop() == b.loop();
  if (a.callable()) return a.callable() == b.callable();
  return true;  // Two Nones, or two undefined values.
}

}  // namespace conclave::worker
