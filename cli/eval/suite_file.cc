#include "cli/eval/suite_file.h"

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "cli/eval/protocol.h"
#include "cli/terminal_text.h"
#include "common/json_parse.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using nlohmann::json;

constexpr JsonLimits kLimits = {.depth = 32, .keys = 256, .values = 100'000};
constexpr size_t kMostChoices = 26;

absl::StatusOr<std::string> TextOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return InvalidArgument("there is no \"{}\"", key);
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number()) return found->dump();
  return InvalidArgument("\"{}\" is no text", key);
}

absl::Status ReadArithmetic(const json& rule, v1::ArithmeticCheck& check) {
  if (!rule.is_object()) return InvalidArgument("\"arithmetic\" is no object");
  ASSIGN_OR_RETURN(std::string value, TextOf(rule, "value"));
  check.set_value(std::move(value));
  const auto numbers = rule.find("numbers");
  if (numbers == rule.end()) return absl::OkStatus();
  if (!numbers->is_array()) return InvalidArgument("\"numbers\" is no list");
  for (const json& number : *numbers) {
    if (!number.is_number_integer()) return InvalidArgument("\"numbers\" holds {}", number.dump());
    check.add_numbers(number.get<int64_t>());
  }
  return absl::OkStatus();
}

absl::Status ReadChecker(const json& rule, Problem& problem) {
  if (rule == "number") {
    problem.match = Match::kNumber;
    return absl::OkStatus();
  }
  if (!rule.is_object() || rule.size() != 1) {
    return InvalidArgument(
        "\"checker\" can be \"number\", or an object with one of arithmetic, regex, json_schema");
  }
  const std::string& kind = rule.begin().key();
  const json& value = rule.begin().value();
  v1::Checker& checker = problem.checker.emplace();
  problem.match = Match::kChecker;
  if (kind == "arithmetic") return ReadArithmetic(value, *checker.mutable_arithmetic());
  if (kind == "regex" && value.is_string()) {
    checker.set_regex(value.get<std::string>());
    return absl::OkStatus();
  }
  if (kind == "json_schema") {
    checker.set_json_schema(value.is_string() ? value.get<std::string>() : value.dump());
    return absl::OkStatus();
  }
  return InvalidArgument("\"checker\" is {}", rule.dump());
}

absl::Status ReadChoices(const json& list, const std::string& choice_text, Problem& problem) {
  if (!list.is_array() || list.size() < 2 || list.size() > kMostChoices) {
    return InvalidArgument("\"choices\" is no list of 2 to {} texts", kMostChoices);
  }
  std::vector<std::string> choices;
  std::string right;
  for (const json& choice : list) {
    if (!choice.is_string()) return InvalidArgument("\"choices\" holds {}", choice.dump());
    const std::string letter(1, static_cast<char>('A' + choices.size()));
    choices.push_back(choice.get<std::string>());
    if (problem.answer == letter || problem.answer == choices.back()) right = letter;
  }
  if (right.empty()) {
    return InvalidArgument("\"answer\" is '{}', none of the choices", problem.answer);
  }
  problem.question = AskChoices(choice_text, problem.question, choices);
  problem.answer = right;
  return absl::OkStatus();
}

absl::StatusOr<Problem> ParseProblem(std::string_view line, int number,
                                     const std::string& choice_text, bool& has_choices) {
  if (!IsUtf8(line)) return InvalidArgument("is not UTF-8");
  ASSIGN_OR_RETURN(const json object, ParseJsonWithin(kLimits, line));
  if (!object.is_object()) return InvalidArgument("is no object");
  const std::set<std::string> known = {"id", "question", "answer", "choices", "checker"};
  for (const auto& [key, value] : object.items()) {
    if (!known.contains(key)) return InvalidArgument("\"{}\" is unknown", key);
  }
  Problem problem;
  problem.id = std::to_string(number);
  if (object.contains("id")) {
    ASSIGN_OR_RETURN(problem.id, TextOf(object, "id"));
  }
  ASSIGN_OR_RETURN(problem.question, TextOf(object, "question"));
  if (object.contains("checker")) RETURN_IF_ERROR(ReadChecker(object["checker"], problem));
  if (object.contains("answer") || problem.match != Match::kChecker) {
    ASSIGN_OR_RETURN(problem.answer, TextOf(object, "answer"));
  }
  has_choices = has_choices || object.contains("choices");
  if (object.contains("choices")) {
    RETURN_IF_ERROR(ReadChoices(object["choices"], choice_text, problem));
  }
  return problem;
}

json CheckerJson(const v1::Checker& checker) {
  if (checker.has_arithmetic()) {
    json rule = {{"value", checker.arithmetic().value()}};
    for (const int64_t number : checker.arithmetic().numbers()) rule["numbers"].push_back(number);
    return {{"arithmetic", rule}};
  }
  if (checker.rule_case() == v1::Checker::kRegex) return {{"regex", checker.regex()}};
  return {{"json_schema", checker.json_schema()}};
}

}  // namespace

absl::StatusOr<Suite> ParseSuite(std::string_view text, const std::string& name,
                                 const std::string& choice_text, const SuiteRange& range) {
  Suite suite;
  suite.name = name;
  std::set<std::string> ids;
  bool has_choices = false;
  int skipped = 0;
  for (int line = 1; !text.empty() && static_cast<int>(suite.problems.size()) < range.count;
       ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view row = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (row.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    absl::StatusOr<Problem> problem = ParseProblem(row, line, choice_text, has_choices);
    if (!problem.ok()) return Annotate(problem.status(), fmt::format("{}:{}", name, line));
    if (!ids.insert(problem->id).second) {
      return InvalidArgument("{}:{}: the id '{}' is there twice", name, line, problem->id);
    }
    if (skipped++ >= range.offset) suite.problems.push_back(*std::move(problem));
  }
  if (has_choices) suite.answer_key = ChoiceKey();
  return suite;
}

std::string SuiteText(const Suite& suite) {
  std::string text;
  for (const Problem& problem : suite.problems) {
    nlohmann::ordered_json object;
    object["id"] = problem.id;
    object["question"] = problem.question;
    object["answer"] = problem.answer;
    if (problem.match == Match::kNumber) object["checker"] = "number";
    if (problem.checker) object["checker"] = CheckerJson(*problem.checker);
    text += object.dump() + "\n";
  }
  return text;
}

}  // namespace conclave::cli
