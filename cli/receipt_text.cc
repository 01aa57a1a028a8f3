#include "cli/receipt_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/terminal_text.h"
#include "common/types.h"

namespace conclave::cli {
namespace {

double ToSeconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

void Line(std::string& text, const char* label, const std::string& value) {
  text += fmt::format("  {:<14} {}\n", label, value);
}

const char* KindText(v1::Decision::Kind kind) {
  switch (kind) {
    case v1::Decision::KIND_JOIN:
      return "join";
    case v1::Decision::KIND_NARROW:
      return "narrow";
    case v1::Decision::KIND_DROP:
      return "drop";
    case v1::Decision::KIND_DEADLINE:
      return "deadline";
    case v1::Decision::KIND_STOP_NOW:
      return "stop";
    default:
      return "decision";
  }
}

}  // namespace

std::string AgentName(uint32_t agent) {
  const AgentId id{agent};
  if (StageOf(id) == kAggregateStage) return "synthesiser";
  return fmt::format("agent {}", IndexOf(id) + 1);
}

const char* CutText(v1::CutReason reason) {
  switch (reason) {
    case v1::CUT_REASON_SETTLED:
      return "the answer is settled";
    case v1::CUT_REASON_DEADLINE:
      return "the deadline came";
    case v1::CUT_REASON_DROPPED:
      return "dropped";
    default:
      return "stopped";
  }
}

std::string DecisionText(const v1::Decision& decision) {
  std::string text = fmt::format("{} at token {}", KindText(decision.kind()), decision.clock());
  const char* separator = ": ";
  for (const uint32_t agent : decision.agents()) {
    text += separator + AgentName(agent);
    separator = ", ";
  }
  for (const v1::Cut& cut : decision.cuts()) {
    text += fmt::format("{}{} keeps {}", separator, AgentName(cut.agent()), cut.kept());
    separator = ", ";
  }
  return text;
}

std::string ReceiptText(const v1::Receipt& receipt, int columns) {
  const int room = std::clamp(columns - 25, 8, 60);  // Beside the label and the count.
  const v1::PromptUsage& prompt = receipt.prompt();
  std::string text = "receipt\n";
  Line(text, "request", fmt::format("{}  seed {}", OneLine(receipt.request_id()), receipt.seed()));
  Line(text, "model",
       fmt::format("{}  fingerprint {:.12}", OneLine(receipt.model()),
                   OneLine(receipt.fingerprint())));
  const double ratio = prompt.first() > 0 ? static_cast<double>(prompt.computed()) /
                                                static_cast<double>(prompt.first())
                                          : 0;
  Line(text, "prompt",
       fmt::format("{} tokens in all, {} computed, {} shared ({:.2f} prompts of {})",
                   prompt.total(), prompt.computed(), prompt.shared(), ratio, prompt.first()));
  Line(text, "tokens",
       fmt::format("{} thinking, {} answer, {} aggregation, {} discarded",
                   receipt.thinking_tokens(), receipt.answer_tokens(), receipt.aggregation_tokens(),
                   receipt.discarded_tokens()));
  Line(text, "agents", fmt::format("{} ran, {} cut", receipt.agents_size(), receipt.agents_cut()));
  for (const v1::Vote& vote : receipt.votes()) {
    Line(text, "vote", fmt::format("{} for {}", vote.count(), Fit(OneLine(vote.answer()), room)));
  }
  for (const v1::Decision& decision : receipt.decisions()) {
    Line(text, "decision", DecisionText(decision));
  }
  if (receipt.resumes() > 0) Line(text, "resumed", fmt::format("{} times", receipt.resumes()));
  if (receipt.counts_from_stream()) {
    Line(text, "note", "a group was lost: its counts are what was received");
  }
  Line(text, "critical path", fmt::format("{} tokens", receipt.critical_path_tokens()));
  Line(text, "time",
       fmt::format("{:.3f} s to the first byte of the answer, {:.3f} s in all",
                   ToSeconds(receipt.time_to_first_answer()), ToSeconds(receipt.wall_time())));
  Line(text, "result hash", OneLine(receipt.result_hash()));
  return text;
}

}  // namespace conclave::cli
