#include "cli/completion.h"

#include <fmt/format.h>

#include <sstream>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace conclave::cli {
namespace {

using Options = std::vector<const CLI::Option*>;
using Commands = std::vector<const CLI::App*>;

Commands CommandsOf(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

Options OptionsOf(const CLI::App& app) {
  return app.get_options([](const CLI::Option*) { return true; });
}

bool IsFile(const CLI::Option& option) { return option.get_type_name() == "FILE"; }
bool IsFolder(const CLI::Option& option) { return option.get_type_name() == "FOLDER"; }

// "json:FIELD|boxed" as "json:" and "boxed": what a caller names himself is left out. None where
// the option takes anything.
std::vector<std::string> WordsOf(const CLI::Option& option) {
  std::vector<std::string> words;
  const std::string& type = option.get_type_name();
  if (type.find('|') == std::string::npos) return words;
  std::istringstream list(type);
  for (std::string word; std::getline(list, word, '|');) {
    const size_t colon = word.find(':');
    words.push_back(colon == std::string::npos ? word : word.substr(0, colon + 1));
  }
  return words;
}

// The names of an option as they are typed: "--quiet", "-q". None for a positional.
std::vector<std::string> NamesOf(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  return names;
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// A branch of bash's case for the value of one option.
std::string BashValue(const std::string& command, const CLI::Option& option) {
  std::string patterns;
  for (const std::string& name : NamesOf(option)) {
    patterns += fmt::format("{}\"{} {}\"", patterns.empty() ? "" : " | ", command, name);
  }
  const std::string action = IsFile(option) ? std::string("files=-f")
                             : IsFolder(option)
                                 ? std::string("files=-d")
                                 : fmt::format("words='{}'", fmt::join(WordsOf(option), " "));
  return fmt::format("    {}) {} ;;\n", patterns, action);
}

// The branches of one command: values of its options, then what may stand anywhere else.
std::string BashCommand(const CLI::App& command) {
  std::string text;
  std::vector<std::string> free;
  bool files = false;
  for (const CLI::Option* option : OptionsOf(command)) {
    const std::vector<std::string> names = NamesOf(*option);
    free.insert(free.end(), names.begin(), names.end());
    if (names.empty()) {
      const std::vector<std::string> words = WordsOf(*option);
      free.insert(free.end(), words.begin(), words.end());
      files = files || IsFile(*option);
    } else if (option->get_items_expected_max() > 0) {
      text += BashValue(command.get_name(), *option);
    }
  }
  return text + fmt::format("    \"{} \"*) words='{}'{} ;;\n", command.get_name(),
                            fmt::join(free, " "), files ? "; files=-f" : "");
}

std::string BashScript(const CLI::App& app) {
  std::vector<std::string> first;
  std::string branches;
  for (const CLI::App* command : CommandsOf(app)) {
    first.push_back(command->get_name());
    branches += BashCommand(*command);
  }
  for (const CLI::Option* option : OptionsOf(app)) {
    for (const std::string& name : NamesOf(*option)) first.push_back(name);
  }
  return fmt::format(R"(# bash completion of conclave
_conclave() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} words='' files=''
  # --option=value comes as three words.
  if [ "$current" = '=' ]; then
    current=''
  elif [ "$previous" = '=' ]; then
    previous=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{}'
  else
    case "${{COMP_WORDS[1]}} $previous" in
{}    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  if [ -n "$files" ]; then
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen "$files" -- "$current"))
  fi
}}
complete -F _conclave conclave
)",
                     fmt::join(first, " "), branches);
}

// Text in single quotes inside _arguments' own syntax.
std::string ZshText(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    if (c == '\'') {
      quoted += R"('\'')";
    } else if (c == '[' || c == ']' || c == ':' || c == '\\') {
      quoted += std::string("\\") + c;
    } else {
      quoted += c == '\n' ? ' ' : c;
    }
  }
  return quoted;
}

std::string ZshValue(const CLI::Option& option) {
  if (IsFile(option)) return ":file:_files";
  if (IsFolder(option)) return ":folder:_files -/";
  std::vector<std::string> words;
  for (const std::string& word : WordsOf(option)) words.push_back(ZshText(word));
  const std::string name = words.empty() ? ZshText(option.get_type_name()) : std::string("word");
  return words.empty() ? fmt::format(":{}: ", name)
                       : fmt::format(":{}:({})", name, fmt::join(words, " "));
}

std::string ZshCommand(const CLI::App& command) {
  std::string text = fmt::format("    {})\n      _arguments", command.get_name());
  for (const CLI::Option* option : OptionsOf(command)) {
    const bool takes_value = option->get_items_expected_max() > 0;
    const std::string value = takes_value ? ZshValue(*option) : "";
    for (const std::string& name : NamesOf(*option)) {
      text +=
          fmt::format(" \\\n        '{}[{}]{}'", name, ZshText(option->get_description()), value);
    }
    if (NamesOf(*option).empty()) {
      text += fmt::format(" \\\n        '{}{}'", option->get_items_expected_max() > 1 ? "*" : "1",
                          value);
    }
  }
  return text + "\n      ;;\n";
}

std::string ZshScript(const CLI::App& app) {
  std::string commands, branches;
  for (const CLI::App* command : CommandsOf(app)) {
    commands += fmt::format("    '{}:{}'\n", command->get_name(),
                            ZshText(FirstLine(command->get_description())));
    branches += ZshCommand(*command);
  }
  return fmt::format(R"(#compdef conclave
# zsh completion of conclave
_conclave() {{
  local -a commands=(
{}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
{}  esac
}}
compdef _conclave conclave
)",
                     commands, branches);
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(const CLI::App& app, const std::string& shell) {
  if (shell == "bash") return BashScript(app);
  if (shell == "zsh") return ZshScript(app);
  return InvalidArgument("the shell is '{}'; it can be bash or zsh", shell);
}

}  // namespace conclave::cli
