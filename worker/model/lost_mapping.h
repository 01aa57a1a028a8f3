#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace conclave::worker {

// A file's mapping, by name. When the file becomes shorter behind it, as when somebody copies
// another one over it, or its disk fails, a page is gone and whoever reads it gets SIGBUS.
class NamedMapping {
 public:
  // `name` must outlive this.
  NamedMapping(const void* begin, size_t bytes, const std::string& name);
  ~NamedMapping();
  NamedMapping(const NamedMapping&) = delete;
  NamedMapping& operator=(const NamedMapping&) = delete;

 private:
  const void* const begin_;
};

// From now on that says which file it was, in one line on stderr and, if there is room, in `words`
// (a zero byte behind it), and ends the process with code 1. SIGBUS for another reason does what it
// always does. Once; `words` lives as long as the process.
void EndOnLostMapping(std::span<char> words);

}  // namespace conclave::worker
