#include "cli/models.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>

#include "cli/connection.h"
#include "cli/exit_code.h"
#include "cli/screen.h"
#include "cli/terminal_text.h"
#include "common/wire/grpc_status.h"

namespace conclave::cli {
namespace {

constexpr int kMostName = 32;  // Columns.

// "1.03M", "8.03B".
std::string Short(int64_t number) {
  const double value = static_cast<double>(number);
  if (number >= 1'000'000'000'000) return fmt::format("{:.3g}T", value * 1e-12);
  if (number >= 1'000'000'000) return fmt::format("{:.3g}B", value * 1e-9);
  if (number >= 1'000'000) return fmt::format("{:.3g}M", value * 1e-6);
  return std::to_string(number);
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : OneLine(text); }

std::string Padded(const std::string& text, int columns) {
  const std::string shown = Fit(text, columns);
  return shown + std::string(static_cast<size_t>(std::max(columns - Columns(shown), 0)), ' ');
}

std::string ModesText(const v1::Model& model) {
  std::string text;
  for (const int mode : model.modes()) {
    const char* word = mode == v1::MODE_INSTANT         ? "instant"
                       : mode == v1::MODE_THINKING      ? "thinking"
                       : mode == v1::MODE_CONTEMPLATING ? "contemplating"
                                                        : "another";
    text += (text.empty() ? "" : ", ") + std::string(word);
  }
  return text;
}

std::string ModelText(const v1::Model& model, int name_columns, bool color) {
  const v1::ModelDescription& d = model.description();
  // An older router does not say how many there are.
  const int groups = std::max(model.groups(), model.groups_ready());
  const std::string row = fmt::format(
      "{}  {:<10} {:>6} {:>8} {:>10} {:>6}", Padded(OneLine(d.name()), name_columns),
      Fit(OrDash(d.family()), 10), Short(d.parameters()), d.max_positions(),
      d.vocabulary() == 0 ? std::string("-") : std::to_string(d.vocabulary()), model.max_agents());
  const Tone tone = model.groups_ready() > 0 ? Tone::kGood : Tone::kBad;
  const std::string ready = Painted(
      fmt::format("{:>13}", fmt::format("{} of {}", model.groups_ready(), groups)), tone, color);
  const std::string more =
      fmt::format("  {}; fingerprint {:.12}\n  {}, {} rank{}, KV for {} tokens\n", ModesText(model),
                  OneLine(d.fingerprint()), OneLine(d.numerics()), d.tensor_parallel(),
                  d.tensor_parallel() == 1 ? "" : "s", d.kv_tokens());
  return row + ready + "\n" + Painted(more, Tone::kFaint, color);
}

}  // namespace

std::string ModelsText(const v1::ListModelsResponse& response, bool color) {
  if (response.models().empty()) {
    return "no worker group was met yet: the router's log says which it tries\n";
  }
  int name_columns = 5;
  for (const v1::Model& model : response.models()) {
    name_columns = std::max(name_columns, Columns(OneLine(model.description().name())));
  }
  name_columns = std::min(name_columns, kMostName);
  const std::string head =
      fmt::format("{}  {:<10} {:>6} {:>8} {:>10} {:>6} {:>12}", Padded("model", name_columns),
                  "family", "params", "context", "vocabulary", "agents", "groups ready");
  std::string text = Painted(head, Tone::kStrong, color) + "\n";
  for (const v1::Model& model : response.models()) text += ModelText(model, name_columns, color);
  return text;
}

int ListModels(const ModelsOptions& options, std::ostream& out, bool color) {
  const absl::StatusOr<Caller> caller = MakeCaller(options);
  if (!caller.ok()) return Usage(caller.status());
  grpc::ClientContext context;
  AddKey(caller->key, context);
  v1::ListModelsResponse response;
  const grpc::Status status = Connect(caller->router, *caller)->ListModels(&context, {}, &response);
  if (!status.ok()) return Report(caller->router, FromGrpc(status));
  if (!options.json) {
    out << ModelsText(response, color) << std::flush;
    return kExitOk;
  }
  google::protobuf::util::JsonPrintOptions how;
  how.preserve_proto_field_names = true;
  std::string json;
  if (google::protobuf::util::MessageToJsonString(response, &json, how).ok()) {
    out << json << '\n' << std::flush;
  }
  return kExitOk;
}

}  // namespace conclave::cli
