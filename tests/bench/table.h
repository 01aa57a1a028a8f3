#pragma once

#include <string>
#include <vector>

namespace conclave::bench {

// One measured quantity beside the most that it could be.
struct Row {
  std::string what;
  double achieved = 0;
  double ceiling = 0;  // Of a time: the floor.
  std::string unit;
  std::string bound;            // What sets the ceiling.
  bool less_is_better = false;  // Times and shares.
};

double Median(std::vector<double> values);

// Prints "| what | achieved | ceiling | % | unit | ceiling is |", and flushes.
void PrintHead();
void Print(const Row& row);

}  // namespace conclave::bench
