#include "cli/eval/procedural.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>
#include <utility>
#include <vector>

#include "cli/eval/draw.h"
#include "cli/eval/story.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using Kind = ProceduralSpec::Kind;

struct KindName {
  const char* name;
  Kind kind;
  int least = 0, most = 0;  // Sizes; 0: it has none.
};

constexpr KindName kKinds[] = {
    {"word", Kind::kWord},           {"expression", Kind::kExpression},
    {"story", Kind::kStory, 1, 64},  {"chain", Kind::kChain, 1, 64},
    {"target", Kind::kTarget, 2, 8}, {"compare", Kind::kCompare},
    {"compound", Kind::kCompound},   {"long", Kind::kLong, 1, 1'000'000},
};

const KindName* Find(const std::string& name) {
  const std::string word = name.substr(0, name.find(':'));
  for (const KindName& kind : kKinds) {
    if (word == kind.name) return &kind;
  }
  return nullptr;
}

const KindName& NameOf(Kind kind) {
  for (const KindName& each : kKinds) {
    if (each.kind == kind) return each;
  }
  return kKinds[0];
}

Problem Of(Told told) {
  Problem problem;
  problem.question = std::move(told.question);
  problem.answer = std::to_string(told.answer);
  return problem;
}

// Numbers joined from left to right, in the order in which they stand: the text and its value.
std::pair<std::string, int64_t> Join(const std::vector<int64_t>& numbers, Draw& draw) {
  int64_t value = numbers[0];
  std::string text = std::to_string(value);
  bool sums = false;
  for (size_t i = 1; i < numbers.size(); ++i) {
    const int64_t b = numbers[i];
    const char op = draw.Choice(std::string(value >= b ? "+-*" : "+*"));
    if (op == '*' && sums) text = "(" + text + ")";
    sums = op != '*';
    text += op + std::to_string(b);
    value = op == '+' ? value + b : op == '-' ? value - b : value * b;
  }
  return {text, value};
}

Problem Target(int size, Draw& draw) {
  std::vector<int64_t> numbers(static_cast<size_t>(size));
  std::string text;
  int64_t value = 0;
  while (value < 3 || value > 99) {
    for (int64_t& number : numbers) number = draw.Int(2, 9);
    std::vector<int64_t> order = numbers;
    draw.Shuffle(order);
    std::tie(text, value) = Join(order, draw);
  }
  Problem problem;
  problem.question =
      fmt::format("Make {} from {}. Use each number once.", value, fmt::join(numbers, ", "));
  problem.answer = text;
  problem.match = Match::kChecker;
  v1::ArithmeticCheck& check = *problem.checker.emplace().mutable_arithmetic();
  check.set_value(std::to_string(value));
  for (const int64_t number : numbers) check.add_numbers(number);
  return problem;
}

Problem Compare(Draw& draw) {
  const int64_t a = draw.Int(11, 99), b = draw.Int(2, 9);
  const int64_t side = draw.Chance(0.5) ? 1 : -1;
  const int64_t c = std::max<int64_t>(2, a * b + side * draw.Int(1, 30));
  Problem problem;
  problem.question = fmt::format("Is {} * {} more than {}? Answer yes or no.", a, b, c);
  problem.answer = a * b > c ? "yes" : "no";
  return problem;
}

Problem Compound(Draw& draw) {
  const auto part = [&draw] { return draw.Chance(0.6) ? TellWord(draw) : TellExpression(draw); };
  const Told first = part(), second = part();
  const bool sum = draw.Chance(0.5);
  return Of({.question = fmt::format("First: {} Second: {} What is the {} of the two answers?",
                                     first.question, second.question, sum ? "sum" : "difference"),
             .answer = sum ? first.answer + second.answer
                           : std::max(first.answer, second.answer) -
                                 std::min(first.answer, second.answer)});
}

// The beginning depends on the seed alone, so that all questions share it.
Problem Long(int words, uint64_t seed, Draw& draw) {
  Draw shared(seed, UINT64_MAX);
  std::string text;
  for (int told = 0; told < words;) {
    const std::string more = TellWord(shared).question + " ";
    told += static_cast<int>(std::count(more.begin(), more.end(), ' '));
    text += more;
  }
  Told question = TellWord(draw);
  question.question = text + question.question;
  return Of(std::move(question));
}

}  // namespace

bool IsProcedural(const std::string& name) { return Find(name) != nullptr; }

absl::StatusOr<ProceduralSpec> ParseProcedural(const std::string& name) {
  const KindName* const found = Find(name);
  if (found == nullptr) {
    std::string names;
    for (const KindName& kind : kKinds) {
      names += fmt::format("{}{}{}", names.empty() ? "" : ", ", kind.name, kind.most ? ":N" : "");
    }
    return InvalidArgument("the suite is '{}'; it can be a file, or one of {}", name, names);
  }
  ProceduralSpec spec{.kind = found->kind, .size = 0};
  const size_t colon = name.find(':');
  if (found->most == 0) {
    if (colon == std::string::npos) return spec;
    return InvalidArgument("the suite is '{}'; {} has no size", name, found->name);
  }
  const char* const end = name.data() + name.size();
  const char* const begin = colon == std::string::npos ? end : name.data() + colon + 1;
  const auto [last, error] = std::from_chars(begin, end, spec.size);
  if (error != std::errc() || last != end || spec.size < found->least || spec.size > found->most) {
    return InvalidArgument("the suite is '{}'; {}:N can be {}:{} to {}:{}", name, found->name,
                           found->name, found->least, found->name, found->most);
  }
  return spec;
}

Problem MakeProblem(const ProceduralSpec& spec, uint64_t seed, int index) {
  Draw draw(seed, static_cast<uint64_t>(index));
  Problem problem;
  switch (spec.kind) {
    case Kind::kWord:
      problem = Of(TellWord(draw));
      break;
    case Kind::kExpression:
      problem = Of(TellExpression(draw));
      break;
    case Kind::kStory:
      problem = Of(TellStory(spec.size, draw));
      break;
    case Kind::kChain:
      problem = Of(TellChain(spec.size, draw));
      break;
    case Kind::kTarget:
      problem = Target(spec.size, draw);
      break;
    case Kind::kCompare:
      problem = Compare(draw);
      break;
    case Kind::kCompound:
      problem = Compound(draw);
      break;
    case Kind::kLong:
      problem = Long(spec.size, seed, draw);
      break;
  }
  const KindName& name = NameOf(spec.kind);
  problem.id = name.most > 0 ? fmt::format("{}:{}/{}/{}", name.name, spec.size, seed, index)
                             : fmt::format("{}/{}/{}", name.name, seed, index);
  return problem;
}

Suite MakeProcedural(const std::string& name, const ProceduralSpec& spec, const SuiteRange& range) {
  Suite suite;
  suite.name = fmt::format("{} seed {}", name, range.seed);
  for (int i = 0; i < range.count; ++i) {
    suite.problems.push_back(MakeProblem(spec, range.seed, range.offset + i));
  }
  return suite;
}

}  // namespace conclave::cli
