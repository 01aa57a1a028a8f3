#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "worker/text/marked_string.h"

namespace conclave::worker {

struct TemplateValue;
using TemplateList = std::vector<TemplateValue>;
// In order of insertion, as Python's. Keys are few: searched one by one.
using TemplateDict = std::vector<std::pair<MarkedString, TemplateValue>>;
struct Undefined {};

// A value of a template's variables. Lists and dictionaries are shared by those who name them, as
// in Python (a namespace is changed in place).
struct TemplateValue {
  std::variant<Undefined, std::nullptr_t, bool, int64_t, double, MarkedString,
               std::shared_ptr<TemplateList>, std::shared_ptr<TemplateDict>>
      data;

  TemplateValue() = default;
  template <typename T>
  explicit TemplateValue(T value) : data(std::move(value)) {}
  static TemplateValue Text(std::string text) {
    return TemplateValue(MarkedString::Template(std::move(text)));
  }
  static TemplateValue List(TemplateList list) {
    return TemplateValue(std::make_shared<TemplateList>(std::move(list)));
  }
  static TemplateValue Dict(TemplateDict dict) {
    return TemplateValue(std::make_shared<TemplateDict>(std::move(dict)));
  }

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&data);
  }
  const MarkedString* text() const { return As<MarkedString>(); }
  const TemplateList* list() const {
    const auto* shared = As<std::shared_ptr<TemplateList>>();
    return shared ? shared->get() : nullptr;
  }
  TemplateDict* dict() const {
    const auto* shared = As<std::shared_ptr<TemplateDict>>();
    return shared ? shared->get() : nullptr;
  }
  bool defined() const { return As<Undefined>() == nullptr; }
  // Python's truth.
  bool truthy() const;
  // Python's text: True, None, 1.0.
  MarkedString ToText() const;
};

// The member, or undefined.
TemplateValue TemplateMember(const TemplateDict& dict, const std::string& key);

// Python's ==.
bool TemplateEquals(const TemplateValue& a, const TemplateValue& b);

}  // namespace conclave::worker
