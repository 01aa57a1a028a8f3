#include "cli/eval/eval.h"

#include <absl/strings/str_split.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <utility>

#include "cli/connection.h"
#include "cli/eval/arms.h"
#include "cli/eval/asker.h"
#include "cli/eval/procedural.h"
#include "cli/eval/progress.h"
#include "cli/eval/protocol.h"
#include "cli/eval/report.h"
#include "cli/eval/results_file.h"
#include "cli/eval/suite_file.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/record.h"
#include "cli/terminal.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

absl::StatusOr<std::vector<Arm>> ArmsOf(const EvalOptions& options) {
  std::vector<Arm> arms;
  if (!options.arms_file.empty()) {
    ASSIGN_OR_RETURN(arms, LoadArms(options.arms_file));
  }
  const bool none = arms.empty() && options.arms.empty();
  for (const std::string& text : none ? DefaultArms() : options.arms) {
    ASSIGN_OR_RETURN(Arm arm, ParseArm(text));
    arms.push_back(std::move(arm));
  }
  std::set<std::string> names;
  for (const Arm& arm : arms) {
    if (names.insert(arm.name).second) continue;
    return InvalidArgument("there are two arms called {}", arm.name);
  }
  return arms;
}

absl::Status CheckNumbers(const EvalOptions& options) {
  struct Limit {
    const char* option;
    int value, least, most;
  };
  for (const Limit& limit : {Limit{"--count", options.count, 1, kMostProblems},
                             Limit{"--offset", options.offset, 0, kMostProblems},
                             Limit{"--repeats", options.repeats, 1, 1000},
                             Limit{"--concurrency", options.concurrency, 1, 1024},
                             Limit{"--retries", options.retries, 0, 1000}}) {
    if (limit.value >= limit.least && limit.value <= limit.most) continue;
    return InvalidArgument("{} is {}; it can be {} to {}", limit.option, limit.value, limit.least,
                           limit.most);
  }
  if (options.order == "arms" || options.order == "questions") return absl::OkStatus();
  return InvalidArgument("--order is '{}'; it can be arms, questions", options.order);
}

absl::Status WriteFile(const char* option, const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  if (file.flush()) return absl::OkStatus();
  return NotFound("{} {} cannot be written; is its folder there?", option, path);
}

// What is still to be asked, in the order that is wanted.
std::vector<Question> QuestionsOf(const std::vector<Arm>& arms, const Suite& suite,
                                  const std::vector<Outcome>& before, bool by_arm) {
  std::set<std::pair<std::string, std::string>> known;
  for (const Outcome& outcome : before) known.emplace(outcome.arm, outcome.problem);
  std::vector<Question> questions;
  const auto add = [&](const Arm& arm, const Problem& problem) {
    if (!known.contains({arm.name, problem.id})) questions.push_back({&arm, &problem});
  };
  if (by_arm) {
    for (const Arm& arm : arms) {
      for (const Problem& problem : suite.problems) add(arm, problem);
    }
  } else {
    for (const Problem& problem : suite.problems) {
      for (const Arm& arm : arms) add(arm, problem);
    }
  }
  return questions;
}

// Those of before that belong to this run's arms and problems.
std::vector<Outcome> Wanted(const std::vector<Outcome>& before, const Suite& suite) {
  std::set<std::string> ids;
  for (const Problem& problem : suite.problems) ids.insert(problem.id);
  std::vector<Outcome> wanted;
  std::copy_if(before.begin(), before.end(), std::back_inserter(wanted),
               [&ids](const Outcome& outcome) { return ids.contains(outcome.problem); });
  return wanted;
}

// An evaluation whose parts are all known to be right.
struct Evaluation {
  Suite suite;
  std::vector<Arm> arms;
  Caller caller;
  ResultsFile results;
};

absl::StatusOr<Evaluation> Prepare(const EvalOptions& options) {
  RETURN_IF_ERROR(CheckNumbers(options));
  RETURN_IF_ERROR(CheckRouter(options.router));
  Evaluation e;
  ASSIGN_OR_RETURN(e.arms, ArmsOf(options));
  ASSIGN_OR_RETURN(e.suite, LoadSuite(options));
  if (e.suite.problems.empty()) {
    return InvalidArgument("{} has no problem from --offset {} on", e.suite.name, options.offset);
  }
  ASSIGN_OR_RETURN(e.caller, MakeCaller(options));
  const EvaluationSettings settings = {
      .suite = e.suite.name, .model = options.model, .seed = options.seed, .arms = e.arms};
  ASSIGN_OR_RETURN(e.results, ResultsFile::Open(options.results_file, settings));
  return e;
}

// The answers of this run and of those before it.
std::vector<Outcome> Run(const EvalOptions& options, Evaluation& e, Asker& asker,
                         std::ostream& notes) {
  std::vector<Outcome> outcomes = Wanted(e.results.before(), e.suite);
  const std::vector<Question> questions =
      QuestionsOf(e.arms, e.suite, outcomes, options.order == "arms");
  const Surroundings around = Surroundings::Look();
  Progress progress(notes, around.errors_are_terminal && around.term != "dumb", questions.size());
  AskAll(asker, questions, options.concurrency, [&](const Outcome& outcome) {
    e.results.Add(outcome);
    if (!options.quiet) progress.On(outcome);
    outcomes.push_back(outcome);
  });
  return outcomes;
}

int Tell(const EvalOptions& options, Evaluation& e, const std::vector<Outcome>& outcomes,
         std::ostream& out) {
  std::vector<std::string> names;
  for (const Arm& arm : e.arms) names.push_back(arm.name);
  const EvalReport report = MakeReport(e.suite.name, options.seed, names, outcomes);
  out << ReportText(report) << std::flush;
  absl::Status kept = e.results.Finish(report);
  if (kept.ok() && !options.page_file.empty()) {
    kept = WriteFile("--html", options.page_file, ReportPage(report));
  }
  return kept.ok() ? kExitOk : Usage(kept);
}

}  // namespace

absl::StatusOr<Suite> LoadSuite(const EvalOptions& options) {
  const SuiteRange range = {.seed = options.seed, .offset = options.offset, .count = options.count};
  std::error_code ignored;
  const bool is_file = std::filesystem::exists(options.suite, ignored);
  if (options.protocol.empty() && (IsProcedural(options.suite) || !is_file)) {
    ASSIGN_OR_RETURN(const ProceduralSpec spec, ParseProcedural(options.suite));
    return MakeProcedural(options.suite, spec, range);
  }
  ASSIGN_OR_RETURN(const std::string text, ReadFile(options.suite, kMostSuiteBytes));
  ASSIGN_OR_RETURN(const Prompts prompts, LoadPrompts(options.prompts_file));
  const std::string file = std::filesystem::path(options.suite).filename();
  if (options.protocol.empty()) return ParseSuite(text, file, prompts.choices, range);
  absl::StatusOr<Suite> suite =
      ParseProtocol(options.protocol, text, prompts, range, options.repeats);
  if (!suite.ok()) return Annotate(suite.status(), options.suite);
  suite->name = fmt::format("{} {}", options.protocol, file);
  if (options.protocol == "gpqa") suite->name += fmt::format(" seed {}", options.seed);
  return suite;
}

int Evaluate(const EvalOptions& options, std::ostream& out, std::ostream& notes) {
  if (!options.write_file.empty()) {
    const absl::StatusOr<Suite> suite = LoadSuite(options);
    if (!suite.ok()) return Usage(suite.status());
    const absl::Status written = WriteFile("--write", options.write_file, SuiteText(*suite));
    return written.ok() ? kExitOk : Usage(written);
  }
  absl::StatusOr<Evaluation> e = Prepare(options);
  if (!e.ok()) return Usage(e.status());
  std::function<void()> cancel = [] {};
  absl::Mutex mutex;
  bool interrupted = false;
  const InterruptWatch watch([&] {  // Before gRPC has threads.
    absl::MutexLock lock(&mutex);
    interrupted = true;
    cancel();
  });
  absl::StatusOr<std::unique_ptr<Asker>> asker =
      Asker::Make({.routers = absl::StrSplit(options.router, ',', absl::SkipEmpty()),
                   .caller = e->caller,
                   .model = options.model,
                   .seed = options.seed,
                   .retries = options.retries},
                  e->suite.answer_key);
  if (!asker.ok()) return Report(options.router, asker.status());
  {
    absl::MutexLock lock(&mutex);
    cancel = [&asker] { (*asker)->Cancel(); };
    if (interrupted) cancel();
  }
  const std::vector<Outcome> outcomes = Run(options, *e, **asker, notes);
  {
    absl::MutexLock lock(&mutex);
    cancel = [] {};
  }
  const int code = Tell(options, *e, outcomes, out);
  return code == kExitOk && watch.interrupted() ? kExitInterrupted : code;
}

}  // namespace conclave::cli
