#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/generation.h"
#include "worker/text/chat_template.h"

namespace conclave::worker {

using TemplateVariables = std::map<std::string, TemplateVariable>;

// How models of one kind mark their thinking, and how they are known.
struct ThinkingFormat {
  std::vector<std::string> seen;                    // All of these stand in the chat template.
  std::string start, end, force_end, answer_start;  // As in Profile.
};

// What a model brings beside its weights (conclave.yaml in its folder): how it is told to think,
// and the words that it was trained on. Prompts are data; nothing is added to them.
struct Profile {
  // Thinking. All empty when the model has no thinking of its own.
  std::string think_start, think_end;  // Markers in its text.
  std::string force_think_end;         // The text that ends the thinking for it; holds think_end.
  std::string answer_start;            // What may stand in front of an answer without thinking.
  // Where it has no markers, those of the first format that the chat template knows are taken.
  std::vector<ThinkingFormat> formats;
  TemplateVariables when_on, when_off;               // What the chat template is told.
  std::map<std::string, TemplateVariables> efforts;  // By name, in place of when_on.

  AnswerKeySpec answer_key;
  // A user turn with {question} and {candidates}; one line of {candidates} with {index} (from 1)
  // and {answer}.
  std::string aggregate_text, candidate_line;
  int max_candidates = 8;
  // A user turn with {question} and {candidates} that asks for the number of the best one. Empty:
  // not trained.
  std::string select_text;
  // A user turn with {question}: the answer has one part of it on each line. Empty: not trained.
  std::string split_text;
  // A user turn with {question} and {candidates}; one line of them with {index}, {part}, {answer}.
  std::string join_text, join_line;
  // A user turn with {question} and {candidates}, for an agent that answers anew having seen
  // drafts. Empty: aggregate_text.
  std::string refine_text;

  int recommended_tokens = 0;  // Prompt and output together, as it was trained. 0 = unknown.
  int thinking_tokens = 0, answer_tokens = 0;  // Default budgets. 0 = the request's.
  std::optional<Sampling> sampling;            // Its own defaults, before generation_config.json's.

  bool thinks() const { return !think_end.empty(); }
  // Takes the markers that `chat_template`, its source, speaks of, if it has none of its own.
  void TakeFormat(std::string_view chat_template);
};

struct LoadedProfile {
  Profile profile;
  std::string source;          // The file's bytes: part of the fingerprint.
  std::filesystem::path path;  // Where it was found.
};

// Reads dir/conclave.yaml, or `fallback` when the model has none. kInvalidArgument with
// file:line:column for unknown keys, wrong types, and texts that lack a placeholder or a marker.
absl::StatusOr<LoadedProfile> LoadProfile(const std::filesystem::path& dir,
                                          const std::filesystem::path& fallback);
// The same for a file's bytes; `name` stands in errors.
absl::StatusOr<Profile> ParseProfile(const std::string& yaml, const std::string& name);

}  // namespace conclave::worker
