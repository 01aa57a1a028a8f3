#include "cli/receipt_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "cli/terminal_text.h"
#include "common/agent_names.h"

namespace conclave::cli {
namespace {

double ToSeconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

constexpr int kLabel = 12;   // Columns of the labels.
constexpr int kNarrow = 44;  // Columns below which values begin on their labels' lines.
constexpr int kAnswer = 60;  // Most columns of an answer.

// A table of labels with values that wrap.
class Table {
 public:
  explicit Table(int columns) : columns_(std::max(columns, 20)) {}

  void Row(const std::string& label, const std::string& value) {
    const bool narrow = columns_ < kNarrow;
    const size_t indent = narrow ? 4 : 2 + kLabel;
    const std::string text = narrow ? fmt::format("{}: {}", label, value) : value;
    std::string head = narrow ? std::string(2, ' ') : fmt::format("  {:<{}}", label, kLabel);
    for (const std::string& line : Wrap(text, columns_ - 1 - static_cast<int>(indent))) {
      text_ += head + line + "\n";
      head.assign(indent, ' ');
    }
  }
  // A value of an answer's, on one line.
  int AnswerWidth(int beside) const {
    return std::clamp(columns_ - 1 - 2 - kLabel - beside, 8, kAnswer);
  }
  std::string Take() { return std::move(text_); }

 private:
  const int columns_;
  std::string text_;
};

// "agent 3 keeps 80, agents 4-6 keep 120": agents that keep equally many are named together.
std::string CutsText(const v1::Decision& decision) {
  std::map<int, std::vector<uint32_t>> by_kept;
  for (const v1::Cut& cut : decision.cuts()) by_kept[cut.kept()].push_back(cut.agent());
  std::string text;
  for (const auto& [kept, agents] : by_kept) {
    text += fmt::format("{}{} {} {}", text.empty() ? "" : ", ", AgentNames(agents),
                        agents.size() == 1 ? "keeps" : "keep", kept);
  }
  return text;
}

// What happened, and what became of the agents that it names and that keep nothing: of one, of
// several.
struct DecisionWords {
  const char* what;
  const char* one;
  const char* several;
};

DecisionWords WordsOf(v1::Decision::Kind kind) {
  switch (kind) {
    case v1::Decision::KIND_JOIN:
      return {"more room", "enters late", "enter late"};
    case v1::Decision::KIND_NARROW:
      return {"narrowed", "stays out", "stay out"};
    case v1::Decision::KIND_DROP:
      return {"given up", "is lost", "are lost"};
    case v1::Decision::KIND_DEADLINE:
      return {"the deadline came", "stays out", "stay out"};
    case v1::Decision::KIND_STOP_NOW:
      return {"stopped by the caller", "stays out", "stay out"};
    default:
      return {"decision", "is concerned", "are concerned"};
  }
}

// The agents that a decision names but does not cut.
std::vector<uint32_t> UncutAgents(const v1::Decision& decision) {
  std::vector<uint32_t> agents;
  for (const uint32_t agent : decision.agents()) {
    const bool cut = std::any_of(decision.cuts().begin(), decision.cuts().end(),
                                 [agent](const v1::Cut& one) { return one.agent() == agent; });
    if (!cut) agents.push_back(agent);
  }
  return agents;
}

}  // namespace

std::string AgentName(uint32_t agent) { return conclave::AgentName(AgentId{agent}); }

std::string BriefName(uint32_t agent) {
  const AgentId id{agent};
  const int stage = StageOf(id), round = RoundOf(id);
  if (stage == kPartStage) return fmt::format("agent {} p{}", IndexOf(id) + 1, round + 1);
  if (stage != kThinkStage || round == 0) return AgentName(agent);
  return fmt::format("agent {} r{}", IndexOf(id) + 1, round + 1);
}

std::string MergingText(const v1::AggregationStarted& started) {
  const bool picks = started.method() == v1::AGGREGATION_SELECT;
  return fmt::format("{} {} answers{}", picks ? "picks one of" : "merges", started.candidates(),
                     started.model().empty() ? "" : ", as " + OneLine(started.model()));
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

std::string AgentNames(const std::vector<uint32_t>& agents) {
  std::vector<AgentId> ids;
  for (const uint32_t agent : agents) ids.push_back(AgentId{agent});
  return conclave::AgentNames(std::move(ids));
}

std::string DecisionText(const v1::Decision& decision) {
  const DecisionWords words = WordsOf(decision.kind());
  std::string text = fmt::format("{} at token {}", words.what, decision.clock());
  const char* separator = ": ";
  if (const std::vector<uint32_t> agents = UncutAgents(decision); !agents.empty()) {
    text += fmt::format("{}{} {}", separator, AgentNames(agents),
                        agents.size() == 1 ? words.one : words.several);
    separator = ", ";
  }
  if (decision.cuts_size() > 0) text += separator + CutsText(decision);
  return text;
}

namespace {

void AddTokens(const v1::Receipt& receipt, Table& table) {
  const v1::PromptUsage& prompt = receipt.prompt();
  table.Row("prompts",
            fmt::format("{} tokens = {} computed + {} shared; one prompt has {}", prompt.total(),
                        prompt.computed(), prompt.shared(), prompt.first()));
  const int64_t kept =
      receipt.thinking_tokens() + receipt.answer_tokens() + receipt.aggregation_tokens();
  table.Row("kept", fmt::format("{} tokens = {} thinking + {} answers + {} aggregation", kept,
                                receipt.thinking_tokens(), receipt.answer_tokens(),
                                receipt.aggregation_tokens()));
  if (receipt.discarded_tokens() > 0) {
    table.Row("discarded",
              fmt::format("{} tokens, computed past a cut", receipt.discarded_tokens()));
  }
  if (receipt.probe_tokens() > 0) {
    table.Row("probes", fmt::format("{} tokens, of copies that were asked for their answers so far",
                                    receipt.probe_tokens()));
  }
  if (prompt.recomputed() > 0) {
    table.Row("recomputed", fmt::format("{} tokens, run again after a loss or for want of memory",
                                        prompt.recomputed()));
  }
  table.Row("in a row", fmt::format("{} tokens had to be produced one after another",
                                    receipt.critical_path_tokens()));
}

// Who took part: in all, by rounds or parts where there are several, and who ended by his probes.
void AddAgents(const v1::Receipt& receipt, Table& table) {
  std::map<int, int> rounds, parts;  // Number -> agents.
  int agreed = 0;
  for (const v1::AgentUsage& usage : receipt.agents()) {
    const AgentId id{usage.agent()};
    if (StageOf(id) == kThinkStage) ++rounds[RoundOf(id)];
    if (StageOf(id) == kPartStage) ++parts[RoundOf(id)];
    agreed += usage.probes_agreed() ? 1 : 0;
  }
  table.Row("agents",
            fmt::format("{} = {} to their end + {} cut", receipt.agents_size(),
                        receipt.agents_size() - receipt.agents_cut(), receipt.agents_cut()));
  const auto counts = [](const std::map<int, int>& by_number) {
    std::string text;
    for (const auto& [number, agents] : by_number) {
      text += fmt::format("{}{}", text.empty() ? "" : " + ", agents);
    }
    return text;
  };
  if (rounds.size() > 1) {
    table.Row("rounds", fmt::format("{}, of {} agents", rounds.size(), counts(rounds)));
  }
  if (!parts.empty()) {
    table.Row("parts", fmt::format("{}, of {} agents", parts.size(), counts(parts)));
  }
  if (agreed > 0) {
    table.Row("ended early",
              fmt::format("{} agent{}, as their probes agreed", agreed, agreed == 1 ? "" : "s"));
  }
}

// Who was of which model, where they were of several.
void AddModels(const v1::Receipt& receipt, Table& table) {
  std::set<std::string> told;
  for (int i = 0; i < receipt.agent_models_size(); ++i) {
    const std::string& model = receipt.agent_models(i);
    if (!told.insert(model).second) continue;
    const std::string in_usage = i == 0 ? "" : model;
    const auto agents = std::ranges::count_if(receipt.agents(), [&](const auto& usage) {
      const int stage = StageOf(AgentId{usage.agent()});
      const bool answers = stage == kThinkStage || stage == kPartStage;
      return answers && usage.model() == in_usage;
    });
    const std::string fingerprint =
        i < receipt.agent_fingerprints_size() ? receipt.agent_fingerprints(i) : "";
    table.Row("agents of", fmt::format("{}: {}, fingerprint {:.12}", OneLine(model), agents,
                                       OneLine(fingerprint)));
  }
}

void AddVotes(const v1::Receipt& receipt, Table& table) {
  for (const v1::Vote& vote : receipt.votes()) {
    const std::string count = vote.weight() == vote.count()
                                  ? fmt::format("{} for ", vote.count())
                                  : fmt::format("{} ({:.3g}) for ", vote.count(), vote.weight());
    table.Row("vote", count + Fit(OneLine(vote.answer()), table.AnswerWidth(Columns(count))));
  }
}

}  // namespace

std::string ReceiptText(const v1::Receipt& receipt, int columns) {
  Table table(columns);
  table.Row("request", fmt::format("{}, seed {}", OneLine(receipt.request_id()), receipt.seed()));
  table.Row("model", fmt::format("{}, fingerprint {:.12}", OneLine(receipt.model()),
                                 OneLine(receipt.fingerprint())));
  if (!receipt.aggregator_model().empty()) {
    table.Row("aggregator",
              fmt::format("{}, fingerprint {:.12}", OneLine(receipt.aggregator_model()),
                          OneLine(receipt.aggregator_fingerprint())));
  }
  AddModels(receipt, table);
  AddAgents(receipt, table);
  AddTokens(receipt, table);
  AddVotes(receipt, table);
  for (const v1::Decision& decision : receipt.decisions()) {
    table.Row("decision", DecisionText(decision));
  }
  if (receipt.resumes() > 0) {
    table.Row("resumed", fmt::format("{} time{} after a loss, with the same text",
                                     receipt.resumes(), receipt.resumes() == 1 ? "" : "s"));
  }
  if (receipt.counts_from_stream()) {
    table.Row("note", "a group was lost: its counts are what was received");
  }
  table.Row("time",
            fmt::format("{:.3f} s, the first byte of the answer after {:.3f} s",
                        ToSeconds(receipt.wall_time()), ToSeconds(receipt.time_to_first_answer())));
  table.Row("hash", OneLine(receipt.result_hash()));
  table.Row("replay", "`conclave replay FILE`, the file that --receipt FILE writes");
  return "receipt\n" + table.Take();
}

}  // namespace conclave::cli
