#include "cli/eval/story.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace conclave::cli {
namespace {

constexpr const char* kNames[] = {"Tom", "Mia", "Ben", "Ana", "Leo", "Zoe",
                                  "Sam", "Eva", "Max", "Ivy", "Dan", "Kim"};
constexpr const char* kThings[] = {"apples", "marbles", "coins",  "books", "cards",
                                   "pens",   "shells",  "stamps", "eggs",  "cookies"};
constexpr int64_t kTop = 999;  // Greatest value of a story.

// Two different people and what it is about.
struct Cast {
  const char* n;
  const char* m;
  const char* t;
};

Cast DrawCast(Draw& draw) {
  const size_t first = static_cast<size_t>(draw.Int(0, std::size(kNames) - 1));
  size_t second = static_cast<size_t>(draw.Int(0, std::size(kNames) - 2));
  second += second >= first ? 1 : 0;
  return {kNames[first], kNames[second], draw.Choice(kThings)};
}

struct Operation {
  char op = '+';
  int64_t operand = 0;
};

int64_t Apply(int64_t value, const Operation& o) {
  return o.op == '+'   ? value + o.operand
         : o.op == '-' ? value - o.operand
         : o.op == '*' ? value * o.operand
                       : value / o.operand;
}

Operation NextOperation(int64_t value, Draw& draw) {
  while (true) {
    const char op = draw.Choice(std::string("++--**/"));
    if (op == '+' && value < kTop - 10)
      return {op, draw.Int(5, std::min<int64_t>(kTop - value, 400))};
    if (op == '-' && value > 20) return {op, draw.Int(3, value - 5)};
    if (op == '*' && value * 2 <= kTop)
      return {op, draw.Int(2, std::min<int64_t>(9, kTop / value))};
    if (op == '/') {
      std::vector<int64_t> divisors;
      for (int64_t d = 2; d < 10; ++d) {
        if (value % d == 0 && value / d >= 2) divisors.push_back(d);
      }
      if (!divisors.empty()) return {op, draw.Choice(divisors)};
    }
  }
}

struct Steps {
  int64_t start = 0, result = 0;
  std::vector<Operation> operations;
};

Steps DrawSteps(int count, Draw& draw) {
  Steps steps;
  steps.start = steps.result = draw.Int(10, 99);
  for (int i = 0; i < count; ++i) {
    steps.operations.push_back(NextOperation(steps.result, draw));
    steps.result = Apply(steps.result, steps.operations.back());
  }
  return steps;
}

std::string Say(const Cast& cast, const Operation& o, Draw& draw) {
  const auto [n, m, t] = cast;
  const int64_t b = o.operand;
  const int64_t way = draw.Int(0, o.op == '+' || o.op == '-' ? 2 : 1);
  switch (o.op) {
    case '+':
      return way == 0   ? fmt::format("{} finds {} more.", n, b)
             : way == 1 ? fmt::format("Then {} brings {} more {}.", m, b, t)
                        : fmt::format("{} buys {} {}.", n, b, t);
    case '-':
      return way == 0   ? fmt::format("{} gives {} to {}.", n, b, m)
             : way == 1 ? fmt::format("{} loses {} of them.", n, b)
                        : fmt::format("Then {} {} are sold.", b, t);
    case '*':
      return way == 0 ? fmt::format("Then the number grows to {} times as many.", b)
                      : fmt::format("A machine turns each one into {}.", b);
    default:
      return way == 0 ? fmt::format(
                            "They are split equally among {} people, and {} keeps one share.", b, n)
                      : fmt::format("Only one out of every {} is good, and {} keeps those.", b, n);
  }
}

const char* WordOf(char op) {
  return op == '+' ? "plus" : op == '-' ? "minus" : op == '*' ? "times" : "divided by";
}

Told Possessions(int64_t kind, const Cast& cast, Draw& draw) {
  const auto [n, m, t] = cast;
  const auto i = [&draw](int64_t low, int64_t high) { return draw.Int(low, high); };
  switch (kind) {
    case 0: {
      const int64_t a = i(10, 99), b = i(2, 9), c = i(10, 99);
      return {fmt::format("{} has {} {} and buys {} boxes with {} {} each. How many {} does {} "
                          "have now?",
                          n, a, t, b, c, t, t, n),
              c * b + a};
    }
    case 1: {
      const int64_t a = i(20, 99), b = i(3, 9), c = i(5, std::min<int64_t>(60, a * b - 1));
      return {fmt::format("A shop packs {} crates of {} {}. It sells {} {}. How many {} are left?",
                          b, a, t, c, t, t),
              a * b - c};
    }
    case 2: {
      const int64_t a = i(100, 900), b = i(10, 99), c = i(10, 99);
      return {fmt::format("{} has {} {}, gives {} to {} and then finds {} more. How many {} does "
                          "{} have?",
                          n, a, t, b, m, c, t, n),
              a - b + c};
    }
    case 3: {
      const int64_t d = i(2, 9), e = i(11, 99), a = i(10, 99);
      return {fmt::format("{} shares {} {} equally among {} friends. Each friend already had {} "
                          "{}. How many {} does each friend have now?",
                          n, d * e, t, d, a, t, t),
              e + a};
    }
    case 4: {
      const int64_t a = i(11, 99), b = i(11, 49);
      return {fmt::format("A hall has {} rows of {} seats. How many seats are there?", b, a),
              a * b};
    }
    default: {
      const int64_t a = i(2, 9), b = i(11, 99), c = i(2, 9), d = i(11, 99);
      return {fmt::format("{} buys {} bags of {} {} and {} buys {} bags of {} {}. How many {} do "
                          "they have together?",
                          n, a, b, t, m, c, d, t, t),
              a * b + c * d};
    }
  }
}

Told Affairs(int64_t kind, const Cast& cast, Draw& draw) {
  const auto [n, m, t] = cast;
  const auto i = [&draw](int64_t low, int64_t high) { return draw.Int(low, high); };
  switch (kind) {
    case 6: {
      const int64_t v = i(30, 90), h = i(2, 9), e = i(10, 80);
      return {fmt::format("A train goes {} km each hour for {} hours and then {} km more. How far "
                          "does it go?",
                          v, h, e),
              v * h + e};
    }
    case 7: {
      const int64_t a = i(11, 60), b = i(2, 9), c = i(5, std::min<int64_t>(50, a * b - 1));
      return {fmt::format("{} is paid {} dollars a day for {} days and spends {} dollars. How many "
                          "dollars are left?",
                          n, a, b, c),
              a * b - c};
    }
    case 8: {
      const int64_t x = i(100, 999), y = i(100, 999);
      return {fmt::format("{} has {} {} and {} has {} {}. How many more does the one with more "
                          "have?",
                          n, x, t, m, y, t),
              std::max(x, y) - std::min(x, y)};
    }
    case 9: {
      const int64_t a = i(100, 999), b = i(100, 999), c = i(100, 999);
      return {fmt::format("A farm picks {} {} on Monday, {} on Tuesday and {} on Friday. How many "
                          "in all?",
                          a, t, b, c),
              a + b + c};
    }
    case 10: {
      const int64_t a = i(20, 200), b = i(2, 6);
      return {fmt::format("{} has {} {}. {} has {} times as many. How many do they have together?",
                          n, a, t, m, b),
              a * b + a};
    }
    default: {
      const int64_t a = i(2, 9), d = i(2, 9), e = i(4, 30);
      return {fmt::format("{} puts {} {} into {} boxes equally, and splits each box among {} "
                          "people. How many {} does each person get?",
                          n, a * d * e, t, a, d, t),
              e};
    }
  }
}

}  // namespace

Told TellWord(Draw& draw) {
  const Cast cast = DrawCast(draw);
  const int64_t kind = draw.Int(0, 11);
  return kind < 6 ? Possessions(kind, cast, draw) : Affairs(kind, cast, draw);
}

Told TellExpression(Draw& draw) {
  const auto i = [&draw](int64_t low, int64_t high) { return draw.Int(low, high); };
  const auto what_is = [](const std::string& text, int64_t value) {
    return Told{"What is " + text + "?", value};
  };
  switch (i(0, 4)) {
    case 0: {
      const int64_t a = i(10, 999), b = i(10, 999), c = i(10, 999);
      return what_is(fmt::format("{} + {} + {}", a, b, c), a + b + c);
    }
    case 1: {
      const int64_t a = i(11, 99), b = i(11, 99), c = i(2, 9);
      return what_is(fmt::format("({} + {}) * {}", a, b, c), (a + b) * c);
    }
    case 2: {
      const int64_t a = i(11, 99), b = i(11, 99), c = i(100, 999);
      return what_is(fmt::format("{} * {} + {}", a, b, c), a * b + c);
    }
    case 3: {
      const int64_t a = i(500, 999), b = i(10, 400), c = i(2, 9);
      return what_is(fmt::format("({} - {}) * {}", a, b, c), (a - b) * c);
    }
    default: {
      const int64_t a = i(11, 99), b = i(2, 9), c = i(11, 99), d = i(2, 9);
      return what_is(fmt::format("the difference between {} * {} and {} * {}", a, b, c, d),
                     std::max(a * b, c * d) - std::min(a * b, c * d));
    }
  }
}

Told TellStory(int operations, Draw& draw) {
  const Cast cast = DrawCast(draw);
  const Steps steps = DrawSteps(operations, draw);
  std::string told = fmt::format("{} has {} {}.", cast.n, steps.start, cast.t);
  for (const Operation& each : steps.operations) told += " " + Say(cast, each, draw);
  return {fmt::format("{} How many {} does {} have now?", told, cast.t, cast.n), steps.result};
}

Told TellChain(int operations, Draw& draw) {
  const Steps steps = DrawSteps(operations, draw);
  std::string told;
  for (const Operation& each : steps.operations) {
    told += fmt::format("{}{} {}", told.empty() ? "" : ", ", WordOf(each.op), each.operand);
  }
  return {fmt::format("Start with {}, then {}. What is the result?", steps.start, told),
          steps.result};
}

}  // namespace conclave::cli
