#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli/options.h"

// What the definitions of the commands have in common.
namespace conclave::cli {

struct EvalOptions;

// A file's name, a folder's: completions offer them.
inline constexpr char kFile[] = "FILE";
inline constexpr char kFolder[] = "FOLDER";

// The router and the key, and what else a stream needs.
void AddServer(CLI::App& command, ServerOptions& o, const char* what);
void AddStream(CLI::App& command, ServerOptions& o);

// One of a few words, which the request's maker checks: it says what each means.
CLI::Option* AddWord(CLI::App& command, const char* name, std::string& word, const char* words,
                     const char* what);

// What a request is told, but for the question, the server and how it is shown.
void AddRequestOptions(CLI::App& ask, AskOptions& o);

void DefineAsk(CLI::App& app, AskOptions& o);
void DefineEval(CLI::App& app, EvalOptions& o);

}  // namespace conclave::cli
