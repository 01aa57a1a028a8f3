#include "cli/commands.h"

#include <memory>
#include <string>
#include <vector>

#include "cli/command_parts.h"
#include "cli/exit_code.h"
#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

constexpr char kAbout[] =
    "Asks a Conclave router, and shows what happens on the way.\n"
    "\n"
    "  conclave ask \"What is 12 * 34?\"      ask 8 agents and watch them\n"
    "  conclave replay bill.json            the same bytes again?\n"
    "  conclave eval story:7                how often right, at what cost?\n"
    "  conclave render \"What is 12 * 34?\"   what the model really sees\n"
    "  conclave models                      what can be asked\n"
    "  conclave check configs/*.yaml        are these configs right?\n"
    "\n"
    "`make serve` starts a router and a worker on this machine.";

constexpr char kReplayAbout[] =
    "Run a receipt or a flight again.\n"
    "\n"
    "A receipt is what `ask --receipt` wrote: its question is asked again with its\n"
    "seed and its decisions, which comes to the same bytes wherever its fingerprint\n"
    "is served; else the first token that differs is named, with both texts. A\n"
    "flight is what a lost worker group left in launcher.flight_directory: without\n"
    "--config it is told in words, with it conclave-worker runs it.\n"
    "\n"
    "  conclave replay bill.json\n"
    "  conclave replay flights/flight-001795806926328785086-epoch-1.plans\n"
    "  conclave replay flights/flight-*-epoch-1.plans --config worker.yaml";

constexpr char kRenderAbout[] =
    "Show what a model really sees of a question.\n"
    "\n"
    "The rendered prompt, byte by byte. At a terminal its control tokens, the\n"
    "caller's words and the template's differ in colour: what a caller wrote never\n"
    "becomes a control token, whatever it looks like. With --model FOLDER no router\n"
    "is asked.\n"
    "\n"
    "  conclave render \"What is 12 * 34?\"\n"
    "  conclave render --model models/conclave-demo --tokens \"What is 12 * 34?\"";

constexpr char kTokenizeAbout[] =
    "Show the tokens of a text.\n"
    "\n"
    "Reads a model's tokenizer.json; no router is asked. The text is a caller's:\n"
    "nothing in it becomes a control token, unless --special says so. No token is\n"
    "put in front or behind.\n"
    "\n"
    "  conclave tokenize --model models/conclave-demo \"12 * 34\"\n"
    "  conclave tokenize --model models/conclave-demo --ids < question.txt";

constexpr char kModelsAbout[] =
    "List the models that a router serves, with their limits.\n"
    "\n"
    "  conclave models\n"
    "  conclave models --json --router 127.0.0.1:9100";

constexpr char kCheckAbout[] =
    "Check config files as the programs do when they start.\n"
    "\n"
    "Says everything that is wrong with each file, with its line and column, and what was meant.\n"
    "Files that a config names are looked at too: relative paths begin in the working directory.\n"
    "\n"
    "  conclave check configs/router.yaml configs/worker.yaml\n"
    "  conclave check --as worker --set group.tensor_parallel=4 my.yaml";

constexpr char kHealthAbout[] =
    "Ask a router or a worker how it is, as a probe does.\n"
    "\n"
    "Over the standard gRPC health service, plaintext, at the program's health.listen. liveness:\n"
    "it runs. readiness: it takes requests; a router while a worker group is ready, a worker\n"
    "while its group is formed, neither once it drains.\n"
    "\n"
    "  conclave health 127.0.0.1:9104                 a router\n"
    "  conclave health 127.0.0.1:9102 --service liveness";

constexpr char kCompletionAbout[] =
    "Print a script that completes commands, options and their words.\n"
    "\n"
    "  source <(conclave completion bash)      in ~/.bashrc\n"
    "  source <(conclave completion zsh)       in ~/.zshrc, after compinit";

constexpr int kBeside = 49;  // Columns beside a name: 80 in all.

// CLI11's help in 80 columns; in the list of subcommands the first line of each is enough.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_description(const CLI::App* command) const override {
    return command->get_description() + "\n\n";
  }
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    return Row(make_option_name(option, is_positional) + make_option_opts(option),
               Wrap(make_option_desc(option), kBeside));
  }
  std::string make_subcommand(const CLI::App* command) const override {
    const std::string about = command->get_description();
    return Row(command->get_name(), Wrap(about.substr(0, about.find('\n')), kBeside));
  }

 private:
  std::string Row(const std::string& name, const std::vector<std::string>& lines) const {
    std::string row = "  " + name;
    const bool beside = row.size() < column_width_;
    if (!beside) row += "\n";
    for (size_t i = 0; i < lines.size(); ++i) {
      const size_t indent = beside && i == 0 ? column_width_ - row.size() : column_width_;
      row += std::string(indent, ' ') + lines[i] + "\n";
    }
    return row;
  }
};

void DefineReplay(CLI::App& app, ReplayOptions& o) {
  CLI::App& replay = *app.add_subcommand("replay", kReplayAbout);
  replay.add_option("file", o.file, "A receipt or a flight")->type_name(kFile)->required();
  AddStream(replay, o);
  replay.add_flag("--quiet,-q", o.quiet, "Of a receipt: only what came of it")->group("Output");
  replay.add_flag("--json", o.json, "Of a receipt: what came of it, as JSON")->group("Output");
  replay.add_option("--config", o.config, "Of a flight: run it again by this worker's config")
      ->type_name(kFile)
      ->group("Flight");
  replay.add_option("--set", o.overrides, "Overrides one key of it: model.directory=FOLDER")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false)
      ->group("Flight");
  replay.footer(kReplayExitCodeText);
}

void DefineRender(CLI::App& app, RenderOptions& o) {
  CLI::App& render = *app.add_subcommand("render", kRenderAbout);
  render.add_option("question", o.question, "What would be asked; - reads standard input")
      ->type_name("TEXT")
      ->required();
  AddServer(render, o, "Address of the router");
  render.add_option("--model", o.model, "A model's folder, or the name of a served one")
      ->type_name(kFolder);
  render.add_option("--profile", o.profile, "Profile of a folder that has none")
      ->type_name(kFile)
      ->capture_default_str();
  AddWord(render, "--mode", o.mode, "auto|instant|thinking|contemplating",
          "How much thought (auto: one agent, which thinks if the model does)")
      ->capture_default_str();
  render
      .add_option("--time-of-day", o.time_of_day,
                  "What the template sees, seconds since 1970: a receipt's time_of_day (now)")
      ->type_name("N");
  render.add_flag("--tokens", o.tokens, "Show the tokens, one a line")->group("Output");
  render.add_flag("--ids", o.ids, "Show the tokens' ids on one line")->group("Output");
  render.add_flag("--json", o.json, "Show all of it, as JSON")->group("Output");
  render.footer(kRenderExitCodeText);
}

void DefineTokenize(CLI::App& app, TokenizeOptions& o) {
  CLI::App& tokenize = *app.add_subcommand("tokenize", kTokenizeAbout);
  tokenize.add_option("text", o.text, "The text; - or nothing reads standard input")
      ->type_name("TEXT");
  tokenize.add_option("--model", o.model, "The model's folder")->type_name(kFolder)->required();
  tokenize.add_flag("--special", o.special, "Control tokens in the text are such");
  tokenize.add_flag("--ids", o.ids, "Show the tokens' ids on one line")->group("Output");
  tokenize.add_flag("--json", o.json, "Show all of it, as JSON")->group("Output");
  tokenize.footer(kTokenizeExitCodeText);
}

void DefineModels(CLI::App& app, ModelsOptions& o) {
  CLI::App& models = *app.add_subcommand("models", kModelsAbout);
  AddServer(models, o, "Address of the router");
  models.add_flag("--json", o.json, "As JSON")->group("Output");
  models.footer(kModelsExitCodeText);
}

void DefineCheck(CLI::App& app, CheckOptions& o) {
  CLI::App& check = *app.add_subcommand("check", kCheckAbout);
  check.add_option("files", o.files, "Config files")->type_name(kFile)->required();
  AddWord(check, "--as", o.as, "router|worker|profile", "What they are; else their keys tell");
  check.add_option("--set", o.overrides, "Overrides one key, as the programs' --set does")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  check.add_flag("--only-text", o.only_text, "Do not look at the files that a config names");
  check.footer(kCheckExitCodeText);
}

void DefineHealth(CLI::App& app, HealthOptions& o) {
  CLI::App& health = *app.add_subcommand("health", kHealthAbout);
  health.add_option("address", o.address, "The program's health.listen")
      ->type_name("HOST:PORT")
      ->required();
  AddWord(health, "--service", o.service, "liveness|readiness", "What to ask for")
      ->capture_default_str();
  health.add_option("--timeout", o.timeout_seconds, "How long to wait for an answer")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 3600.0).description(""))
      ->capture_default_str();
  health.footer(kHealthExitCodeText);
}

void AddTls(CLI::App& command, ServerOptions& o) {
  const auto add = [&command](const char* name, std::string& value, const char* type,
                              const char* what) {
    command.add_option(name, value, what)->type_name(type)->group("Server");
  };
  add("--tls-ca", o.tls_ca, kFile, "Reach it over TLS; PEM roots that must have signed it");
  add("--tls-cert", o.tls_cert, kFile, "Your PEM certificate, where it asks for one");
  add("--tls-key", o.tls_key, kFile, "Its PEM key");
  add("--tls-name", o.tls_name, "HOST", "Whom its certificate names, if not --router");
}

}  // namespace

void AddServer(CLI::App& command, ServerOptions& o, const char* what) {
  command.add_option("--router", o.router, what)
      ->type_name("HOST:PORT")
      ->capture_default_str()
      ->group("Server");
  command.add_option("--api-key-file", o.api_key_file, "File whose first line is your key")
      ->type_name(kFile)
      ->group("Server");
  AddTls(command, o);
}

void AddStream(CLI::App& command, ServerOptions& o) {
  AddServer(command, o, "Address of the router, or of several: A,B");
  command.add_flag("--no-resume", o.no_resume, "A stream that breaks is the end of it")
      ->group("Server");
}

CLI::Option* AddWord(CLI::App& command, const char* name, std::string& word, const char* words,
                     const char* what) {
  return command.add_option(name, word, what)->type_name(words);
}

void DefineCommands(CLI::App& app, CommandLine& line) {
  app.name("conclave");
  app.formatter(std::make_shared<HelpFormatter>());
  app.description(kAbout);
  app.set_version_flag("--version", CONCLAVE_VERSION);
  app.require_subcommand(1);
  app.footer(kExitCodeText);
  DefineAsk(app, line.ask);
  DefineReplay(app, line.replay);
  DefineEval(app, line.eval);
  DefineRender(app, line.render);
  DefineTokenize(app, line.tokenize);
  DefineModels(app, line.models);
  DefineCheck(app, line.check);
  DefineHealth(app, line.health);
  CLI::App& completion = *app.add_subcommand("completion", kCompletionAbout);
  AddWord(completion, "shell", line.shell, "bash|zsh", "For which shell")->required();
  completion.footer(kCompletionExitCodeText);
}

}  // namespace conclave::cli
