#include "cli/eval/results_file.h"

#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/record.h"
#include "common/json_parse.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr JsonLimits kLimits = {.depth = 32, .keys = 1024, .values = 100'000};
constexpr size_t kMostBytes = size_t{4} << 30;

std::string RequestJson(const Arm& arm) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(arm.request, &text, options).ok()) return "{}";
  return text;
}

ordered_json SettingsJson(const EvaluationSettings& settings) {
  ordered_json head;
  head["suite"] = settings.suite;
  head["model"] = settings.model;
  head["seed"] = settings.seed;
  head["arms"] = ordered_json::object();
  for (const Arm& arm : settings.arms) {
    ordered_json& one = head["arms"][arm.name];
    one["request"] = ordered_json::parse(RequestJson(arm));
    if (arm.gives_checker) one["checker"] = "suite";
  }
  return {{"evaluation", std::move(head)}};
}

// `was`: of the file.
absl::Status Compare(const json& was, const json& now) {
  for (const char* key : {"suite", "model", "seed"}) {
    if (was.value(key, json()) == now[key]) continue;
    return FailedPrecondition("is of another evaluation: its {} is {}, not {}", key,
                              was.value(key, json()).dump(), now[key].dump());
  }
  const json arms = was.value("arms", json::object());
  for (const auto& [name, arm] : now["arms"].items()) {
    if (!arms.contains(name) || arms[name] == arm) continue;
    return FailedPrecondition("is of another evaluation: its arm {} is {}, not {}", name,
                              arms[name].dump(), arm.dump());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ResultsFile> ResultsFile::Open(const std::string& path,
                                              const EvaluationSettings& settings) {
  ResultsFile results;
  results.path_ = path;
  if (path.empty()) return results;
  std::error_code ignored;
  std::string text;
  if (std::filesystem::exists(path, ignored)) {
    ASSIGN_OR_RETURN(text, ReadFile(path, kMostBytes));
  }
  const ordered_json head = SettingsJson(settings);
  bool has_head = false;
  std::string_view rest = text;
  for (int number = 1; !rest.empty(); ++number) {
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos) break;  // Torn.
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    const auto place = fmt::format("{}:{}", path, number);
    if (line.starts_with("{\"evaluation\"")) {
      absl::StatusOr<json> was = ParseJsonWithin(kLimits, line);
      if (!was.ok()) return Annotate(was.status(), place);
      const absl::Status same = Compare((*was)["evaluation"], json(head)["evaluation"]);
      if (!same.ok()) return Annotate(same, place);
      has_head = true;
    } else if (!line.starts_with("{\"summary\"")) {
      absl::StatusOr<Outcome> outcome = OutcomeFromJson(line);
      if (!outcome.ok()) return Annotate(outcome.status(), place);
      if (outcome->error.empty()) results.before_.push_back(*std::move(outcome));
    }
  }
  if (!text.empty() && !has_head) {
    return FailedPrecondition("{}: is no file of an evaluation; name another one", path);
  }
  if (!rest.empty()) std::filesystem::resize_file(path, text.size() - rest.size(), ignored);
  results.file_.open(path, std::ios::app | std::ios::binary);
  if (!results.file_) return NotFound("{} cannot be written; is its folder there?", path);
  results.Write(head.dump());
  return results;
}

void ResultsFile::Write(const std::string& line) {
  if (!path_.empty()) file_ << line << '\n' << std::flush;
}

void ResultsFile::Add(const Outcome& outcome) { Write(OutcomeToJson(outcome)); }

absl::Status ResultsFile::Finish(const EvalReport& report) {
  Write(ReportToJson(report));
  if (path_.empty() || file_) return absl::OkStatus();
  return Unavailable("{} cannot be written; is the disk full?", path_);
}

}  // namespace conclave::cli
