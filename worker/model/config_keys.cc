#include "worker/model/config_keys.h"

#include <cmath>
#include <cstdint>

namespace conclave::worker {

std::string Excerpt(const nlohmann::json& value) {
  constexpr size_t kMost = 80;
  std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  if (text.size() > kMost) text = text.substr(0, kMost - 3) + "...";
  return text;
}

void ConfigKeys::Require(const char* key) {
  if (!Has(key)) Fail(key, "is missing");
}

void ConfigKeys::Int(const char* key, int least, int most, int& out) {
  if (!Has(key)) return;
  const nlohmann::json& value = object_[key];
  if (!value.is_number_integer() || value.get<int64_t>() < least || value.get<int64_t>() > most) {
    Fail(key, "is {}; it can be {} to {}", Excerpt(value), least, most);
  } else {
    out = value.get<int>();
  }
}

void ConfigKeys::Number(const char* key, double& out) {
  if (!Has(key)) return;
  const nlohmann::json& value = object_[key];
  if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>())) {
    Fail(key, "is {}; it must be above 0", Excerpt(value));
  } else {
    out = value.get<double>();
  }
}

void ConfigKeys::Number(const char* key, double& out, Bounds bounds) {
  double number = bounds.least;
  Number(key, number);
  if (number < bounds.least || number > bounds.most) {
    Fail(key, "is {}; it can be {} to {}", Excerpt(object_[key]), bounds.least, bounds.most);
  } else if (Has(key)) {
    out = number;
  }
}

void ConfigKeys::Bool(const char* key, bool& out) {
  if (!Has(key)) return;
  if (!object_[key].is_boolean()) {
    Fail(key, "is {}; it must be true or false", Excerpt(object_[key]));
  } else {
    out = object_[key].get<bool>();
  }
}

void ConfigKeys::Word(const char* key, std::string& out) {
  if (!Has(key)) return;
  if (!object_[key].is_string()) {
    Fail(key, "is {}; it must be a string", Excerpt(object_[key]));
  } else {
    out = object_[key].get<std::string>();
  }
}

}  // namespace conclave::worker
