#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "worker/text/marked_string.h"

namespace conclave::worker {

struct TemplateList;
struct TemplateDict;
struct TemplateNamespace;
struct TemplateLoop;
struct TemplateCallable;

// A value of a template's variables, as Python has them. Cheap to copy: what is large is shared,
// and nothing shared changes, but for namespaces, generators and loops. So nothing holds itself:
// a namespace can be in no list, dictionary or namespace.
struct TemplateValue {
  struct Undefined {
    std::string what;  // Why: "'x' is undefined".
  };
  using Text = std::shared_ptr<const MarkedString>;
  std::variant<Undefined, std::nullptr_t, bool, int64_t, double, Text,
               std::shared_ptr<TemplateList>, std::shared_ptr<const TemplateDict>,
               std::shared_ptr<TemplateNamespace>, std::shared_ptr<TemplateLoop>,
               std::shared_ptr<const TemplateCallable>>
      data;

  TemplateValue() = default;
  template <typename T>
  explicit TemplateValue(T value) : data(std::move(value)) {}
  explicit TemplateValue(MarkedString text)
      : data(std::make_shared<const MarkedString>(std::move(text))) {}
  // Written by the template.
  static TemplateValue Of(std::string text) {
    return TemplateValue(MarkedString::Template(std::move(text)));
  }
  static TemplateValue Missing(std::string what) {
    return TemplateValue(Undefined{std::move(what)});
  }
  static TemplateValue List(std::vector<TemplateValue> items);
  static TemplateValue Tuple(std::vector<TemplateValue> items);
  static TemplateValue Dict(std::vector<std::pair<TemplateValue, TemplateValue>> items);

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data);
  }
  template <typename T>
  T* Shared() const {
    const auto* shared = std::get_if<std::shared_ptr<T>>(&data);
    return shared ? shared->get() : nullptr;
  }
  const MarkedString* text() const { return Shared<const MarkedString>(); }
  TemplateList* list() const { return Shared<TemplateList>(); }
  const TemplateDict* dict() const { return Shared<const TemplateDict>(); }
  TemplateNamespace* space() const { return Shared<TemplateNamespace>(); }
  TemplateLoop* loop() const { return Shared<TemplateLoop>(); }
  const TemplateCallable* callable() const { return Shared<const TemplateCallable>(); }
  bool defined() const { return As<Undefined>() == nullptr; }
  bool none() const { return As<std::nullptr_t>() != nullptr; }
  // Python's truth.
  bool truthy() const;
  // True, False and integers.
  bool AsInteger(int64_t& out) const;
  // Those and floats.
  bool AsNumber(double& out) const;
  // Python's name of the type: "str".
  const char* type_name() const;
  // How deep containers nest in it; kNeverHeld for what no container may hold.
  int depth() const;
  static constexpr int kNeverHeld = 1'000'000;
  // How many values lie in it, those that are shared as often as they are held, and 64 bytes of
  // text as one, and a dictionary's search for each of its keys: what going through all of it, or
  // comparing it, costs.
  int64_t weight() const;
};

using TemplateItems = std::vector<TemplateValue>;

// What can be gone through in order.
struct TemplateList {
  enum class Kind : uint8_t {
    kList,
    kTuple,
    kRange,
    kView,       // A dictionary's keys, values or items: not indexed.
    kGenerator,  // What filters make: has no length, and can be gone through once.
  };
  Kind kind = Kind::kList;
  TemplateItems items;
  int depth = 1;
  int64_t weight = 1;

  bool indexed() const { return kind <= Kind::kRange; }
  bool sized() const { return kind != Kind::kGenerator; }
};

// In order of insertion. Keys are few: searched one by one.
struct TemplateDict {
  std::vector<std::pair<TemplateValue, TemplateValue>> items;
  int depth = 1;
  int64_t weight = 1;

  const TemplateValue* Find(const TemplateValue& key) const;
  const TemplateValue* Find(std::string_view key) const;
};

struct TemplateNamespace {
  std::vector<std::pair<std::string, TemplateValue>> fields;

  TemplateValue* Find(std::string_view name);
};

struct TemplateNode;
struct TemplateScope;

// The variable `loop` of a for.
struct TemplateLoop {
  TemplateItems items;
  int64_t index = 0;
  int64_t depth = 1;
  const TemplateNode* node = nullptr;  // Of a recursive loop: it can be called.
  TemplateScope* outside = nullptr;
  TemplateValue seen;  // loop.changed's last arguments.
};

struct TemplateCallable {
  enum class Kind : uint8_t { kFunction, kMethod, kMacro, kLoop };
  Kind kind = Kind::kFunction;
  std::string name;
  TemplateValue self;                  // kMethod, kLoop: whose.
  const TemplateNode* node = nullptr;  // kMacro: what it runs.
  TemplateScope* scope = nullptr;      // kMacro: where it was defined.
};

TemplateValue MakeTemplateList(TemplateList::Kind kind, TemplateItems items);

// Python's ==.
bool TemplateEquals(const TemplateValue& a, const TemplateValue& b);

// Python's str() and repr(). Texts keep their marks; no more than about `limit` bytes are made.
MarkedString TemplateText(const TemplateValue& value, size_t limit);
MarkedString TemplateRepr(const TemplateValue& value, size_t limit);

// A float as Python shows it: 1.0, 1e+16, inf.
std::string TemplateFloat(double value);

}  // namespace conclave::worker
