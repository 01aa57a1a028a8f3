#include "cli/options.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <utility>

#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

// Seconds. The API's least, and what surely fits into its duration.
constexpr double kMinDeadline = 0.001, kMaxDeadline = 1e9;

template <typename Enum>
using Words = std::vector<std::pair<std::string, Enum>>;

template <typename Enum>
absl::StatusOr<Enum> Choose(const char* option, const std::string& word, const Words<Enum>& words) {
  std::string allowed;
  for (const auto& [name, value] : words) {
    if (name == word) return value;
    allowed += (allowed.empty() ? "" : ", ") + name;
  }
  return InvalidArgument("{} is '{}'; it can be {}", option, word, allowed);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound("{} cannot be read; is the name right?", path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

google::protobuf::Duration Seconds(double seconds) {
  google::protobuf::Duration duration;
  duration.set_seconds(static_cast<int64_t>(seconds));
  duration.set_nanos(static_cast<int32_t>(std::fmod(seconds, 1.0) * 1e9));
  return duration;
}

// Options that mean nothing to a single agent are not dropped in silence.
absl::Status RefuseContemplation(const AskOptions& options) {
  const char* option = options.agents                 ? "--agents"
                       : options.min_agents           ? "--min-agents"
                       : !options.aggregation.empty() ? "--aggregation"
                       : !options.stop_rule.empty()   ? "--stop-rule"
                       : options.stop_votes           ? "--stop-votes"
                       : options.stop_certainty       ? "--stop-certainty"
                       : !options.vote_weight.empty() ? "--vote-weight"
                       : options.confidence_bar       ? "--confidence-bar"
                       : options.confidence_window    ? "--confidence-window"
                                                      : nullptr;
  if (option == nullptr) return absl::OkStatus();
  return InvalidArgument("{} is for --mode contemplating; --mode {} has one agent", option,
                         options.mode);
}

// The API's texts are UTF-8; protobuf would send other bytes and the router refuse the message.
absl::Status CheckTexts(const v1::GenerateRequest& request) {
  const auto check = [](const char* what, const std::string& text) {
    return IsUtf8(text) ? absl::OkStatus()
                        : InvalidArgument("{} is not UTF-8; convert it, as with iconv", what);
  };
  RETURN_IF_ERROR(check("the question", request.messages(0).parts(0).text()));
  RETURN_IF_ERROR(check("--model", request.model()));
  RETURN_IF_ERROR(check("--request-id", request.request_id()));
  return check("--answer-key", request.answer_key().argument());
}

absl::Status CheckDeadline(const AskOptions& options) {
  if (!options.deadline_seconds) return absl::OkStatus();
  const double seconds = *options.deadline_seconds;
  if (seconds >= kMinDeadline && seconds <= kMaxDeadline) return absl::OkStatus();
  return InvalidArgument("--deadline is {}; it can be {} to {} seconds", seconds, kMinDeadline,
                         kMaxDeadline);
}

absl::Status SetConfidence(const AskOptions& options, v1::Contemplation& how) {
  if (!options.vote_weight.empty()) {
    ASSIGN_OR_RETURN(
        const v1::VoteWeight weight,
        Choose<v1::VoteWeight>("--vote-weight", options.vote_weight,
                               {{"mean-probability", v1::VOTE_WEIGHT_MEAN_PROBABILITY},
                                {"top20-mean", v1::VOTE_WEIGHT_TOP20_MEAN},
                                {"top20-lowest-window", v1::VOTE_WEIGHT_TOP20_LOWEST_WINDOW}}));
    how.set_vote_weight(weight);
  }
  if (options.confidence_bar) how.set_confidence_bar(*options.confidence_bar);
  if (options.confidence_window) how.set_confidence_window(*options.confidence_window);
  return absl::OkStatus();
}

absl::Status SetMode(const AskOptions& options, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const v1::Mode mode,
                   Choose<v1::Mode>("--mode", options.mode,
                                    {{"instant", v1::MODE_INSTANT},
                                     {"thinking", v1::MODE_THINKING},
                                     {"contemplating", v1::MODE_CONTEMPLATING}}));
  request.set_mode(mode);
  if (mode != v1::MODE_CONTEMPLATING) return RefuseContemplation(options);
  v1::Contemplation& how = *request.mutable_contemplation();
  if (options.agents) how.set_max_agents(*options.agents);
  if (options.min_agents) how.set_min_agents(*options.min_agents);
  if (!options.aggregation.empty()) {
    ASSIGN_OR_RETURN(const v1::Aggregation aggregation,
                     Choose<v1::Aggregation>("--aggregation", options.aggregation,
                                             {{"auto", v1::AGGREGATION_AUTO},
                                              {"vote", v1::AGGREGATION_VOTE},
                                              {"weighted-vote", v1::AGGREGATION_WEIGHTED_VOTE},
                                              {"synthesise", v1::AGGREGATION_SYNTHESISE}}));
    how.set_aggregation(aggregation);
  }
  if (!options.stop_rule.empty()) {
    ASSIGN_OR_RETURN(const v1::StopRule rule,
                     Choose<v1::StopRule>("--stop-rule", options.stop_rule,
                                          {{"none", v1::STOP_RULE_NONE},
                                           {"settled", v1::STOP_RULE_SETTLED},
                                           {"beta", v1::STOP_RULE_LEADER_BEATS_RUNNER_UP},
                                           {"window", v1::STOP_RULE_WINDOW_UNANIMOUS},
                                           {"first", v1::STOP_RULE_FIRST_M},
                                           {"quorum", v1::STOP_RULE_QUORUM}}));
    how.set_stop_rule(rule);
  }
  if (options.stop_votes) how.set_stop_votes(*options.stop_votes);
  if (options.stop_certainty) how.set_stop_certainty(*options.stop_certainty);
  return SetConfidence(options, how);
}

absl::Status SetAnswerKey(const std::string& text, v1::AnswerKey& key) {
  const size_t colon = text.find(':');
  ASSIGN_OR_RETURN(const v1::AnswerKey::Kind kind,
                   Choose<v1::AnswerKey::Kind>("--answer-key", text.substr(0, colon),
                                               {{"boxed", v1::AnswerKey::KIND_BOXED},
                                                {"answer-line", v1::AnswerKey::KIND_ANSWER_LINE},
                                                {"json", v1::AnswerKey::KIND_JSON_FIELD},
                                                {"regex", v1::AnswerKey::KIND_REGEX},
                                                {"last-line", v1::AnswerKey::KIND_LAST_LINE},
                                                {"whole-text", v1::AnswerKey::KIND_WHOLE_TEXT}}));
  key.set_kind(kind);
  if (colon != std::string::npos) key.set_argument(text.substr(colon + 1));
  return absl::OkStatus();
}

void SetLimitsAndSampling(const AskOptions& options, v1::GenerateRequest& request) {
  if (options.thinking_tokens)
    request.mutable_budget()->set_thinking_tokens(*options.thinking_tokens);
  if (options.answer_tokens) request.mutable_budget()->set_answer_tokens(*options.answer_tokens);
  if (options.total_tokens) request.mutable_budget()->set_total_tokens(*options.total_tokens);
  if (options.deadline_seconds) {
    *request.mutable_budget()->mutable_deadline() = Seconds(*options.deadline_seconds);
  }
  v1::Sampling& sampling = *request.mutable_sampling();
  if (options.temperature) sampling.set_temperature(static_cast<float>(*options.temperature));
  if (options.top_p) sampling.set_top_p(static_cast<float>(*options.top_p));
  if (options.min_p) sampling.set_min_p(static_cast<float>(*options.min_p));
  if (options.top_k) sampling.set_top_k(*options.top_k);
  if (options.seed) request.set_seed(*options.seed);
}

absl::Status SetReplay(const std::string& path, v1::GenerateRequest& request) {
  ASSIGN_OR_RETURN(const std::string json, ReadFile(path));
  auto receipt = ReceiptFromJson(json);
  if (!receipt.ok()) return Annotate(receipt.status(), "--replay " + path);
  v1::Replay& replay = *request.mutable_replay();
  replay.set_seed(receipt->seed());
  replay.set_time_of_day(receipt->time_of_day());
  replay.set_fingerprint(receipt->fingerprint());
  replay.set_decision_version(receipt->decision_version());
  *replay.mutable_decisions() = receipt->decisions();
  replay.set_result_hash(receipt->result_hash());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> MakeRequest(const AskOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  request.set_request_id(options.request_id);
  v1::Message& message = *request.add_messages();
  message.set_role(v1::ROLE_USER);
  std::string question = options.question;
  if (question == "-") question.assign(std::istreambuf_iterator<char>(std::cin), {});
  message.add_parts()->set_text(std::move(question));
  RETURN_IF_ERROR(SetMode(options, request));
  if (!options.answer_key.empty()) {
    RETURN_IF_ERROR(SetAnswerKey(options.answer_key, *request.mutable_answer_key()));
  }
  if (!options.on_loss.empty()) {
    ASSIGN_OR_RETURN(const v1::OnLoss on_loss,
                     Choose<v1::OnLoss>("--on-loss", options.on_loss,
                                        {{"resume", v1::ON_LOSS_RESUME},
                                         {"continue", v1::ON_LOSS_CONTINUE},
                                         {"fail", v1::ON_LOSS_FAIL}}));
    request.set_on_loss(on_loss);
  }
  RETURN_IF_ERROR(CheckDeadline(options));
  RETURN_IF_ERROR(CheckTexts(request));
  SetLimitsAndSampling(options, request);
  if (!options.quiet) {
    request.add_include(v1::INCLUDE_THINKING);
    request.add_include(v1::INCLUDE_AGENT_ANSWERS);
    request.add_include(v1::INCLUDE_VOTES);
  }
  if (!options.replay_file.empty()) RETURN_IF_ERROR(SetReplay(options.replay_file, request));
  return request;
}

absl::StatusOr<std::string> ReadKey(const std::string& path) {
  std::ifstream file(path);
  std::string key;
  std::getline(file, key);
  if (!key.empty() && key.back() == '\r') key.pop_back();
  if (key.empty()) {
    return NotFound("--api-key-file {}: no key can be read; its first line is the key", path);
  }
  const bool visible =
      std::all_of(key.begin(), key.end(), [](char c) { return c > 32 && c < 127; });
  if (!visible) {
    return InvalidArgument("--api-key-file {}: a key is visible ASCII; the first line holds more",
                           path);
  }
  return key;
}

absl::Status CheckRouter(const std::string& routers) {
  size_t begin = 0;
  for (size_t end = 0; end != std::string::npos; begin = end + 1) {
    end = routers.find(',', begin);
    const std::string router = routers.substr(begin, end == std::string::npos ? end : end - begin);
    if (router.find(':') == std::string::npos) {
      return InvalidArgument("--router is '{}'; it must be HOST:PORT, as 127.0.0.1:9100", router);
    }
  }
  return absl::OkStatus();
}

std::string ReceiptToJson(const v1::Receipt& receipt) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(receipt, &json, options);
  return status.ok() ? json : std::string("{}");
}

absl::StatusOr<v1::Receipt> ReceiptFromJson(const std::string& json) {
  v1::Receipt receipt;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &receipt);
  if (!status.ok()) return InvalidArgument("not a receipt: {}", status.ToString());
  return receipt;
}

}  // namespace conclave::cli
