#include "worker/text/text_model.h"

#include <openssl/evp.h>

#include <algorithm>
#include <set>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "worker/text/json_text.h"

namespace conclave::worker {
namespace {

constexpr size_t kMostConfigBytes = size_t{1} << 20;

// SHA-256 over texts, each with its length, so that no two lists of texts collide.
std::string HashOf(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += fmt::format("{}:", text.size()) + text;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(all.data(), all.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

// What generation_config.json says: stop tokens and sampling defaults.
absl::Status ReadGeneration(const nlohmann::json& config, std::set<TokenId>& stops,
                            Sampling& sampling) {
  const nlohmann::json& eos = Member(config, "eos_token_id");
  for (const nlohmann::json& id : eos.is_array() ? eos : nlohmann::json::array({eos})) {
    if (id.is_number_integer()) stops.insert(id.get<TokenId>());
  }
  const nlohmann::json& sampled = Member(config, "do_sample");
  const bool greedy = sampled.is_boolean() && !sampled.get<bool>();
  const auto number = [&config](const char* key, float least, float most,
                                float& out) -> absl::Status {
    const nlohmann::json& value = Member(config, key);
    if (value.is_null()) return absl::OkStatus();
    if (!value.is_number() || value.get<float>() < least || value.get<float>() > most) {
      return InvalidArgument("generation_config.json: {} is {}; it can be {} to {}", key,
                             value.dump(), least, most);
    }
    out = value.get<float>();
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(number("temperature", 0, 100, sampling.temperature));
  RETURN_IF_ERROR(number("top_p", 0, 1, sampling.top_p));
  RETURN_IF_ERROR(number("repetition_penalty", 0.01f, 10, sampling.repetition_penalty));
  float top_k = 0;
  RETURN_IF_ERROR(number("top_k", 0, 1024, top_k));
  sampling.top_k = static_cast<int>(top_k);
  if (greedy) sampling.temperature = 0;
  return absl::OkStatus();
}

// Where an agent stands behind a prompt that ends so: the template may have opened the thinking, or
// closed it.
Opening OpeningOf(const ThinkingMarkers& markers, Thinking thinking, const MarkedString& text) {
  if (markers.end.empty() || thinking == Thinking::kOff) return Opening::kAnswer;
  const std::string& prompt = text.text();
  // What a caller wrote opens and closes nothing.
  const size_t last = prompt.find_last_not_of(" \t\r\n");
  if (last == std::string::npos || text.author_at(last) == Author::kCaller) {
    return Opening::kMayThink;
  }
  const size_t start = prompt.rfind(markers.start), end = prompt.rfind(markers.end);
  const bool opened =
      !markers.start.empty() && start != std::string::npos &&
      prompt.find_first_not_of(" \t\r\n", start + markers.start.size()) == std::string::npos;
  const bool closed =
      end != std::string::npos &&
      prompt.find_first_not_of(" \t\r\n", end + markers.end.size()) == std::string::npos;
  return opened ? Opening::kThinking : closed ? Opening::kAnswer : Opening::kMayThink;
}

}  // namespace

TextModel::TextModel(std::unique_ptr<Tokenizer> tokenizer, ChatTemplate chat_template)
    : tokenizer_(std::move(tokenizer)), template_(std::move(chat_template)) {}

absl::StatusOr<std::unique_ptr<TextModel>> TextModel::Load(
    const std::filesystem::path& model_dir, const std::filesystem::path& fallback_profile) {
  ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Load(model_dir));
  ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Load(model_dir));
  ASSIGN_OR_RETURN(LoadedProfile profile, LoadProfile(model_dir, fallback_profile));
  ASSIGN_OR_RETURN(const std::string tokenizer_bytes,
                   ReadFile(model_dir / "tokenizer.json", Tokenizer::kMaxFileBytes));
  auto model =
      std::unique_ptr<TextModel>(new TextModel(std::move(tokenizer), std::move(chat_template)));
  model->profile_ = std::move(profile.profile);

  std::set<TokenId> stops;
  if (const auto eos = model->tokenizer_->IdOf(model->template_.eos_token()); eos)
    stops.insert(*eos);
  ASSIGN_OR_RETURN(const auto generation,
                   ReadFileIfThere(model_dir / "generation_config.json", kMostConfigBytes));
  if (generation) {
    ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(*generation, "generation_config.json"));
    RETURN_IF_ERROR(ReadGeneration(json, stops, model->sampling_));
  }
  model->sampling_ = model->profile_.sampling.value_or(model->sampling_);
  model->stop_tokens_.assign(stops.begin(), stops.end());

  const Profile& p = model->profile_;
  model->markers_ = {p.think_start, p.think_end, {}};
  ASSIGN_OR_RETURN(model->markers_.force_end,
                   model->tokenizer_->EncodeWithSpecials(p.force_think_end));
  model->hash_ = HashOf({tokenizer_bytes, model->template_.source(), model->template_.bos_token(),
                         model->template_.eos_token(), profile.source, generation.value_or("")});
  return model;
}

namespace {

// A bound that these messages exceed is theirs to keep: asked again, they would exceed it again.
template <typename T>
absl::StatusOr<T> AsAsked(absl::StatusOr<T> result) {
  if (!absl::IsResourceExhausted(result.status())) return result;
  return InvalidArgument("the prompt cannot be rendered: {}", MessageOf(result.status()));
}

}  // namespace

absl::StatusOr<RenderedPrompt> TextModel::Render(std::vector<Message> messages,
                                                 const RenderOptions& options) const {
  if (messages.empty()) return InvalidArgument("there are no messages");
  if (!options.append.empty()) {
    const auto last = std::find_if(messages.rbegin(), messages.rend(),
                                   [](const Message& each) { return each.role == Role::kUser; });
    if (last == messages.rend()) return InvalidArgument("there is no user turn to append to");
    last->parts.push_back({options.append});
  }
  TemplateInput input;
  input.messages = std::move(messages);
  input.add_generation_prompt = options.add_generation_prompt;
  input.time_of_day = options.time_of_day;
  if (options.thinking == Thinking::kOff) {
    input.variables = profile_.when_off;
  } else if (options.effort.empty()) {
    input.variables = profile_.when_on;
  } else if (const auto effort = profile_.efforts.find(options.effort);
             effort != profile_.efforts.end()) {
    input.variables = effort->second;
  } else {
    return InvalidArgument("the model knows no effort '{}'", options.effort);
  }
  RenderedPrompt prompt;
  ASSIGN_OR_RETURN(prompt.text, AsAsked(template_.Render(input)));
  ASSIGN_OR_RETURN(prompt.tokens, AsAsked(tokenizer_->Encode(prompt.text)));
  if (prompt.tokens.empty()) return InvalidArgument("the rendered prompt is empty");
  prompt.opening = OpeningOf(markers_, options.thinking, prompt.text);
  return prompt;
}

std::unique_ptr<TextPolicy> TextModel::MakePolicy(OutputOptions options,
                                                  std::shared_ptr<TextTrace> trace) const {
  TextPolicyOptions policy;
  policy.markers = markers_;
  policy.opening = options.opening;
  policy.budget = options.budget;
  policy.stop_tokens = stop_tokens_;
  policy.stop = std::move(options.stop);
  policy.stop_at_answer = std::move(options.stop_at_answer);
  return std::make_unique<TextPolicy>(*tokenizer_, std::move(policy), std::move(trace));
}

PromptProfile TextModel::prompt_profile() const {
  PromptProfile out;
  out.answer_key = profile_.answer_key;
  out.aggregate_text = profile_.aggregate_text;
  out.candidate_line = profile_.candidate_line;
  out.max_candidates = profile_.max_candidates;
  out.end_thinking_tokens = static_cast<int>(markers_.force_end.size());
  out.thinks = profile_.thinks();
  out.thinking_tokens = profile_.thinking_tokens;
  out.answer_tokens = profile_.answer_tokens;
  out.sampling = sampling_;
  return out;
}

}  // namespace conclave::worker
