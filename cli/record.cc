#include "cli/record.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <fstream>

#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

constexpr size_t kBefore = 32, kAfter = 48;  // Bytes that are shown around a difference.

std::string ToJson(const google::protobuf::Message& message, bool many_lines) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = many_lines;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return "{}";
  while (!json.empty() && json.back() == '\n') json.pop_back();
  return json;
}

std::string TextOf(const v1::AgentRecord& agent) { return agent.thinking() + agent.answer(); }

// The text around byte `at`.
std::string Around(const std::string& text, size_t at) {
  const auto is_inside = [&text](size_t i) {
    return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80;
  };
  size_t begin = at - std::min(at, kBefore), end = std::min(at + kAfter, text.size());
  while (is_inside(begin)) ++begin;
  while (is_inside(end)) ++end;
  return fmt::format("{}{}{}", begin > 0 ? "..." : "", OneLine(text.substr(begin, end - begin)),
                     end < text.size() ? "..." : "");
}

void SetTexts(const std::string& recorded, const std::string& now, Difference& difference) {
  const auto [a, b] = std::mismatch(recorded.begin(), recorded.end(), now.begin(), now.end());
  const auto at = static_cast<size_t>(a - recorded.begin());
  difference.recorded = Around(recorded, at);
  difference.now = Around(now, at);
}

// How many tokens of an agent are as recorded; nullopt: all that can be compared are. `ended`: it
// has no more of them now. `was_cut`: it may have run on behind what is recorded.
std::optional<int> FirstOther(const v1::AgentRecord& recorded, const v1::AgentRecord& now,
                              bool ended, bool was_cut) {
  const auto& [a, b] = std::mismatch(recorded.tokens().begin(), recorded.tokens().end(),
                                     now.tokens().begin(), now.tokens().end());
  const bool more_then = a != recorded.tokens().end(), more_now = b != now.tokens().end();
  const bool differs = more_then ? more_now || ended : more_now && !was_cut;
  if (!differs) return std::nullopt;
  return static_cast<int>(a - recorded.tokens().begin());
}

}  // namespace

std::string RecordToJson(const v1::Record& record) {
  v1::Record head = record;
  head.clear_agents();
  std::string text = ToJson(head, true);
  text.resize(text.rfind('\n'));  // The agents come before its closing brace.
  text += ",\n \"agents\": [";
  const char* separator = "\n  ";
  for (const v1::AgentRecord& agent : record.agents()) {
    text += separator + ToJson(agent, false);
    separator = ",\n  ";
  }
  return text + "\n ]\n}\n";
}

absl::StatusOr<v1::Record> RecordFromJson(const std::string& json) {
  v1::Record record;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &record);
  if (status.ok() && record.has_receipt()) return record;
  v1::Record receipt_only;
  if (google::protobuf::util::JsonStringToMessage(json, receipt_only.mutable_receipt()).ok() &&
      !receipt_only.receipt().fingerprint().empty()) {
    return receipt_only;
  }
  if (status.ok() || json.empty()) return InvalidArgument("no receipt: it has none in it");
  return InvalidArgument("no receipt that this version reads: {}", status.ToString());
}

absl::StatusOr<std::string> ReadAll(std::istream& stream, const std::string& name, size_t most) {
  std::string text;
  for (std::string chunk(64 << 10, '\0'); stream;) {
    stream.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    text.append(chunk, 0, static_cast<size_t>(stream.gcount()));
    if (text.size() > most) return InvalidArgument("{} has more than {} bytes", name, most);
  }
  if (!stream.eof()) return NotFound("{} cannot be read; is the name right?", name);
  return text;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most) {
  std::ifstream file(path, std::ios::binary);
  return ReadAll(file, path, most);
}

v1::Replay ReplayOf(const v1::Receipt& receipt) {
  v1::Replay replay;
  replay.set_seed(receipt.seed());
  replay.set_time_of_day(receipt.time_of_day());
  replay.set_fingerprint(receipt.fingerprint());
  replay.set_aggregator_fingerprint(receipt.aggregator_fingerprint());
  *replay.mutable_agent_fingerprints() = receipt.agent_fingerprints();
  replay.set_decision_version(receipt.decision_version());
  *replay.mutable_decisions() = receipt.decisions();
  replay.set_result_hash(receipt.result_hash());
  return replay;
}

void Transcript::On(const v1::GenerateResponse& event) {
  if (event.has_agent_delta()) {
    v1::AgentRecord& agent = agents_[event.agent()];
    agent.set_agent(event.agent());
    agent.mutable_thinking()->append(event.agent_delta().thinking());
    agent.mutable_answer()->append(event.agent_delta().answer());
    for (const v1::Token& token : event.agent_delta().tokens()) agent.add_tokens(token.id());
  } else if (event.has_agent_finished()) {
    ended_.insert(event.agent());
  } else if (event.has_answer_delta()) {
    answer_ += event.answer_delta().text();
  } else if (event.has_completed()) {
    // The deltas joined are all of it; this may be a great one's beginning.
    if (answer_.size() < event.completed().answer().size()) answer_ = event.completed().answer();
    complete_ = true;
  }
}

v1::Record Transcript::ToRecord(const v1::GenerateRequest& request,
                                const v1::Receipt& receipt) const {
  v1::Record record;
  *record.mutable_request() = request;
  *record.mutable_receipt() = receipt;
  record.set_answer(answer_);
  std::map<uint32_t, int> kept;
  for (const v1::AgentUsage& usage : receipt.agents()) kept[usage.agent()] = usage.kept();
  for (const auto& [id, agent] : agents_) {
    v1::AgentRecord& out = *record.add_agents();
    out = agent;
    const auto found = kept.find(id);
    if (found == kept.end()) continue;
    out.mutable_tokens()->Truncate(std::clamp(found->second, 0, out.tokens_size()));
  }
  return record;
}

std::optional<Difference> FirstDifference(const v1::Record& record, const Transcript& now) {
  std::set<uint32_t> cut;
  for (const v1::AgentUsage& usage : record.receipt().agents()) {
    if (usage.cut()) cut.insert(usage.agent());
  }
  std::optional<Difference> first;
  for (const v1::AgentRecord& recorded : record.agents()) {
    const auto found = now.agents().find(recorded.agent());
    const v1::AgentRecord nothing;
    const v1::AgentRecord& other = found == now.agents().end() ? nothing : found->second;
    const uint32_t id = recorded.agent();
    const auto at = FirstOther(recorded, other, now.HasEnded(id), cut.contains(id));
    if (!at || (first && first->token <= *at + 1)) continue;
    first = {.agent = id, .token = *at + 1, .recorded = {}, .now = {}};
    SetTexts(TextOf(recorded), TextOf(other), *first);
  }
  if (first) return first;
  // As far as it came.
  const auto [a, b] = std::mismatch(record.answer().begin(), record.answer().end(),
                                    now.answer().begin(), now.answer().end());
  const bool differs = b != now.answer().end() || (a != record.answer().end() && now.complete());
  if (!differs) return std::nullopt;
  Difference difference;
  SetTexts(record.answer(), now.answer(), difference);
  return difference;
}

}  // namespace conclave::cli
