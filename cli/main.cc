#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "cli/ask.h"
#include "cli/check.h"
#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/connection.h"
#include "cli/eval/eval.h"
#include "cli/exit_code.h"
#include "cli/health.h"
#include "cli/live_printer.h"
#include "cli/options.h"
#include "cli/printer.h"
#include "cli/terminal.h"

namespace conclave::cli {
namespace {

StopGoal GoalOf(const AskOptions& options) {
  StopGoal goal;
  if (options.strategy == "auto") goal = {.rule = "beta", .at = -1};  // By effort.
  if (!options.stop_rule.empty()) goal = {.rule = options.stop_rule};
  if (options.stop_certainty) goal.at = *options.stop_certainty;
  if (options.stop_votes) goal.at = *options.stop_votes;
  return goal;
}

std::unique_ptr<Printer> MakePrinter(const AskOptions& options) {
  if (options.json) return std::make_unique<JsonPrinter>(std::cout);
  const Surroundings around = Surroundings::Look();
  // Single tokens have no place on a screen that is drawn again and again.
  if (!options.quiet && !options.logprobs && CanRedraw(around)) {
    return std::make_unique<LivePrinter>(Terminal(), UsesColor(around), GoalOf(options));
  }
  return std::make_unique<TextPrinter>(std::cout, std::cerr, options.quiet);
}

int RunAsk(const AskOptions& options) {
  if (const absl::Status router = CheckRouter(options.router); !router.ok()) return Usage(router);
  const auto request = MakeRequest(options);
  if (!request.ok()) return Usage(request.status());
  return Ask(options, *request, *MakePrinter(options));
}

// Colours are for people at a terminal.
bool ColorsOutput() {
  const Surroundings around = Surroundings::Look();
  return around.output_is_terminal && around.term != "dumb" && UsesColor(around);
}

int RunReplay(const ReplayOptions& options) {
  const Surroundings around = Surroundings::Look();
  if (options.quiet || options.json || !CanRedraw(around)) {
    SilentPrinter silent;
    return Replay(options, silent, std::cout);
  }
  LivePrinter live(Terminal(), UsesColor(around), StopGoal());
  return Replay(options, live, std::cout);
}

int RunCompletion(const CLI::App& app, const std::string& shell) {
  const auto script = CompletionScript(app, shell);
  if (!script.ok()) return Usage(script.status());
  std::cout << *script;
  return kExitOk;
}

int Main(int argc, char** argv) {
  CLI::App app;
  CommandLine line;
  DefineCommands(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (app.got_subcommand("replay")) return RunReplay(line.replay);
  if (app.got_subcommand("eval")) return Evaluate(line.eval, std::cout, std::cerr);
  if (app.got_subcommand("render")) {
    return Render(line.render, std::cout, std::cerr, ColorsOutput());
  }
  if (app.got_subcommand("tokenize")) {
    return Tokenize(line.tokenize, std::cout, std::cerr, ColorsOutput());
  }
  if (app.got_subcommand("models")) return ListModels(line.models, std::cout, ColorsOutput());
  if (app.got_subcommand("check")) return CheckConfigs(line.check, std::cout, std::cerr);
  if (app.got_subcommand("health")) return AskHealth(line.health, std::cout, std::cerr);
  if (app.got_subcommand("completion")) return RunCompletion(app, line.shell);
  return RunAsk(line.ask);
}

}  // namespace
}  // namespace conclave::cli

int main(int argc, char** argv) { return conclave::cli::Main(argc, argv); }
