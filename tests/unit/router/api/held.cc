#include "tests/unit/router/api/held.h"

#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <thread>

namespace conclave::router {

v1::GenerateRequest KeptQuestion() {
  v1::GenerateRequest request = Ask(v1::MODE_INSTANT);
  request.set_request_id("r1");
  request.mutable_keep_for()->set_seconds(60);
  return request;
}

std::function<FakeSpeech(AgentId)> SpeechOf(int pieces) {
  return [pieces](AgentId) {
    FakeSpeech speech;
    for (int i = 0; i < pieces; ++i) speech.answer.push_back(fmt::format("{:04} ", i));
    return speech;
  };
}

std::string AnswerOf(int pieces) {
  std::string answer;
  for (const std::string& piece : SpeechOf(pieces)(AgentId{}).answer) answer += piece;
  return answer;
}

v1::GenerateRequest Resume(v1::GenerateRequest request, const std::string& answer) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(answer.data()), answer.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  request.mutable_resume()->set_answer_bytes(static_cast<int64_t>(answer.size()));
  request.mutable_resume()->set_answer_sha256(digest);
  return request;
}

std::string AskAndBreak(ApiRig& rig, const v1::GenerateRequest& request, size_t bytes) {
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  std::string answer;
  v1::GenerateResponse event;
  EXPECT_TRUE(reader->Read(&event));  // It was admitted.
  while (answer.size() < bytes && reader->Read(&event)) answer += event.answer_delta().text();
  EXPECT_EQ(answer.size(), bytes);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  return answer;
}

Heard ListenToTheRest(ApiRig& rig, const v1::GenerateRequest& request, const std::string& held,
                      const std::string& authorization) {
  grpc::ClientContext context;
  if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  const auto reader = rig.stub().Generate(&context, Resume(request, held));
  Heard heard;
  for (v1::GenerateResponse event; reader->Read(&event);) heard.events.push_back(event);
  heard.status = reader->Finish();
  for (size_t i = 0; i < heard.events.size(); ++i) {
    EXPECT_EQ(heard.events[i].sequence(), static_cast<int64_t>(i) + 1);
  }
  if (!heard.status.ok()) return heard;
  EXPECT_TRUE(heard.events.front().has_admitted());
  EXPECT_EQ(heard.CountOf(v1::GenerateResponse::kAdmitted), 1);
  EXPECT_EQ(heard.CountOf(v1::GenerateResponse::kCompleted), 1);
  EXPECT_TRUE(heard.events.back().has_completed());
  EXPECT_EQ(held + heard.Answer(), heard.completed().answer());
  return heard;
}

bool AwaitMetric(ApiRig& rig, const std::string& line) {
  const absl::Time end = absl::Now() + absl::Seconds(60);
  while (rig.metrics().Text().find("\n" + line + "\n") == std::string::npos) {
    if (absl::Now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace conclave::router
