#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// The bill as a short table for people: lines that end with '\n', at most columns - 1 wide; answers
// are shortened, all else is wrapped. Texts in it are harmless to a terminal.
std::string ReceiptText(const v1::Receipt& receipt, int columns = 100);

// How an agent is called in front of people: "agent 3" (from 1), "synthesiser".
std::string AgentName(uint32_t agent);
// The same in at most 11 columns, for tables: "agent 3 r2" of round 2, "agent 1 p4" of part 4.
std::string BriefName(uint32_t agent);
// "merges 5 answers": what a last pass is about to do, and of which model it is, if of another one.
std::string MergingText(const v1::AggregationStarted& started);

// Why an agent was cut, in words: "the answer is settled".
const char* CutText(v1::CutReason reason);

// Agents in few words: "agent 3", "agents 1, 3-5 and the synthesiser".
std::string AgentNames(const std::vector<uint32_t>& agents);

// A decision in words: "the deadline came at token 120: agent 3 keeps 80".
std::string DecisionText(const v1::Decision& decision);

}  // namespace conclave::cli
