#pragma once

#include <string>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// The bill as a short table for people: lines that end with '\n', at most 100 wide; answers are
// shortened to `columns`. Texts in it are harmless to a terminal.
std::string ReceiptText(const v1::Receipt& receipt, int columns = 100);

// How an agent is called in front of people: "agent 3" (from 1), "synthesiser".
std::string AgentName(uint32_t agent);

// Why an agent was cut, in words: "the answer is settled".
const char* CutText(v1::CutReason reason);

// A decision in words: "deadline at token 120: agent 3 keeps 80".
std::string DecisionText(const v1::Decision& decision);

}  // namespace conclave::cli
