#include "common/json_shape.h"

#include <algorithm>
#include <vector>

namespace conclave {

JsonShape ShapeOfJson(std::string_view text, int most_depth) {
  JsonShape shape;
  std::vector<size_t> keys;  // So far, in the brackets around the place at hand.
  bool in_string = false;
  for (size_t i = 0; i < text.size() && shape.depth <= most_depth; ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      keys.push_back(0);
      shape.values += 2;  // It, and its first member.
      shape.depth = std::max(shape.depth, static_cast<int>(keys.size()));
    } else if ((c == '}' || c == ']') && !keys.empty()) {
      keys.pop_back();
    } else if (c == ':' && !keys.empty()) {
      shape.keys = std::max(shape.keys, ++keys.back());
      ++shape.all_keys;
    } else if (c == ',') {
      ++shape.values;
    }
  }
  return shape;
}

}  // namespace conclave
