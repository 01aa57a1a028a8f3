#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/types.h"
#include "worker/backend/device.h"

namespace conclave::worker {

// What an independent implementation computes for one prompt of one model.
struct Golden {
  std::vector<TokenId> prompt;
  std::vector<float> logits;    // Of the last rows of the prompt: [n, V], n = size / V.
  std::vector<TokenId> greedy;  // What follows.
};

// Reads expected_text.safetensors (all rows' logits) or, where there is none, ref_1.json (the last
// row's). kNotFound when the folder has neither.
absl::StatusOr<Golden> ReadGolden(const std::string& model_dir);

// Rule 2 of the architecture, looked at bit by bit: logits of every prompt row and of every
// generated one.
struct Equality {
  std::optional<double>
      relative_error;  // Greatest |difference| over greatest |logit|, f32; none without a golden.
  bool greedy_equal = true;   // To the golden's text.
  bool tp_equal = true;       // TP 1, 2, 4: the same greedy tokens.
  bool batch_equal = true;    // Alone, and among 15 others; at each degree.
  bool chunks_equal = true;   // Prompt in pieces of 1, 3, 16 and all; at TP 2 and 4 of 3 and all.
  bool prefix_equal = true;   // Behind blocks that another sequence computed.
  bool resumed_equal = true;  // Taken up from half-way.
  bool sets_equal = true;     // With every instruction set that this machine has.
  int tp_skipped = 0;         // Degrees that the model's shape refuses.
};

// Runs a model in all these ways. `prompt`: for models without a golden.
absl::StatusOr<Equality> Compare(const std::string& model_dir, const std::optional<Golden>& golden,
                                 const std::vector<TokenId>& prompt);

// What the CPU computes, for models without a golden.
absl::StatusOr<Golden> ComputeGolden(const std::string& model_dir,
                                     const std::vector<TokenId>& prompt);

// How much of the comparison is done, on what.
struct Trial {
  std::function<absl::StatusOr<std::unique_ptr<Device>>(int rank)> make_device = {};
  int neighbours = 15;
  std::vector<int> chunks = {1, 3, 16};
  int generated = 24;
};
// The same on another device than the CPU, by one rank: all but degrees and instruction sets.
absl::StatusOr<Equality> CompareOn(const Trial& trial, const std::string& model_dir,
                                   const Golden& golden);

}  // namespace conclave::worker
