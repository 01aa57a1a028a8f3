#pragma once

#include <map>
#include <string>

namespace conclave {

// This process's numbers by the names that Prometheus has for them (process_*; see metric_list.cc),
// read from /proc now. What cannot be read is left out.
std::map<std::string, double> ProcessStats();

}  // namespace conclave
