#pragma once

#include <string>

#include "tests/unit/router/api/api_rig.h"

// Streams that break and are taken up, for tests.
namespace conclave::router {

// A question of one agent that says `pieces` pieces of five bytes, one token each; kept for a
// minute, as "r1".
v1::GenerateRequest KeptQuestion();
std::function<FakeSpeech(AgentId)> SpeechOf(int pieces);
// What the agent of SpeechOf answers.
std::string AnswerOf(int pieces);

// The request that takes up a stream of which `answer` is held.
v1::GenerateRequest Resume(v1::GenerateRequest request, const std::string& answer);

// Starts `request`, and breaks the stream when its answer has `bytes` bytes; what was read until
// then. The group must hold after that many.
std::string AskAndBreak(ApiRig& rig, const v1::GenerateRequest& request, size_t bytes);

// As Listen, of a stream that lacks the answer's first bytes.
Heard ListenToTheRest(ApiRig& rig, const v1::GenerateRequest& request, const std::string& held,
                      const std::string& authorization = "");

// Waits until the metrics page has the line; false after a minute.
bool AwaitMetric(ApiRig& rig, const std::string& line);

}  // namespace conclave::router
