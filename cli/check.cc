#include "cli/check.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "cli/exit_code.h"
#include "cli/terminal_text.h"
#include "common/config.h"
#include "common/status.h"
#include "router/router_config.h"
#include "worker/text/profile.h"
#include "worker/worker_config.h"

namespace conclave::cli {
namespace {

enum class Kind { kUnknown, kRouter, kWorker, kProfile };

// What a kind is called, and the keys that only it has.
struct Looks {
  Kind kind;
  const char* word;
  const char* whose;
  std::vector<std::string> keys;
};

const std::vector<Looks>& AllLooks() {
  static const auto& looks =
      *new std::vector<Looks>{{Kind::kRouter,
                               "router",
                               "a router's config",
                               {"workers", "admission", "limits", "keep", "drain"}},
                              {Kind::kWorker,
                               "worker",
                               "a worker's config",
                               {"model", "group", "launcher", "drain_timeout"}},
                              {Kind::kProfile,
                               "profile",
                               "a model's profile",
                               {"thinking", "answer", "aggregation", "selection", "splitting",
                                "joining", "refining", "recommended_tokens", "sampling"}}};
  return looks;
}

const char* NameOf(Kind kind) {
  for (const Looks& looks : AllLooks()) {
    if (looks.kind == kind) return looks.whose;
  }
  return "";
}

// The kind that has most of the keys; kUnknown when two have equally many.
Kind Recognise(const std::vector<std::string>& keys) {
  Kind best = Kind::kUnknown;
  long most = 0;
  for (const Looks& looks : AllLooks()) {
    const long hits = std::count_if(keys.begin(), keys.end(), [&looks](const std::string& key) {
      return std::find(looks.keys.begin(), looks.keys.end(), key) != looks.keys.end();
    });
    if (hits == most) best = Kind::kUnknown;
    if (hits > most) best = looks.kind;
    most = std::max(most, hits);
  }
  return best;
}

absl::StatusOr<Kind> KindOf(const std::string& file, const std::string& as) {
  for (const Looks& looks : AllLooks()) {
    if (as == looks.word) return looks.kind;
  }
  if (!as.empty()) return InvalidArgument("--as is '{}'; it can be router, worker, profile", as);
  ASSIGN_OR_RETURN(const Config config, Config::Load(file));
  const Kind kind = Recognise(config.keys());
  if (kind != Kind::kUnknown) return kind;
  return InvalidArgument(
      "{}: has no key that tells a router's config from a worker's; --as router or --as worker "
      "says which it is",
      file);
}

absl::Status CheckProfile(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return NotFound("{}: cannot be opened", file);
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  return worker::ParseProfile(text, file).status();
}

absl::StatusOr<Kind> CheckFile(const std::string& file, const CheckOptions& options) {
  ASSIGN_OR_RETURN(const Kind kind, KindOf(file, options.as));
  const NamedFiles files = options.only_text ? NamedFiles::kIgnore : NamedFiles::kCheck;
  if (kind == Kind::kRouter) {
    RETURN_IF_ERROR(router::LoadRouterConfig(file, options.overrides, files).status());
  } else if (kind == Kind::kWorker) {
    RETURN_IF_ERROR(worker::LoadWorkerConfig(file, options.overrides, files).status());
  } else {
    if (!options.overrides.empty()) {
      return InvalidArgument("{}: a profile takes no --set: no program overrides it", file);
    }
    RETURN_IF_ERROR(CheckProfile(file));
  }
  return kind;
}

}  // namespace

int CheckConfigs(const CheckOptions& options, std::ostream& out, std::ostream& errors) {
  bool all_right = true;
  for (const std::string& file : options.files) {
    const absl::StatusOr<Kind> kind = CheckFile(file, options);
    if (kind.ok()) {
      out << Printable(file) << ": ok, " << NameOf(*kind) << std::endl;
    } else {
      all_right = false;
      errors << Printable(MessageOf(kind.status())) << std::endl;
    }
  }
  return all_right ? kExitOk : kExitUsage;
}

}  // namespace conclave::cli
