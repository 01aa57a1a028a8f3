#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/check.h"
#include "cli/eval/eval_options.h"
#include "cli/health.h"
#include "cli/models.h"
#include "cli/options.h"
#include "cli/render.h"
#include "cli/replay.h"
#include "cli/tokenize.h"

namespace conclave::cli {

// What the command line says, for all subcommands.
struct CommandLine {
  AskOptions ask;
  ReplayOptions replay;
  EvalOptions eval;
  RenderOptions render;
  TokenizeOptions tokenize;
  ModelsOptions models;
  CheckOptions check;
  HealthOptions health;
  std::string shell;  // Whose completion script is wanted.
};

// Defines every subcommand with its options, help and examples on `app`; parsing fills `line`,
// which must outlive `app`. The tree is also what completions are made from.
void DefineCommands(CLI::App& app, CommandLine& line);

}  // namespace conclave::cli
