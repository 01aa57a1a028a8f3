#include "worker/text/text_model.h"

#include <openssl/evp.h>

#include <algorithm>
#include <set>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "worker/text/generation_config.h"
#include "worker/text/json_text.h"

namespace conclave::worker {
namespace {

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

// Counts up when the same tokens, told the same, come to another text or another end.
constexpr int kTextVersion = 2;

// Where an agent stands behind a prompt that ends so: the template may have opened the thinking, or
// closed it.
Opening OpeningOf(const ThinkingMarkers& markers, const MarkedString& text) {
  if (markers.end.empty()) return Opening::kAnswer;
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
  model->profile_.TakeFormat(model->template_.source());

  ASSIGN_OR_RETURN(const GenerationConfig generation, LoadGenerationConfig(model_dir));
  std::set<TokenId> ends(generation.end_tokens.begin(), generation.end_tokens.end());
  if (const auto eos = model->tokenizer_->IdOf(model->template_.eos_token()); eos)
    ends.insert(*eos);
  model->end_tokens_.assign(ends.begin(), ends.end());
  model->sampling_ = model->profile_.sampling.value_or(generation.sampling);

  const Profile& p = model->profile_;
  model->markers_ = {p.think_start, p.think_end, {}, p.answer_start};
  ASSIGN_OR_RETURN(model->markers_.force_end,
                   model->tokenizer_->EncodeWithSpecials(p.force_think_end));
  model->hash_ = HashOf({fmt::format("{}", kTextVersion), tokenizer_bytes,
                         model->template_.source(), model->template_.bos_token(),
                         model->template_.eos_token(), profile.source, generation.source});
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
  prompt.opening = OpeningOf(markers_, prompt.text);
  if (options.thinking == Thinking::kOff && prompt.opening == Opening::kThinking) {
    // The template cannot be told; its thinking is empty, then.
    prompt.text.Append(profile_.force_think_end, Author::kTemplate);
    prompt.opening = Opening::kAnswer;
  }
  ASSIGN_OR_RETURN(prompt.tokens, AsAsked(tokenizer_->Encode(prompt.text)));
  if (prompt.tokens.empty()) return InvalidArgument("the rendered prompt is empty");
  return prompt;
}

Prompt TextModel::Show(const RenderedPrompt& rendered) const {
  Prompt prompt;
  prompt.text = rendered.text.text();
  for (const MarkedString::Run& run : rendered.text.runs()) {
    prompt.runs.push_back({run.end, run.author == Author::kCaller});
  }
  prompt.tokens.reserve(rendered.tokens.size());
  for (const TokenId id : rendered.tokens) {
    prompt.tokens.push_back(
        {id, std::string(tokenizer_->token_bytes(id)), tokenizer_->is_added(id)});
  }
  return prompt;
}

std::unique_ptr<TextPolicy> TextModel::MakePolicy(OutputOptions options,
                                                  std::shared_ptr<TextTrace> trace) const {
  TextPolicyOptions policy;
  policy.markers = markers_;
  policy.opening = options.opening;
  policy.budget = options.budget;
  policy.end_tokens = end_tokens_;
  policy.stop_tokens = std::move(options.stop_tokens);
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
  out.split_text = profile_.split_text;
  out.join_text = profile_.join_text;
  out.join_line = profile_.join_line;
  out.refine_text = profile_.refine_text;
  out.select_text = profile_.select_text;
  out.end_thinking_tokens = static_cast<int>(markers_.force_end.size());
  out.thinks = profile_.thinks();
  out.thinking_tokens = profile_.thinking_tokens;
  out.answer_tokens = profile_.answer_tokens;
  out.sampling = sampling_;
  out.end_tokens = end_tokens_;
  return out;
}

}  // namespace conclave::worker
