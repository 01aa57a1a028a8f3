#include <string>

#include "cli/command_parts.h"
#include "cli/exit_code.h"

namespace conclave::cli {
namespace {

constexpr char kAskAbout[] =
    "Ask a question and watch the agents.\n"
    "\n"
    "At a terminal every agent has a row; elsewhere the answer alone goes to standard output and\n"
    "all that happens to standard error. Ctrl-C stops the request and shows what it came to.\n"
    "\n"
    "  conclave ask \"What is 12 * 34?\"\n"
    "  conclave ask --agents 16 --deadline 10 --receipt bill.json \"What is 12 * 34?\"\n"
    "  conclave replay bill.json                              the same bytes again?\n"
    "  generate-question | conclave ask --quiet -             for scripts\n"
    "\n"
    "Where no default is named, the router or the model has one.";

void AddServerOptions(CLI::App& ask, AskOptions& o) {
  AddStream(ask, o);
  ask.add_option("--model", o.model, "Which served model; needed where there are several")
      ->type_name("NAME")
      ->group("Server");
  ask.add_option("--request-id", o.request_id, "Your id of this request; drawn when not given")
      ->type_name("ID")
      ->group("Server");
}

void AddAgentOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Agents";
  AddWord(ask, "--mode", o.mode, "auto|instant|thinking|contemplating",
          "How much thought (auto: one agent, which thinks if the model does)")
      ->capture_default_str()
      ->group(kGroup);
  ask.add_option("--agents", o.agents, "How many agents think, 1 to 64 (8)")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--min-agents", o.min_agents, "Fewest agents that may answer (1)")
      ->type_name("N")
      ->group(kGroup);
  AddWord(ask, "--on-loss", o.on_loss, "resume|continue|fail",
          "What happens when a worker group is lost (resume)")
      ->group(kGroup);
}

void AddStrategyOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Strategy";
  AddWord(ask, "--strategy", o.strategy, "sample|roles|decompose|refine|auto",
          "How the agents share the work: sample, all answer the question; roles, each told "
          "something more; decompose, one part each; refine, in rounds; auto, by effort (sample)")
      ->group(kGroup);
  AddWord(ask, "--effort", o.effort, "low|medium|high",
          "How much thought auto may take: 4, 16 or 64 agents (medium)")
      ->group(kGroup);
  ask.add_option("--wave", o.wave, "Agents that enter together; more only as long as needed (all)")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--role", o.roles, "For roles: what an agent is told besides; repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group(kGroup);
  ask.add_option("--temperatures", o.temperatures, "One for each agent, again from the first: A,B")
      ->type_name("X,...")
      ->delimiter(',')
      ->group(kGroup);
  ask.add_option("--agent-models", o.agent_models,
                 "A served model for each agent, again from the first: A,B (--model for all)")
      ->type_name("NAME,...")
      ->delimiter(',')
      ->group(kGroup);
  ask.add_option("--rounds", o.rounds, "For refine: rounds behind the first, 1 to 8 (1)")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--drafts", o.drafts, "For refine: drafts that an agent sees (all)")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--digest-bytes", o.digest_bytes,
                 "Most bytes of drafts or candidates in one prompt (16384)")
      ->type_name("N")
      ->group(kGroup);
}

void AddVoteOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Vote";
  AddWord(ask, "--answer-key", o.answer_key,
          "boxed|answer-line|json:FIELD|regex:PATTERN|last-line|whole-text",
          "How an agent's answer is found in its text, so that answers can be compared")
      ->group(kGroup);
  AddWord(ask, "--aggregation", o.aggregation, "auto|vote|weighted-vote|synthesise|select|check",
          "How the answers become one (auto: the vote, or a synthesis where none leads)")
      ->group(kGroup);
  ask.add_option("--aggregator-model", o.aggregator_model,
                 "A served model that merges the answers in place of the agents' own")
      ->type_name("NAME")
      ->group(kGroup);
  AddWord(ask, "--stop-rule", o.stop_rule, "none|settled|beta|window|first|quorum|accepted",
          "When the agents that still run are cut (settled: nothing can overturn the leader; "
          "with --strategy auto beta)")
      ->group(kGroup);
  ask.add_option("--stop-votes", o.stop_votes,
                 "Ends of a window (4), ends that are enough for first (half), or equal answers "
                 "that are enough for quorum (more than half)")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--stop-certainty", o.stop_certainty,
                 "Beta stops when the leader beats the runner-up this surely, 0.5 to 1 (0.95; "
                 "with --strategy auto by effort)")
      ->type_name("P")
      ->group(kGroup);
  AddWord(ask, "--vote-weight", o.vote_weight,
          "mean-probability|top20-mean|top20-lowest-window|trace-probability",
          "What a weighted vote weighs by (top20-lowest-window)")
      ->group(kGroup);
  ask.add_option("--confidence-bar", o.confidence_bar,
                 "Agents whose confidence falls below it end there and do not vote (none)")
      ->type_name("X")
      ->group(kGroup);
  ask.add_option("--confidence-window", o.confidence_window,
                 "Drawn tokens over which confidence is looked at, 1 to 65536 (2048)")
      ->type_name("N")
      ->group(kGroup);
}

void AddCheckOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Checker and probes";
  ask.add_option("--check-value", o.check_value,
                 "A right answer is an arithmetic expression that comes to it: 22, 7/2")
      ->type_name("VALUE")
      ->group(kGroup);
  ask.add_option("--check-numbers", o.check_numbers, "And uses each of these numbers once: A,B")
      ->type_name("N,...")
      ->delimiter(',')
      ->group(kGroup);
  ask.add_option("--check-regex", o.check_regex, "A right answer matches it, from end to end")
      ->type_name("PATTERN")
      ->group(kGroup);
  ask.add_option("--check-schema", o.check_schema_file,
                 "A right answer is JSON that this schema accepts")
      ->type_name(kFile)
      ->group(kGroup);
  ask.add_option("--probe-every", o.probe_every,
                 "Ask each agent for its answer so far at every so many tokens, 16 to 65536")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--probe-agree", o.probe_agree,
                 "An agent ends with the answer that so many probes in a row agree on, 2 to 64")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--probe-tokens", o.probe_tokens, "Most tokens of a probe's answer, 1 to 256 (20)")
      ->type_name("N")
      ->group(kGroup);
}

void AddLimitOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Limits";
  ask.add_option("--deadline", o.deadline_seconds, "Then the best answer so far is taken")
      ->type_name("SECONDS")
      ->group(kGroup);
  ask.add_option("--patience", o.patience_seconds,
                 "How long an agent that has ended waits for those behind it; then these are given "
                 "up, if --min-agents are left")
      ->type_name("SECONDS")
      ->group(kGroup);
  ask.add_option("--thinking-tokens", o.thinking_tokens, "Most tokens of one agent's thinking")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--answer-tokens", o.answer_tokens, "Most tokens of one answer")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--total-tokens", o.total_tokens, "Most tokens of all agents together")
      ->type_name("N")
      ->group(kGroup);
}

void AddStopOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Limits";
  ask.add_option("--stop", o.stop, "A text that ends an answer, and is not part of it; repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->group(kGroup);
  ask.add_option("--stop-token", o.stop_tokens, "A token that ends an agent; repeatable")
      ->type_name("ID")
      ->allow_extra_args(false)
      ->group(kGroup);
  ask.add_option("--min-tokens", o.min_tokens,
                 "Before it has so many tokens, thinking included, no agent ends (0)")
      ->type_name("N")
      ->group(kGroup);
}

void AddSamplingOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Sampling";
  ask.add_option("--seed", o.seed, "Key of every random draw; drawn and shown when not given")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--temperature", o.temperature, "0 takes the likeliest token always")
      ->type_name("X")
      ->group(kGroup);
  ask.add_option("--top-k", o.top_k, "Keep this many of the likeliest tokens; 0 keeps all")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--top-p", o.top_p, "Keep the likeliest tokens up to this probability")
      ->type_name("P")
      ->group(kGroup);
  ask.add_option("--min-p", o.min_p, "Drop tokens below this share of the likeliest one's")
      ->type_name("P")
      ->group(kGroup);
}

void AddOutputOptions(CLI::App& ask, AskOptions& o) {
  constexpr char kGroup[] = "Output";
  ask.add_flag("--quiet,-q", o.quiet, "Only the answer")->group(kGroup);
  ask.add_flag("--json", o.json, "One event a line, as JSON, and nothing else")->group(kGroup);
  ask.add_option("--logprobs", o.logprobs,
                 "Show every token with its log-probability and so many of the likeliest beside "
                 "it, 0 to 20")
      ->type_name("N")
      ->group(kGroup);
  ask.add_option("--receipt", o.receipt_file,
                 "Keep the question, the receipt and what the agents wrote there, as JSON, for "
                 "`conclave replay`; the stream then carries tokens")
      ->type_name(kFile)
      ->group(kGroup);
  ask.add_option(
         "--replay", o.replay_file,
         "As `conclave replay`, for a receipt without its question: this one and its options "
         "must be the same")
      ->type_name(kFile)
      ->group(kGroup);
}

}  // namespace

void AddRequestOptions(CLI::App& ask, AskOptions& o) {
  AddAgentOptions(ask, o);
  AddStrategyOptions(ask, o);
  AddVoteOptions(ask, o);
  AddCheckOptions(ask, o);
  AddLimitOptions(ask, o);
  AddStopOptions(ask, o);
  AddSamplingOptions(ask, o);
}

void DefineAsk(CLI::App& app, AskOptions& o) {
  CLI::App& ask = *app.add_subcommand("ask", kAskAbout);
  ask.add_option("question", o.question, "What to ask; - reads standard input")
      ->type_name("TEXT")
      ->required();
  AddServerOptions(ask, o);
  AddRequestOptions(ask, o);
  AddOutputOptions(ask, o);
  ask.footer(kAskExitCodeText);
}

}  // namespace conclave::cli
