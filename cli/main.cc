#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "cli/ask.h"
#include "cli/exit_code.h"
#include "cli/live_printer.h"
#include "cli/options.h"
#include "cli/printer.h"
#include "cli/terminal.h"

namespace conclave::cli {
namespace {

void AddAskOptions(CLI::App& ask, AskOptions& o) {
  ask.add_option("question", o.question, "What to ask; - reads standard input")->required();
  ask.add_option("--router", o.router, "Address of the router")->capture_default_str();
  ask.add_option("--model", o.model, "Which served model; default: the only one");
  ask.add_option("--mode", o.mode, "instant, thinking or contemplating")->capture_default_str();
  ask.add_option("--agents", o.agents, "How many agents think (1 to 64)");
  ask.add_option("--min-agents", o.min_agents, "Fewest agents that may answer");
  ask.add_option("--aggregation", o.aggregation, "auto, vote or synthesise");
  ask.add_option("--stop-rule", o.stop_rule, "none, settled, beta, window, first or quorum");
  ask.add_option("--stop-votes", o.stop_votes,
                 "ends of a window, first ends, or equal answers that stop it");
  ask.add_option("--stop-certainty", o.stop_certainty, "of the beta rule, 0.5 to 1");
  ask.add_option("--answer-key", o.answer_key,
                 "boxed, answer-line, json:FIELD, regex:PATTERN, last-line or whole-text");
  ask.add_option("--on-loss", o.on_loss, "resume, continue or fail when a group is lost");
  ask.add_option("--thinking-tokens", o.thinking_tokens, "Most tokens of one agent's thinking");
  ask.add_option("--answer-tokens", o.answer_tokens, "Most tokens of an answer");
  ask.add_option("--total-tokens", o.total_tokens, "Most tokens of all agents together");
  ask.add_option("--deadline", o.deadline_seconds, "Seconds until the best answer so far is taken");
  ask.add_option("--temperature", o.temperature, "0 = the likeliest token always");
  ask.add_option("--top-k", o.top_k, "Keep this many of the likeliest tokens");
  ask.add_option("--top-p", o.top_p, "Keep the likeliest tokens up to this probability");
  ask.add_option("--min-p", o.min_p, "Drop tokens below this share of the likeliest");
  ask.add_option("--seed", o.seed, "Key of every random draw");
  ask.add_option("--request-id", o.request_id, "Your id of this request");
  ask.add_option("--api-key-file", o.api_key_file, "File whose first line is your key");
  ask.add_option("--receipt", o.receipt_file, "Write the receipt to this file, as JSON");
  ask.add_option("--replay", o.replay_file, "Run this receipt again, to the same bytes");
  ask.add_flag("--json", o.json, "One event a line, as JSON");
  ask.add_flag("--quiet,-q", o.quiet, "Only the answer");
}

std::unique_ptr<Printer> MakePrinter(const AskOptions& options) {
  if (options.json) return std::make_unique<JsonPrinter>(std::cout);
  const Surroundings around = Surroundings::Look();
  if (!options.quiet && CanRedraw(around)) {
    return std::make_unique<LivePrinter>(Terminal(), UsesColor(around), options.stop_rule);
  }
  return std::make_unique<TextPrinter>(std::cout, std::cerr, options.quiet);
}

int RunAsk(const AskOptions& options) {
  const auto request = MakeRequest(options);
  if (!request.ok()) return Usage(request.status());
  return Ask(options, *request, *MakePrinter(options));
}

int Main(int argc, char** argv) {
  CLI::App app{"Asks a Conclave router.\n\n  conclave ask \"What is 12 * 34?\"\n  conclave models"};
  app.set_version_flag("--version", CONCLAVE_VERSION);
  app.require_subcommand(1);
  app.footer(kExitCodeText);
  AskOptions options;
  CLI::App* ask = app.add_subcommand("ask", "Ask a question and watch the agents");
  AddAskOptions(*ask, options);
  CLI::App* models = app.add_subcommand("models", "List the served models");
  models->add_option("--router", options.router, "Address of the router")->capture_default_str();
  for (CLI::App* command : {ask, models}) command->footer(kExitCodeText);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (const absl::Status router = CheckRouter(options.router); !router.ok()) return Usage(router);
  return *models ? ListModels(options.router) : RunAsk(options);
}

}  // namespace
}  // namespace conclave::cli

int main(int argc, char** argv) { return conclave::cli::Main(argc, argv); }
