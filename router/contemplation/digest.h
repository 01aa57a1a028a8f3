#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/types.h"

// What later agents of a request are shown of what earlier ones wrote, within bounds.
namespace conclave::router {

// Each text has an equal share of `bytes`; of a longer one the end is kept, from a whole character
// of UTF-8 on. REQUIRES: bytes >= 0.
std::vector<std::string> Digest(std::vector<std::string> texts, int bytes);

// Which of `count` drafts the agent sees: `drafts` of them, drawn without replacement, in rising
// order; all when there are no more. Draft j's lot is the first word of Philox4x32-10 with the
// family's seed (low, high) as its key and the counter (agent, j, 0, 1), which no token's draw has
// (their last number is 0); the lowest lots are drawn, ties to the lower j. So what an agent sees
// depends on the seed, its id and the number of drafts alone.
std::vector<int> DrawDrafts(uint64_t seed, AgentId agent, int count, int drafts);

// The parts that a splitter's answer names: its lines that are not empty, without outer space and,
// if each line has one, without a list's mark ("- ", "* ", "2. ", "2) "). None when there are fewer
// than 2 or more than `most`, or one has more than 4096 bytes: the question is not split.
std::vector<std::string> PartsOf(std::string_view answer, int most);

}  // namespace conclave::router
