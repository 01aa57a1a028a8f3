#include "cli/options.h"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <utility>

#include "cli/contemplation_options.h"
#include "cli/option_words.h"
#include "cli/record.h"
#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

// The API's texts are UTF-8; protobuf would send other bytes and the router refuse the message.
absl::Status CheckUtf8(const std::string& what, const std::string& text) {
  if (IsUtf8(text)) return absl::OkStatus();
  return InvalidArgument("{} is not UTF-8; convert it, as with iconv", what);
}

absl::Status CheckTexts(const v1::GenerateRequest& request) {
  RETURN_IF_ERROR(CheckUtf8("--model", request.model()));
  RETURN_IF_ERROR(CheckUtf8("--request-id", request.request_id()));
  for (const std::string& text : request.stop()) RETURN_IF_ERROR(CheckUtf8("--stop", text));
  return CheckUtf8("--answer-key", request.answer_key().argument());
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
  if (options.min_tokens) request.mutable_budget()->set_min_tokens(*options.min_tokens);
  for (const std::string& text : options.stop) request.add_stop(text);
  for (const int token : options.stop_tokens) request.add_stop_tokens(token);
  if (options.logprobs) request.set_top_logprobs(*options.logprobs);
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
  const absl::StatusOr<v1::Record> record = RecordFromJson(json);
  if (!record.ok()) return Annotate(record.status(), "--replay " + path);
  *request.mutable_replay() = ReplayOf(record->receipt());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> MakeRequest(const AskOptions& options) {
  v1::GenerateRequest request;
  request.set_model(options.model);
  request.set_request_id(options.request_id);
  ASSIGN_OR_RETURN(std::string question, TextArgument(options.question, "the question"));
  SetQuestion(std::move(question), request.mutable_messages());
  ASSIGN_OR_RETURN(const v1::Mode mode, ModeOf(options.mode));
  request.set_mode(mode);
  if (mode == v1::MODE_CONTEMPLATING) {
    RETURN_IF_ERROR(SetContemplation(options, *request.mutable_contemplation()));
  } else {
    RETURN_IF_ERROR(RefuseContemplation(options));
  }
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
  RETURN_IF_ERROR(CheckSeconds("--deadline", options.deadline_seconds));
  SetLimitsAndSampling(options, request);
  RETURN_IF_ERROR(CheckTexts(request));
  // A record holds all that the agents wrote.
  const bool keeps = !options.receipt_file.empty();
  if (keeps) request.add_include(v1::INCLUDE_TOKENS);
  if (keeps || !options.quiet) {
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

absl::StatusOr<std::string> TextArgument(const std::string& argument, const std::string& what) {
  std::string text = argument;
  if (argument == "-") {
    ASSIGN_OR_RETURN(text, ReadAll(std::cin, "standard input", kMostTextBytes));
  }
  RETURN_IF_ERROR(CheckUtf8(what, text));
  return text;
}

void SetQuestion(std::string question, google::protobuf::RepeatedPtrField<v1::Message>* messages) {
  v1::Message& message = *messages->Add();
  message.set_role(v1::ROLE_USER);
  message.add_parts()->set_text(std::move(question));
}

absl::StatusOr<v1::Mode> ModeOf(const std::string& word) {
  return Choose<v1::Mode>("--mode", word,
                          {{"auto", v1::MODE_UNSPECIFIED},
                           {"instant", v1::MODE_INSTANT},
                           {"thinking", v1::MODE_THINKING},
                           {"contemplating", v1::MODE_CONTEMPLATING}});
}

}  // namespace conclave::cli
