#include "cli/printer.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <utility>

#include "cli/receipt_text.h"
#include "cli/terminal_text.h"
#include "common/types.h"

namespace conclave::cli {
namespace {

std::string ReasonText(const v1::AgentFinished& finished) {
  switch (finished.reason()) {
    case v1::FINISH_REASON_STOP:
      if (finished.probes_agreed()) return ", its probes agreed";
      if (!finished.stopped_by().stop_text().empty())
        return ", stopped by " + Quoted(finished.stopped_by().stop_text());
      if (finished.stopped_by().cause_case() == v1::StopCause::kStopToken)
        return fmt::format(", stopped by token {}", finished.stopped_by().stop_token());
      return "";
    case v1::FINISH_REASON_LENGTH:
      return ", out of tokens";
    case v1::FINISH_REASON_BAR:
      return ", below its bar";
    default:
      return "";
  }
}

}  // namespace

void Printer::OnBreak(const std::string& what) {
  v1::GenerateResponse event;
  event.mutable_group_changed()->set_reason(what);
  On(event);
}

void JsonPrinter::On(const v1::GenerateResponse& event) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  if (google::protobuf::util::MessageToJsonString(event, &json, options).ok()) {
    out_ << json << '\n' << std::flush;
  }
}

void TextPrinter::Note(const std::string& line) {
  if (quiet_) return;
  // On a terminal the answer stands where this goes.
  if (std::exchange(in_answer_line_, false)) notes_ << '\n';
  notes_ << line << '\n' << std::flush;
}

void TextPrinter::FlushLine(uint32_t agent) {
  std::string& line = lines_[agent];
  if (!line.empty()) Note(fmt::format("{:<11} | {}", BriefName(agent), Printable(line)));
  line.clear();
}

void TextPrinter::OnDelta(uint32_t agent, const v1::AgentDelta& delta) {
  const auto add = [this, agent](const std::string& text) {
    for (const char c : text) {
      if (c == '\n') {
        FlushLine(agent);
      } else {
        lines_[agent] += c;
      }
    }
  };
  add(delta.thinking());
  if (!delta.answer().empty() && answering_.insert(agent).second) FlushLine(agent);
  add(delta.answer());
  for (const v1::Token& token : delta.tokens()) {
    if (!token.text().empty() || token.top_size() > 0) OnToken(agent, token);
  }
}

// "so" -0.25 (" so" -1.92, "So" -4.10)
void TextPrinter::OnToken(uint32_t agent, const v1::Token& token) {
  std::string beside;
  for (const v1::TopToken& top : token.top()) {
    beside +=
        fmt::format("{}{} {:.2f}", beside.empty() ? "" : ", ", Quoted(top.text()), top.logprob());
  }
  const bool forced = token.kind() == v1::TOKEN_KIND_FORCED;
  Note(fmt::format("{:<11} ~ {} {}{}", BriefName(agent), Quoted(token.text()),
                   forced ? "forced" : fmt::format("{:.2f}", token.logprob()),
                   beside.empty() ? "" : fmt::format(" ({})", beside)));
}

void TextPrinter::OnFinished(uint32_t agent, const v1::AgentFinished& finished) {
  FlushLine(agent);
  // What a splitter or the synthesiser says is no answer that is compared with others.
  const int stage = StageOf(AgentId{agent});
  const bool answers = stage == kThinkStage || stage == kPartStage;
  const std::string answer = finished.has_answer() ? OneLine(finished.answer())
                             : answers             ? "no answer"
                                                   : "done";
  Note(fmt::format("{:<11} = {:.60}  ({} tokens, confidence {:.2f}{})", BriefName(agent), answer,
                   finished.tokens(), finished.confidence(), ReasonText(finished)));
}

void TextPrinter::OnVote(const v1::VoteUpdate& update) {
  std::string text;
  for (const v1::Vote& vote : update.votes()) {
    text += fmt::format("{}{} x {:.40}", text.empty() ? "" : ", ", vote.count(),
                        OneLine(vote.answer()));
  }
  Note(fmt::format("{:<11} : {}  ({} still to come)", "vote", text.empty() ? "none" : text,
                   update.to_come()));
}

void TextPrinter::OnProbe(uint32_t agent, const v1::ProbeAnswer& probe) {
  const std::string answer =
      probe.has_answer() ? OneLine(probe.answer()) : std::string("no answer yet");
  Note(fmt::format("{:<11} ? {:.60}  (asked at token {}, {} tokens)", BriefName(agent), answer,
                   probe.at(), probe.tokens()));
}

void TextPrinter::OnVerdict(uint32_t agent, const v1::CheckerVerdict& verdict) {
  Note(fmt::format(
      "{:<11} ! {}", BriefName(agent),
      verdict.accepted() ? "accepted" : fmt::format("rejected: {}", OneLine(verdict.reason()))));
}

void TextPrinter::OnCompleted(const v1::Completed& completed) {
  if (!answer_began_) answer_ << Printable(completed.answer());
  answer_ << '\n' << std::flush;
  in_answer_line_ = false;
  if (completed.incomplete()) Note("the answer is incomplete");
  Note("");
  if (!quiet_) notes_ << ReceiptText(completed.receipt()) << std::flush;
}

void TextPrinter::OnEnd() {
  if (round_.is_complete()) return;
  for (const auto& [agent, row] : round_.agents()) FlushLine(agent);
  if (answer_began_) answer_ << '\n' << std::flush;
  in_answer_line_ = false;
  Note("");
  if (!quiet_) notes_ << KnownText(round_) << std::flush;
}

void TextPrinter::On(const v1::GenerateResponse& event) {
  if (stopping_ && !std::exchange(told_of_stopping_, true)) {
    Note(fmt::format("{:<11} : the best answer so far was asked for; Ctrl-C again ends the program",
                     "stopping"));
  }
  round_.On(event);
  switch (event.event_case()) {
    case v1::GenerateResponse::kAdmitted:
      Note(fmt::format("request {}: {}, {} agent{}, seed {}",
                       OneLine(event.admitted().request_id()), OneLine(event.admitted().model()),
                       event.admitted().agents(), event.admitted().agents() == 1 ? "" : "s",
                       event.admitted().seed()));
      break;
    case v1::GenerateResponse::kAgentStarted:
      Note(fmt::format("{:<11} > prompt of {} tokens, may produce {}{}", BriefName(event.agent()),
                       event.agent_started().prompt_tokens(), event.agent_started().grant(),
                       event.agent_started().model().empty()
                           ? ""
                           : ", of " + OneLine(event.agent_started().model())));
      break;
    case v1::GenerateResponse::kAgentDelta:
      OnDelta(event.agent(), event.agent_delta());
      break;
    case v1::GenerateResponse::kAgentFinished:
      OnFinished(event.agent(), event.agent_finished());
      break;
    case v1::GenerateResponse::kAgentCut:
      FlushLine(event.agent());
      Note(fmt::format("{:<11} x cut at {} tokens: {}", BriefName(event.agent()),
                       event.agent_cut().kept(), CutText(event.agent_cut().reason())));
      break;
    case v1::GenerateResponse::kVoteUpdate:
      OnVote(event.vote_update());
      break;
    case v1::GenerateResponse::kProbeAnswer:
      OnProbe(event.agent(), event.probe_answer());
      break;
    case v1::GenerateResponse::kCheckerVerdict:
      OnVerdict(event.agent(), event.checker_verdict());
      break;
    case v1::GenerateResponse::kDecision:
      Note(fmt::format("{:<11} : {}", "decision", DecisionText(event.decision())));
      break;
    case v1::GenerateResponse::kAggregationStarted:
      Note(fmt::format("{:<11} > {}", "synthesiser", MergingText(event.aggregation_started())));
      break;
    case v1::GenerateResponse::kGroupChanged:
      Note(fmt::format("{:<11} : {}", "group", OneLine(event.group_changed().reason())));
      break;
    case v1::GenerateResponse::kAnswerDelta:
      FlushLine(event.agent());  // What it thought comes before.
      if (!answer_began_) Note("");
      answer_began_ = true;
      in_answer_line_ = !event.answer_delta().text().ends_with('\n');
      answer_ << Printable(event.answer_delta().text()) << std::flush;
      break;
    case v1::GenerateResponse::kCompleted:
      OnCompleted(event.completed());
      break;
    case v1::GenerateResponse::EVENT_NOT_SET:
      break;
  }
}

}  // namespace conclave::cli
