#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/family.h"
#include "common/model_description.h"
#include "worker/engine/engine.h"
#include "worker/text/text_model.h"

namespace conclave::worker {

// An agent as the stream knows it: what the engine does not keep.
struct TracedAgent {
  AgentId id{};
  int prompt_tokens = 0;
  int count = 0;                     // Tokens after the prompt that the router has or was told of.
  std::shared_ptr<TextTrace> trace;  // Shared with the agent's policy, which the engine owns.
  bool told = false;                 // Its tokens are to carry their texts.
  OutputOptions asked;               // Of its copies that are asked for their answer.
};

// A gang, ready for the engine. Element by element the same agents.
struct Gang {
  std::vector<AgentSpec> specs;
  std::vector<TracedAgent> agents;
};

// Turns recipes into what the engine runs: renders each agent whole, encodes it, and makes its
// output policy. Immutable, so any thread may use it. `text` must outlive it and the policies.
class AgentFactory {
 public:
  // `limits`: positions and agents of the group. `vocab_size`: ids at or above it are refused.
  AgentFactory(const TextModel& text, const ModelDescription& limits, int vocab_size)
      : text_(text),
        max_positions_(limits.max_positions),
        max_agents_(limits.max_agents),
        vocab_size_(vocab_size) {}

  // The recipes' form was checked where they were read (common/wire). kOutOfRange: more agents than
  // the group runs at a time (see max_agents). kInvalidArgument, naming field, value and limit: a
  // prompt that leaves no room for a token, token ids outside of the vocabulary, messages that the
  // template refuses. kCancelled when `wanted` gave false between two agents.
  absl::StatusOr<Gang> Make(const FamilyOpening& family, const std::vector<AgentRecipe>& recipes,
                            const std::function<bool()>& wanted) const;

  // What a copy of an agent says: `asked` is the agent's, `tokens` what the copy was given and
  // drew.
  std::string AnswerOf(const OutputOptions& asked, const std::vector<TokenEvent>& tokens) const;

  // Puts itself and the bytes of all its tokens into `told`.
  void Tell(TokenEvent& token) const;

  int max_agents() const { return max_agents_; }

 private:
  absl::Status Check(const AgentRecipe& recipe) const;
  DrawRules RulesOf(const AgentRecipe& recipe) const;
  ProbeRules ProbesOf(const AgentRecipe& recipe, const OutputOptions& asked) const;
  absl::StatusOr<RenderedPrompt> Render(const FamilyOpening& family,
                                        const AgentRecipe& recipe) const;

  const TextModel& text_;
  const int max_positions_, max_agents_, vocab_size_;
};

}  // namespace conclave::worker
