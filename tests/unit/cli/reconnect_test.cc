#include "cli/reconnect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "tests/unit/cli/events.h"

namespace conclave::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::GenerateRequest Question() {
  v1::GenerateRequest request;
  request.add_messages()->add_parts()->set_text("how many?");
  request.set_mode(v1::MODE_CONTEMPLATING);
  return request;
}

v1::GenerateResponse Decided(int number) {
  v1::GenerateResponse event;
  event.mutable_decision()->set_number(number);
  event.mutable_decision()->set_kind(v1::Decision::KIND_JOIN);
  return event;
}

class JoinedStreamTest : public testing::Test {
 protected:
  // A stream from its beginning; the texts of its news go to shown_.
  void Hear(const std::vector<v1::GenerateResponse>& events) {
    joined_.Begin(absl::ZeroDuration());
    for (v1::GenerateResponse event : events) {
      const auto news = joined_.Take(event);
      ASSERT_TRUE(news.ok()) << news.status();
      if (*news) shown_.push_back(event);
    }
  }

  std::string Answer() const {
    std::string answer;
    for (const auto& event : shown_) answer += event.answer_delta().text();
    return answer;
  }

  std::string ThinkingOf(uint32_t agent) const {
    std::string text;
    for (const auto& event : shown_) {
      if (event.agent() == agent) text += event.agent_delta().thinking();
    }
    return text;
  }

  int CountOf(v1::GenerateResponse::EventCase kind) const {
    int count = 0;
    for (const auto& event : shown_) count += event.event_case() == kind ? 1 : 0;
    return count;
  }

  JoinedStream joined_{Question()};
  std::vector<v1::GenerateResponse> shown_;
};

TEST_F(JoinedStreamTest, TwoStreamsAreShownAsOne) {
  Hear({Admitted(2), Started(0), Thinking(0, "ab"), Started(1), Thinking(1, "x"), Thinking(0, "c"),
        Finished(0, "27", 4), VoteOf({{"27", 1}}, 1, 0), AnswerText("2")});
  Hear({Admitted(2), Started(0), Started(1), Thinking(0, "abc"), Thinking(1, "xyz"),
        Finished(0, "27", 4), VoteOf({{"27", 1}}, 1, 0), Finished(1, "27", 5),
        VoteOf({{"27", 2}}, 0, 1), AnswerText("7"), Completed("27")});

  EXPECT_EQ(Answer(), "27");
  EXPECT_EQ(ThinkingOf(0), "abc");
  EXPECT_EQ(ThinkingOf(1), "xyz");
  EXPECT_EQ(CountOf(v1::GenerateResponse::kAdmitted), 1);
  EXPECT_EQ(CountOf(v1::GenerateResponse::kAgentStarted), 2);
  EXPECT_EQ(CountOf(v1::GenerateResponse::kAgentFinished), 2);
  EXPECT_EQ(CountOf(v1::GenerateResponse::kVoteUpdate), 2);
  EXPECT_TRUE(joined_.complete());
  for (size_t i = 0; i < shown_.size(); ++i)
    EXPECT_EQ(shown_[i].sequence(), static_cast<int64_t>(i) + 1);
}

TEST_F(JoinedStreamTest, ProbesAndVerdictsAreToldOnce) {
  Hear({Admitted(1), Started(0), Probed(0, 64, ""), Probed(0, 128, "27")});
  Hear({Admitted(1), Started(0), Probed(0, 64, ""), Probed(0, 128, "27"), Probed(0, 192, "27"),
        Finished(0, "27", 200), Verdict(0, "")});
  Hear({Admitted(1), Started(0), Probed(0, 192, "27"), Finished(0, "27", 200), Verdict(0, "")});

  EXPECT_EQ(CountOf(v1::GenerateResponse::kProbeAnswer), 3);
  EXPECT_EQ(CountOf(v1::GenerateResponse::kCheckerVerdict), 1);
}

TEST_F(JoinedStreamTest, TheFirstRequestIsSentAsItWasGiven) {
  EXPECT_EQ(joined_.Begin(absl::Seconds(3)).SerializeAsString(), Question().SerializeAsString());
}

TEST_F(JoinedStreamTest, OnceAdmittedTheStreamIsTakenUpWithWhatIsHeld) {
  Hear({Admitted(2), AnswerText("ab"), AnswerText("c")});

  const v1::GenerateRequest request = joined_.Begin(absl::ZeroDuration());

  EXPECT_EQ(request.request_id(), "r1");
  EXPECT_EQ(request.seed(), 7u);
  EXPECT_EQ(request.messages_size(), 1);
  EXPECT_EQ(request.resume().answer_bytes(), 3);
  std::string hex;
  for (const char c : request.resume().answer_sha256())
    hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  EXPECT_EQ(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(JoinedStreamTest, DecisionsAreReplayedOnlyWhenTheAnswerHasBegun) {
  v1::GenerateResponse admitted = Admitted(2);
  admitted.mutable_admitted()->set_fingerprint("f00d");
  admitted.mutable_admitted()->set_aggregator_fingerprint("beef");
  admitted.mutable_admitted()->add_agent_fingerprints("cafe");
  admitted.mutable_admitted()->set_time_of_day(1234);
  admitted.mutable_admitted()->set_decision_version(2);
  Hear({admitted, Decided(1)});
  EXPECT_FALSE(joined_.Begin(absl::ZeroDuration()).has_replay()) << "any answer will do";

  // It was run again, and went another way.
  Hear({admitted, Decided(1), Decided(2), AnswerText("2")});
  const v1::GenerateRequest request = joined_.Begin(absl::ZeroDuration());

  ASSERT_TRUE(request.has_replay());
  EXPECT_EQ(request.replay().seed(), 7u);
  EXPECT_EQ(request.replay().fingerprint(), "f00d");
  EXPECT_EQ(request.replay().aggregator_fingerprint(), "beef");
  EXPECT_EQ(request.replay().agent_fingerprints(0), "cafe");
  EXPECT_EQ(request.replay().time_of_day(), 1234);
  EXPECT_EQ(request.replay().decision_version(), 2);
  EXPECT_EQ(request.replay().decisions_size(), 2);
  // A stream that broke before it told anything takes nothing away.
  Hear({admitted});
  EXPECT_EQ(joined_.Begin(absl::ZeroDuration()).replay().decisions_size(), 2);
}

TEST_F(JoinedStreamTest, TimeThatWentByIsTakenOffTheDeadline) {
  v1::GenerateRequest question = Question();
  question.mutable_budget()->mutable_deadline()->set_seconds(10);
  JoinedStream joined(question);
  joined.Begin(absl::ZeroDuration());
  v1::GenerateResponse admitted = Admitted(2);
  ASSERT_TRUE(joined.Take(admitted).ok());

  EXPECT_EQ(joined.Begin(absl::Milliseconds(2500)).budget().deadline().seconds(), 7);
  EXPECT_EQ(joined.Begin(absl::Milliseconds(2500)).budget().deadline().nanos(), 500'000'000);
  EXPECT_EQ(joined.Begin(absl::Hours(1)).budget().deadline().seconds(), 0);
  EXPECT_EQ(joined.Begin(absl::Hours(1)).budget().deadline().nanos(), 1'000'000);
}

TEST_F(JoinedStreamTest, AnotherModelsAnswerIsRefused) {
  Hear({Admitted(2)});
  joined_.Begin(absl::ZeroDuration());
  v1::GenerateResponse other = Admitted(2);
  other.mutable_admitted()->set_fingerprint("another");

  EXPECT_EQ(joined_.Take(other).status().code(), absl::StatusCode::kAborted);
}

TEST_F(JoinedStreamTest, AnAnswerThatIsNotTheCompletedOneIsDataLoss) {
  Hear({Admitted(2), AnswerText("2")});
  v1::GenerateResponse completed = Completed("27");

  EXPECT_EQ(joined_.Take(completed).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(joined_.complete());
}

TEST_F(JoinedStreamTest, AnAnswerTooLongForOneMessageIsWholeAllTheSame) {
  const std::string whole(3 << 20, 'x');
  Hear({Admitted(2), AnswerText(whole)});
  v1::GenerateResponse completed = Completed(whole.substr(0, 2 << 20));

  ASSERT_TRUE(joined_.Take(completed).ok());
  EXPECT_EQ(completed.completed().answer(), whole);

  v1::GenerateResponse short_of_it = Completed(whole.substr(0, 1 << 20));
  EXPECT_EQ(joined_.Take(short_of_it).status().code(), absl::StatusCode::kDataLoss);
}

// gRPC's own status, when a connection is lost.
absl::Status Lost() { return Unavailable("Socket closed"); }
// A router's answer names the request.
absl::Status FromRouter(const absl::Status& status) { return WithRequestId(status, "r1"); }

TEST(ReconnectTest, BeforeARequestWasAdmittedEachRouterIsAskedOnce) {
  Reconnect reconnect("a:1,b:2");
  EXPECT_EQ(reconnect.router(), "a:1");
  EXPECT_EQ(reconnect.After(Lost()), absl::ZeroDuration());
  EXPECT_EQ(reconnect.router(), "b:2");
  EXPECT_EQ(reconnect.After(Lost()), std::nullopt);
  EXPECT_EQ(Reconnect("a:1").After(FromRouter(Unavailable("about to stop"))), std::nullopt);
}

TEST(ReconnectTest, AStreamThatBreaksIsTakenUpThereFirstAndThenElsewhere) {
  Reconnect reconnect("a:1,b:2");
  reconnect.OnAdmitted();
  std::vector<std::string> asked;
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(reconnect.After(Lost()).has_value());
    asked.push_back(reconnect.router());
  }
  EXPECT_THAT(asked, ElementsAre("a:1", "b:2", "a:1", "b:2"));
}

TEST(ReconnectTest, WaitsGrowAndTriesAreBounded) {
  Reconnect reconnect("a:1");
  reconnect.OnAdmitted();
  absl::Duration last = absl::ZeroDuration(), sum;
  int tries = 0;
  while (const auto wait = reconnect.After(Lost())) {
    EXPECT_GE(*wait, last);
    last = *wait;
    sum += last;
    ++tries;
  }
  EXPECT_EQ(tries, Reconnect::kMostTries);
  EXPECT_LE(last, absl::Seconds(3));
  EXPECT_GT(sum, absl::Seconds(15)) << "a router that restarts is waited for";
}

TEST(ReconnectTest, ARouterThatDiesEachTimeIsNotAskedForEver) {
  Reconnect reconnect("a:1");
  int tries = 0;
  do {
    reconnect.OnAdmitted();
    ASSERT_LT(++tries, 1000);
  } while (reconnect.After(Lost()));
  EXPECT_EQ(tries, Reconnect::kMostInAll + 1);
}

TEST(ReconnectTest, TheRoutersOwnEndIsTheEnd) {
  Reconnect reconnect("a:1,b:2");
  reconnect.OnAdmitted();
  EXPECT_EQ(reconnect.After(FromRouter(Unavailable("rank 1 was killed"))), std::nullopt);
  reconnect.OnAdmitted();
  EXPECT_EQ(reconnect.After(Aborted("differs")), std::nullopt);
  reconnect.OnAdmitted();
  EXPECT_EQ(reconnect.After(absl::OkStatus()), std::nullopt);
}

TEST(ReconnectTest, ARouterThatHasNoRoomNowIsAskedAgainWhenAStreamIsTakenUp) {
  Reconnect reconnect("a:1");
  EXPECT_EQ(reconnect.After(FromRouter(ResourceExhausted("full"))), std::nullopt);
  reconnect.OnAdmitted();
  ASSERT_TRUE(reconnect.After(Lost()).has_value());
  EXPECT_TRUE(reconnect.After(FromRouter(ResourceExhausted("full"))).has_value());
  EXPECT_TRUE(
      reconnect.After(FromRouter(Unavailable("no worker group serves it yet"))).has_value());
  EXPECT_EQ(reconnect.After(FromRouter(NotFound("gone"))), std::nullopt);
}

}  // namespace
}  // namespace conclave::cli
