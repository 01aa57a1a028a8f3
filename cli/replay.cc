#include "cli/replay.h"

#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cli/asking.h"
#include "cli/connection.h"
#include "cli/exit_code.h"
#include "cli/flight.h"
#include "cli/receipt_text.h"
#include "cli/record.h"
#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

// What came of it.
struct Verdict {
  bool same = false;
  std::string why;  // Of the router; empty when it is the same.
  std::optional<Difference> difference;
};

int64_t KeptTokens(const v1::Receipt& receipt) {
  return receipt.thinking_tokens() + receipt.answer_tokens() + receipt.aggregation_tokens();
}

std::string VerdictText(const Verdict& verdict, const v1::Record& record) {
  const v1::Receipt& receipt = record.receipt();
  if (verdict.same) {
    return fmt::format("same bytes: {} agent{}, {} tokens, hash {:.16}\n", receipt.agents_size(),
                       receipt.agents_size() == 1 ? "" : "s", KeptTokens(receipt),
                       OneLine(receipt.result_hash()));
  }
  std::string text;
  if (!verdict.difference) {
    text = "it differs, in nothing that the record holds\n";
  } else if (verdict.difference->token == 0) {
    text = "it differs in the answer alone\n";
  } else {
    text = fmt::format("it differs first at token {} of {}\n", verdict.difference->token,
                       AgentName(verdict.difference->agent));
  }
  if (verdict.difference) {
    text += fmt::format("  recorded  {}\n  now       {}\n", verdict.difference->recorded,
                        verdict.difference->now);
  }
  if (!verdict.why.empty()) text += fmt::format("  the router says: {}\n", OneLine(verdict.why));
  return text;
}

std::string VerdictJson(const Verdict& verdict, const v1::Record& record) {
  nlohmann::ordered_json json;
  json["same"] = verdict.same;
  json["result_hash"] = record.receipt().result_hash();
  if (!verdict.why.empty()) json["why"] = verdict.why;
  if (verdict.difference) {
    if (verdict.difference->token > 0) {
      json["agent"] = verdict.difference->agent;
      json["token"] = verdict.difference->token;
    }
    json["recorded"] = verdict.difference->recorded;
    json["now"] = verdict.difference->now;
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

// Once a request was admitted, ABORTED says that what runs is another course than the record's.
bool Differs(const Asked& asked) {
  return asked.status.code() == absl::StatusCode::kAborted && !asked.admitted.request_id().empty();
}

int ReplayRecord(const ReplayOptions& options, Printer& printer, std::ostream& out) {
  const absl::StatusOr<std::string> json = ReadFile(options.file);
  if (!json.ok()) return Usage(json.status());
  const absl::StatusOr<v1::Record> record = RecordFromJson(*json);
  if (!record.ok()) return Usage(Annotate(record.status(), options.file));
  const absl::StatusOr<v1::GenerateRequest> request = RequestAgain(*record);
  if (!request.ok()) return Usage(Annotate(request.status(), options.file));
  const absl::StatusOr<Caller> caller = MakeCaller(options);
  if (!caller.ok()) return Usage(caller.status());

  Transcript now;
  TranscribingPrinter both(printer, now);
  const Asked asked = AskRouters(options, *request, *caller, both);
  if (asked.interrupted) {
    std::cerr << "conclave: cancelled\n";
    return kExitInterrupted;
  }
  if (!asked.status.ok() && !Differs(asked)) return Report(asked.router, asked.status);
  Verdict verdict;
  verdict.difference = FirstDifference(*record, now);
  verdict.same = asked.status.ok() && !verdict.difference &&
                 asked.receipt.result_hash() == record->receipt().result_hash();
  if (!asked.status.ok()) verdict.why = MessageOf(asked.status);
  out << (options.json ? VerdictJson(verdict, *record) : VerdictText(verdict, *record))
      << std::flush;
  return verdict.same ? kExitOk : kExitDiffers;
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> RequestAgain(const v1::Record& record) {
  if (!record.has_request()) {
    return FailedPrecondition(
        "a receipt without its question, as earlier versions kept it; `conclave ask --replay FILE` "
        "with the question and its options runs it again");
  }
  v1::GenerateRequest request = record.request();
  request.set_model(record.receipt().model());
  request.clear_request_id();  // The one that was may still be held.
  request.clear_resume();
  request.clear_seed();
  *request.mutable_replay() = ReplayOf(record.receipt());
  request.clear_include();
  for (const v1::Include each :
       {v1::INCLUDE_THINKING, v1::INCLUDE_AGENT_ANSWERS, v1::INCLUDE_TOKENS, v1::INCLUDE_VOTES}) {
    request.add_include(each);
  }
  return request;
}

int Replay(const ReplayOptions& options, Printer& printer, std::ostream& out) {
  if (IsFlight(options.file)) {
    if (options.config.empty() && options.overrides.empty()) return TellFlight(options.file, out);
    return RunFlight(options.file, options.config, options.overrides);
  }
  if (!options.config.empty() || !options.overrides.empty()) {
    return Usage(InvalidArgument(
        "--config and --set are for a flight, which a worker runs; {} is none", options.file));
  }
  return ReplayRecord(options, printer, out);
}

}  // namespace conclave::cli
