#pragma once

#include <cstddef>
#include <string_view>

namespace conclave {

// What a JSON text would be made into, known before anything is built. (nlohmann's own way to look
// at values while it parses goes through all siblings at every end of an object.)
struct JsonShape {
  int depth = 0;        // Most brackets in each other.
  size_t keys = 0;      // Most keys of one object.
  size_t all_keys = 0;  // Of all objects.
  size_t values = 0;    // At most so many.
};

// Of a text that may be no JSON at all: then anything, and the parser finds out. Linear; what lies
// deeper than `most_depth` is not looked at: `depth` is then greater than that.
JsonShape ShapeOfJson(std::string_view text, int most_depth);

}  // namespace conclave
