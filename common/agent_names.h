#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/types.h"

// How agents and other numbered things are called in front of people.
namespace conclave {

// "agent 3" (from 1), "agent 3 of round 2", "synthesiser", "splitter", "agent 1 of part 2".
std::string AgentName(AgentId agent);

// In few words: "agent 3", "agents 1, 3-5 and the synthesiser", "agents 1-4 and agents 2-3 of
// round 2".
std::string AgentNames(std::vector<AgentId> agents);

// "1, 3-5": numbers in order, each once.
std::string Ranges(std::vector<int64_t> numbers);

}  // namespace conclave
