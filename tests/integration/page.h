#pragma once

#include <string>

namespace conclave {

// What a page of metrics says now; empty when nobody answers.
std::string PageOf(const std::string& address);

// Of one series, with its labels; -1 where there is none.
double ValueIn(const std::string& page, const std::string& series);

// Of all series of a metric, whatever their labels.
double SumIn(const std::string& page, const std::string& name);

}  // namespace conclave
