#include "cli/eval/arms.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>

#include "cli/command_parts.h"
#include "cli/options.h"
#include "common/config.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

constexpr size_t kMostName = 24;
constexpr int kMostArms = 64;

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= kMostName &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.' || c == '@';
         });
}

// `options`: "key=value" each.
absl::StatusOr<Arm> MakeArm(const std::string& name, const std::vector<std::string>& options) {
  if (!IsName(name)) {
    return InvalidArgument("arm '{}': a name has 1 to {} of A-Z a-z 0-9 - _ . @", name, kMostName);
  }
  AskOptions ask;
  std::string checker;
  CLI::App app;
  AddRequestOptions(app, ask);
  AddWord(app, "--checker", checker, "suite", "");
  // Last first, as CLI11 takes them.
  std::vector<std::string> arguments;
  for (const std::string& option : options) arguments.insert(arguments.begin(), "--" + option);
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    return InvalidArgument("arm {}: {}", name, error.what());
  }
  if (!checker.empty() && checker != "suite") {
    return InvalidArgument("arm {}: checker is '{}'; it can be suite", name, checker);
  }
  ask.question = "?";
  ask.quiet = true;
  Arm arm;
  arm.name = name;
  arm.gives_checker = !checker.empty();
  absl::StatusOr<v1::GenerateRequest> request = MakeRequest(ask);
  if (!request.ok()) return Annotate(request.status(), "arm " + name);
  arm.request = *std::move(request);
  arm.request.clear_messages();
  if (arm.gives_checker && arm.request.mode() != v1::MODE_CONTEMPLATING) {
    return InvalidArgument("arm {}: checker=suite is for mode=contemplating", name);
  }
  return arm;
}

}  // namespace

absl::StatusOr<Arm> ParseArm(const std::string& text) {
  const size_t colon = text.find(':');
  std::vector<std::string> options;
  const std::string list = colon == std::string::npos ? "" : text.substr(colon + 1);
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    const std::string piece = list.substr(at, end - at);
    if (piece.find('=') == std::string::npos && !options.empty()) {
      options.back() += "," + piece;
    } else {
      options.push_back(piece);
    }
    at = end + 1;
  }
  return MakeArm(text.substr(0, colon), options);
}

absl::StatusOr<std::vector<Arm>> LoadArms(const std::string& path) {
  ASSIGN_OR_RETURN(Config config, Config::Load(path));
  std::vector<Arm> arms;
  for (ConfigNode& node : config.root().Items("arms", kMostArms)) {
    std::string name;
    std::vector<std::string> options;
    node.Read("name", &name);
    node.Read("options", &options);
    absl::StatusOr<Arm> arm = MakeArm(name, options);
    if (arm.ok()) {
      arms.push_back(*std::move(arm));
    } else {
      node.Fail("", MessageOf(arm.status()));
    }
  }
  RETURN_IF_ERROR(config.Finish());
  if (arms.empty()) return InvalidArgument("{}: has no arms", path);
  return arms;
}

std::vector<std::string> DefaultArms() {
  return {"greedy:mode=auto,temperature=0", "pool:agents=16,stop-rule=none,aggregation=vote",
          "default:agents=16"};
}

}  // namespace conclave::cli
