#include "cli/command_parts.h"
#include "cli/eval/eval_options.h"
#include "cli/exit_code.h"

namespace conclave::cli {
namespace {

constexpr char kEvalAbout[] =
    "Measure how right answers are, and what they cost.\n"
    "\n"
    "Asks a suite's questions in several ways (arms) and compares them: how many\n"
    "are answered right, how many one agent, a vote or any agent gets right, tokens\n"
    "and time, with intervals of 95 % and a paired test against the first arm.\n"
    "\n"
    "  conclave eval story:7 --count 500\n"
    "  conclave eval target:4 --arm greedy:mode=thinking,temperature=0 \\\n"
    "      --arm check:agents=8,checker=suite --html targets.html\n"
    "  conclave eval gpqa_diamond.csv --protocol gpqa --json gpqa.jsonl\n"
    "  conclave eval compare --count 200 --offset 1000 --write held-out.jsonl\n"
    "\n"
    "SUITE is a file of JSON lines {question, answer, choices, checker, id}, a\n"
    "benchmark's own file with --protocol, or made by --seed: word, expression,\n"
    "story:K and chain:K (K operations), target:K (K numbers, an exact checker),\n"
    "compare (yes or no), compound (two questions in one), long:N (N shared words).\n"
    "\n"
    "An arm is NAME:KEY=VALUE,...: the keys are the options of `conclave ask`, and\n"
    "checker=suite gives each request its problem's checker. Without any: greedy, a\n"
    "pool of 16 that shows what votes of fewer come to, and 16 agents by default.";

void AddSuiteOptions(CLI::App& eval, EvalOptions& o) {
  constexpr char kGroup[] = "Suite";
  eval.add_option("suite,--suite", o.suite, "A file, or the name of a suite made by a seed")
      ->type_name(kFile)
      ->required()
      ->group(kGroup);
  AddWord(eval, "--protocol", o.protocol, "gsm8k|math500|gpqa",
          "The file is a benchmark's own, and is asked as its authors do")
      ->group(kGroup);
  eval.add_option("--prompts", o.prompts_file, "Other words for protocols, as YAML")
      ->type_name(kFile)
      ->group(kGroup);
  eval.add_option("--seed", o.seed, "Key of the problems and of every random draw")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  eval.add_option("--count", o.count, "Most questions")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  eval.add_option("--offset", o.offset, "Questions left out before the first")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  eval.add_option("--repeats", o.repeats, "Of gpqa: times that a question is asked")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  eval.add_option("--write", o.write_file, "Write the suite there and ask nobody")
      ->type_name(kFile)
      ->group(kGroup);
}

void AddRunOptions(CLI::App& eval, EvalOptions& o) {
  constexpr char kGroup[] = "Run";
  eval.add_option("--arm", o.arms, "What is compared: NAME:KEY=VALUE,...; repeatable")
      ->type_name("ARM")
      ->allow_extra_args(false)
      ->group(kGroup);
  eval.add_option("--arms", o.arms_file, "A YAML file with a list of arms {name, options}")
      ->type_name(kFile)
      ->group(kGroup);
  eval.add_option("--concurrency", o.concurrency, "Questions that are asked at a time")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
  AddWord(eval, "--order", o.order, "arms|questions",
          "What is asked first: all questions of an arm, or a question in all arms")
      ->capture_default_str()
      ->group(kGroup);
  eval.add_option("--retries", o.retries, "Of a request that a router has no room for")
      ->type_name("N")
      ->capture_default_str()
      ->group(kGroup);
}

void AddReportOptions(CLI::App& eval, EvalOptions& o) {
  constexpr char kGroup[] = "Output";
  eval.add_option("--json", o.results_file,
                  "Keep every outcome there, one a line, and the summary; a file that exists is "
                  "continued")
      ->type_name(kFile)
      ->group(kGroup);
  eval.add_option("--html", o.page_file, "Write the tables and curves there, as one page")
      ->type_name(kFile)
      ->group(kGroup);
  eval.add_flag("--quiet,-q", o.quiet, "No progress")->group(kGroup);
}

}  // namespace

void DefineEval(CLI::App& app, EvalOptions& o) {
  CLI::App& eval = *app.add_subcommand("eval", kEvalAbout);
  AddSuiteOptions(eval, o);
  AddRunOptions(eval, o);
  AddReportOptions(eval, o);
  AddServer(eval, o, "Address of the router, or of several: A,B");
  eval.add_option("--model", o.model, "Which served model; needed where there are several")
      ->type_name("NAME")
      ->group("Server");
  eval.footer(kEvalExitCodeText);
}

}  // namespace conclave::cli
