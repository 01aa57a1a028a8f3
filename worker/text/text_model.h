#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/chat.h"
#include "common/family.h"
#include "common/model_description.h"
#include "common/prompt.h"
#include "worker/text/chat_template.h"
#include "worker/text/marked_string.h"
#include "worker/text/profile.h"
#include "worker/text/text_policy.h"
#include "worker/text/tokenizer.h"

namespace conclave::worker {

struct RenderOptions {
  Thinking thinking = Thinking::kOn;
  std::string effort;  // Names one of the profile's efforts, for thinking agents. May be empty.
  int64_t time_of_day = 0;  // Seconds since 1970.
  std::string append;       // Appended to the last user turn.
  bool add_generation_prompt = true;
};

// What an agent is given.
struct RenderedPrompt {
  MarkedString text;
  std::vector<TokenId> tokens;
  Opening opening = Opening::kAnswer;  // For its TextPolicy.
};

// What one agent is told about its output.
struct OutputOptions {
  Opening opening = Opening::kAnswer;
  Budget budget;
  std::vector<std::string> stop;
  std::vector<TokenId> stop_tokens;
  std::optional<AnswerKey> stop_at_answer;
};

// All that a model's folder says about text: tokenizer, chat template, profile, end tokens.
// Immutable, so any thread may use it.
class TextModel {
 public:
  // `fallback_profile` is used when the folder has no conclave.yaml. Errors name the file and key.
  static absl::StatusOr<std::unique_ptr<TextModel>> Load(
      const std::filesystem::path& model_dir, const std::filesystem::path& fallback_profile);

  // kInvalidArgument: no messages, an unknown effort, `append` without a user turn, or the template
  // refused them.
  absl::StatusOr<RenderedPrompt> Render(std::vector<Message> messages,
                                        const RenderOptions& options) const;

  // The same for people: who wrote which bytes, and what each token says.
  Prompt Show(const RenderedPrompt& rendered) const;

  // A policy for one agent; its pieces go to `trace`. This object must outlive it.
  std::unique_ptr<TextPolicy> MakePolicy(OutputOptions options,
                                         std::shared_ptr<TextTrace> trace) const;

  // What routers build prompts from.
  PromptProfile prompt_profile() const;

  // Hex SHA-256 over tokenizer, chat template with its tokens, profile and generation_config.json:
  // the text's part of the fingerprint.
  const std::string& hash() const { return hash_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const ChatTemplate& chat_template() const { return template_; }
  const Profile& profile() const { return profile_; }
  // What is put there when a thinking is ended from outside. Empty: the model does not think.
  const std::vector<TokenId>& end_of_thinking() const { return markers_.force_end; }
  // Rising: generation_config.json's eos_token_id and the tokenizer's eos_token.
  const std::vector<TokenId>& end_tokens() const { return end_tokens_; }

 private:
  TextModel(std::unique_ptr<Tokenizer> tokenizer, ChatTemplate chat_template);

  std::unique_ptr<const Tokenizer> tokenizer_;
  ChatTemplate template_;
  Profile profile_;
  Sampling sampling_;
  ThinkingMarkers markers_;
  std::vector<TokenId> end_tokens_;
  std::string hash_;
};

}  // namespace conclave::worker
