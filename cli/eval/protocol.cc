#include "cli/eval/protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "cli/eval/draw.h"
#include "cli/eval/protocols_text.h"
#include "cli/terminal_text.h"
#include "common/answer/normalise.h"
#include "common/config.h"
#include "common/json_parse.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using nlohmann::json;

constexpr JsonLimits kLimits = {.depth = 32, .keys = 256, .values = 100'000};

v1::AnswerKey Key(v1::AnswerKey::Kind kind, std::string argument) {
  v1::AnswerKey key;
  key.set_kind(kind);
  key.set_argument(std::move(argument));
  return key;
}

std::string Fill(std::string text, const std::map<std::string, std::string>& places) {
  std::string filled;
  for (size_t at = 0; at < text.size();) {
    const size_t open = std::min(text.find('{', at), text.size());
    filled += text.substr(at, open - at);
    if (open == text.size()) break;
    const size_t close = text.find('}', open);
    const auto place = close == std::string::npos
                           ? places.end()
                           : places.find(text.substr(open + 1, close - open - 1));
    filled += place == places.end() ? "{" : place->second;
    at = place == places.end() ? open + 1 : close + 1;
  }
  return filled;
}

absl::StatusOr<std::string> TextOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found != object.end() && found->is_string()) return found->get<std::string>();
  return InvalidArgument("there is no text \"{}\"", key);
}

absl::StatusOr<Problem> Gsm8kProblem(const json& object, const Prompts& prompts) {
  Problem problem;
  ASSIGN_OR_RETURN(const std::string question, TextOf(object, "question"));
  ASSIGN_OR_RETURN(const std::string worked, TextOf(object, "answer"));
  const size_t mark = worked.rfind("####");
  if (mark == std::string::npos) return InvalidArgument("\"answer\" has no ####");
  problem.question = Fill(prompts.gsm8k, {{"question", question}});
  problem.answer = TrimSpace(std::string_view(worked).substr(mark + 4));
  problem.match = Match::kNumber;
  return problem;
}

absl::StatusOr<Problem> MathProblem(const json& object, const Prompts& prompts) {
  Problem problem;
  ASSIGN_OR_RETURN(const std::string question, TextOf(object, "problem"));
  ASSIGN_OR_RETURN(problem.answer, TextOf(object, "answer"));
  if (object.contains("unique_id")) {
    ASSIGN_OR_RETURN(problem.id, TextOf(object, "unique_id"));
  }
  problem.question = Fill(prompts.math500, {{"question", question}});
  problem.match = Match::kLatex;
  return problem;
}

using MakeOne = absl::StatusOr<Problem> (*)(const json&, const Prompts&);

absl::StatusOr<std::vector<Problem>> ParseLines(std::string_view text, MakeOne make,
                                                const Prompts& prompts, const SuiteRange& range) {
  std::vector<Problem> problems;
  int seen = 0;
  for (int line = 1; !text.empty() && static_cast<int>(problems.size()) < range.count; ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view row = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (TrimSpace(row).empty() || seen++ < range.offset) continue;
    const std::string place = fmt::format("line {}", line);
    if (!IsUtf8(row)) return InvalidArgument("{}: is not UTF-8", place);
    const absl::StatusOr<json> object = ParseJsonWithin(kLimits, row);
    if (!object.ok()) return Annotate(object.status(), place);
    absl::StatusOr<Problem> problem = make(*object, prompts);
    if (!problem.ok()) return Annotate(problem.status(), place);
    if (problem->id.empty()) problem->id = std::to_string(line);
    problems.push_back(*std::move(problem));
  }
  return problems;
}

// One question of GPQA with its choices in the order of the draw.
Problem GpqaProblem(const std::vector<std::string>& fields, int row, int repeat,
                    const Prompts& prompts, uint64_t seed) {
  Draw draw(seed, static_cast<uint64_t>(repeat) << 32 | static_cast<uint64_t>(row));
  std::vector<size_t> order = {1, 2, 3, 4};
  draw.Shuffle(order);
  std::vector<std::string> choices;
  Problem problem;
  for (const size_t field : order) {
    if (field == 1) problem.answer = static_cast<char>('A' + choices.size());
    choices.emplace_back(TrimSpace(fields[field]));
  }
  problem.id = fmt::format("{}/{}", row, repeat);
  problem.question = AskChoices(prompts.choices, std::string(TrimSpace(fields[0])), choices);
  return problem;
}

absl::StatusOr<std::vector<Problem>> ParseGpqa(std::string_view text, const Prompts& prompts,
                                               const SuiteRange& range, int repeats) {
  if (!IsUtf8(text)) return InvalidArgument("is not UTF-8");
  ASSIGN_OR_RETURN(const auto rows, ParseCsv(text));
  const std::vector<std::string> wanted = {"Question", "Correct Answer", "Incorrect Answer 1",
                                           "Incorrect Answer 2", "Incorrect Answer 3"};
  std::vector<size_t> columns;
  for (const std::string& name : wanted) {
    const auto found = rows.empty() ? std::vector<std::string>::const_iterator()
                                    : std::find(rows[0].begin(), rows[0].end(), name);
    if (rows.empty() || found == rows[0].end()) {
      return InvalidArgument("line 1: there is no column \"{}\"", name);
    }
    columns.push_back(static_cast<size_t>(found - rows[0].begin()));
  }
  std::vector<Problem> problems;
  const int64_t end =
      std::min<int64_t>(static_cast<int64_t>(rows.size()) - 1, int64_t{range.offset} + range.count);
  for (int64_t row = range.offset; row < end; ++row) {
    const std::vector<std::string>& all = rows[static_cast<size_t>(row) + 1];
    std::vector<std::string> fields;
    for (const size_t column : columns) {
      if (column >= all.size())
        return InvalidArgument("row {}: has {} fields", row + 1, all.size());
      fields.push_back(all[column]);
    }
    for (int repeat = 0; repeat < repeats; ++repeat) {
      problems.push_back(
          GpqaProblem(fields, static_cast<int>(row) + 1, repeat + 1, prompts, range.seed));
    }
  }
  return problems;
}

}  // namespace

absl::StatusOr<Prompts> LoadPrompts(const std::string& path) {
  absl::StatusOr<Config> config =
      path.empty() ? Config::Parse(kProtocolsText, "protocols.yaml") : Config::Load(path);
  if (!config.ok()) return config.status();
  Prompts prompts;
  ConfigNode root = config->root();
  root.Read("gsm8k", &prompts.gsm8k);
  root.Read("math500", &prompts.math500);
  root.Read("choices", &prompts.choices);
  for (const auto& [key, text] :
       {std::pair("gsm8k", &prompts.gsm8k), std::pair("math500", &prompts.math500),
        std::pair("choices", &prompts.choices)}) {
    if (text->find("{question}") == std::string::npos) root.Fail(key, "needs {question}");
  }
  if (prompts.choices.find("{choices}") == std::string::npos) {
    root.Fail("choices", "needs {choices}");
  }
  RETURN_IF_ERROR(config->Finish());
  return prompts;
}

std::string AskChoices(const std::string& text, const std::string& question,
                       const std::vector<std::string>& choices) {
  std::string lines, letters;
  for (const std::string& choice : choices) {
    const char letter = static_cast<char>('A' + letters.size());
    lines += fmt::format("{}{}) {}", lines.empty() ? "" : "\n", letter, choice);
    letters += letter;
  }
  return Fill(text, {{"question", question}, {"choices", lines}, {"letters", letters}});
}

v1::AnswerKey ChoiceKey() {
  return Key(v1::AnswerKey::KIND_REGEX, R"((?i)Answer[ \t]*:[ \t]*\$?([A-Z])\$?)");
}

absl::StatusOr<Suite> ParseProtocol(const std::string& protocol, std::string_view text,
                                    const Prompts& prompts, const SuiteRange& range, int repeats) {
  Suite suite;
  if (protocol == "gsm8k") {
    ASSIGN_OR_RETURN(suite.problems, ParseLines(text, Gsm8kProblem, prompts, range));
    suite.answer_key = Key(v1::AnswerKey::KIND_REGEX, R"(####[ \t]*(-?\$?[0-9.,]*[0-9]))");
  } else if (protocol == "math500") {
    ASSIGN_OR_RETURN(suite.problems, ParseLines(text, MathProblem, prompts, range));
    suite.answer_key = Key(v1::AnswerKey::KIND_BOXED, "");
  } else if (protocol == "gpqa") {
    ASSIGN_OR_RETURN(suite.problems, ParseGpqa(text, prompts, range, repeats));
    suite.answer_key = Key(v1::AnswerKey::KIND_REGEX, R"((?i)Answer[ \t]*:[ \t]*\$?([A-D])\$?)");
  } else {
    return InvalidArgument("--protocol is '{}'; it can be gsm8k, math500, gpqa", protocol);
  }
  return suite;
}

absl::StatusOr<std::vector<std::vector<std::string>>> ParseCsv(std::string_view text) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false, was_quoted = false;
  int line = 1;
  const auto end_row = [&] {
    row.push_back(std::exchange(field, ""));
    if (row.size() > 1 || !row[0].empty()) rows.push_back(std::exchange(row, {}));
    row.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    line += c == '\n' ? 1 : 0;
    if (quoted) {
      if (c != '"') {
        field += c;
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else {
        quoted = false, was_quoted = true;
      }
    } else if (c == ',') {
      row.push_back(std::exchange(field, ""));
      was_quoted = false;
    } else if (c == '\n') {
      end_row();
      was_quoted = false;
    } else if (c == '"' && field.empty() && !was_quoted) {
      quoted = true;
    } else if (was_quoted && c != '\r') {
      return InvalidArgument("line {}: something stands behind a quoted field", line);
    } else if (c != '\r') {
      field += c;
    }
  }
  if (quoted) return InvalidArgument("line {}: a quote is not closed", line);
  if (!field.empty() || !row.empty()) end_row();
  return rows;
}

}  // namespace conclave::cli
