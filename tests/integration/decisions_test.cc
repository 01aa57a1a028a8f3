// Requests to which the clock, the load and failures do everything that they can do. Each receipt
// is replayed over the wire, and comes to the same answer and the same hash.

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"
#include "tests/integration/replay.h"

namespace conclave {
namespace {

using Kind = v1::Decision::Kind;

struct Seen {
  grpc::Status status;
  v1::Completed completed;

  std::set<Kind> Kinds() const {
    std::set<Kind> kinds;
    for (const v1::Decision& decision : completed.receipt().decisions()) {
      kinds.insert(decision.kind());
    }
    return kinds;
  }
};

// Eight agents on a group that runs three at a time: the others wait.
class DecisionsTest : public testing::Test {
 protected:
  void Start(const std::vector<std::string>& limits) {
    cluster_.StartWorker({"group.max_agents=3", "launcher.max_restarts=100",
                          "launcher.first_backoff=10ms", "launcher.max_backoff=10ms"});
    cluster_.StartRouter(limits);
    stub_ = v1::ConclaveService::NewStub(
        grpc::CreateChannel(cluster_.RouterAddress(), grpc::InsecureChannelCredentials()));
    cluster_.AwaitServed();
  }

  static v1::GenerateRequest Question(int number) {
    v1::GenerateRequest request;
    auto* message = request.add_messages();
    message->set_role(v1::ROLE_USER);
    message->add_parts()->set_text(
        fmt::format("Tom has {} apples and buys {} boxes with {} apples each. How many apples does "
                    "Tom have now?",
                    10 + number, 3 + number % 4, 12 + number));
    request.set_mode(v1::MODE_CONTEMPLATING);
    request.mutable_contemplation()->set_max_agents(8);
    request.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
    request.set_seed(2000 + static_cast<uint64_t>(number));
    request.set_request_id(fmt::format("question-{}", number));
    return request;
  }

  Seen Ask(const v1::GenerateRequest& request,
           const std::function<void(const v1::GenerateResponse&)>& on_event = {}) {
    Seen seen;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse event;
    while (reader->Read(&event)) {
      if (event.has_completed()) seen.completed = event.completed();
      if (on_event) on_event(event);
    }
    seen.status = reader->Finish();
    return seen;
  }

  // The same, and something is done once when a late agent has begun: another one has ended then,
  // and this one has all of its way before it.
  Seen AskAndAtTheFirstJoin(const v1::GenerateRequest& request, const std::function<void()>& act) {
    bool acted = false;
    return Ask(request, [&](const v1::GenerateResponse& event) {
      if (event.decision().kind() != v1::Decision::KIND_JOIN || acted) return;
      acted = true;
      act();
    });
  }

  // False when it had ended.
  bool Stop(const std::string& id) {
    grpc::ClientContext context;
    v1::StopRequest request;
    request.set_request_id(id);
    v1::StopResponse response;
    const grpc::Status status = stub_->Stop(&context, request, &response);
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::NOT_FOUND)
        << status.error_message();
    return status.ok();
  }

  // Its receipt holds a decision of this kind, and leads to the same again.
  void ExpectReplays(const v1::GenerateRequest& request, const Seen& seen, Kind kind) {
    ASSERT_TRUE(seen.status.ok()) << seen.status.error_message();
    const v1::Receipt& receipt = seen.completed.receipt();
    ASSERT_TRUE(seen.Kinds().contains(kind)) << receipt.ShortDebugString();
    const Seen replayed = Ask(ReplayOf(request, receipt));

    ASSERT_TRUE(replayed.status.ok()) << replayed.status.error_message();
    EXPECT_EQ(replayed.completed.receipt().result_hash(), receipt.result_hash());
    EXPECT_EQ(replayed.completed.answer(), seen.completed.answer());
    EXPECT_EQ(replayed.completed.incomplete(), seen.completed.incomplete());
    EXPECT_EQ(replayed.completed.receipt().decisions_size(), receipt.decisions_size());
    std::string words;
    for (const v1::Decision& decision : receipt.decisions()) {
      words +=
          fmt::format(" {} at {} ({} agents, {} cuts),", v1::Decision::Kind_Name(decision.kind()),
                      decision.clock(), decision.agents_size(), decision.cuts_size());
    }
    words.back() = ':';
    fmt::print("{}{} replayed to {:.16}, \"{}\"{}\n", receipt.request_id(), words,
               receipt.result_hash(), seen.completed.answer(),
               seen.completed.incomplete() ? ", incomplete" : "");
  }

  Cluster cluster_;
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

TEST_F(DecisionsTest, AgentsThatWaitJoinAsOthersEnd) {
  Start({"limits.narrow_wait=60s"});
  const v1::GenerateRequest request = Question(0);

  const Seen seen = Ask(request);

  ExpectReplays(request, seen, v1::Decision::KIND_JOIN);
  EXPECT_EQ(seen.completed.receipt().agents_size(), 8) << "all came to their turn";
}

TEST_F(DecisionsTest, AgentsForWhomThereIsNoRoomInTimeAreNarrowed) {
  Start({"limits.narrow_wait=1ms"});
  const v1::GenerateRequest request = Question(1);

  const Seen seen = Ask(request);

  ExpectReplays(request, seen, v1::Decision::KIND_NARROW);
  EXPECT_LT(seen.completed.receipt().agents_size(), 8);
}

TEST_F(DecisionsTest, AStragglerIsDroppedAfterTheRequestsPatience) {
  Start({"limits.narrow_wait=60s"});
  v1::GenerateRequest request = Question(2);
  // Whoever joins begins behind those that are there, and they end before it has got as far: at
  // this temperature each at a token of its own.
  request.mutable_sampling()->set_temperature(2);
  request.mutable_contemplation()->mutable_patience()->set_nanos(1'000'000);

  Seen seen;  // On a busy machine a straggler may end before anybody has looked.
  for (int tries = 0; tries < 100 && !seen.Kinds().contains(v1::Decision::KIND_DROP); ++tries) {
    seen = Ask(request);
  }

  ExpectReplays(request, seen, v1::Decision::KIND_DROP);
}

TEST_F(DecisionsTest, WithContinueThoseOfALostGroupAreDropped) {
  Start({"limits.narrow_wait=60s"});
  v1::GenerateRequest request = Question(3);
  request.set_on_loss(v1::ON_LOSS_CONTINUE);

  const Seen seen = AskAndAtTheFirstJoin(request, [this] {
    const std::vector<pid_t> ranks = cluster_.Ranks();
    ASSERT_EQ(ranks.size(), 2u);
    kill(ranks[1], SIGKILL);
  });

  ExpectReplays(request, seen, v1::Decision::KIND_DROP);
  EXPECT_TRUE(seen.completed.receipt().counts_from_stream());
  EXPECT_EQ(seen.completed.receipt().resumes(), 0);
}

TEST_F(DecisionsTest, ADeadlineBringsTheBestAnswerSoFar) {
  Start({"limits.narrow_wait=60s"});
  v1::GenerateRequest request = Question(4);
  // Long enough for the first answers, too short for all.
  Seen seen;
  absl::Duration deadline = absl::Milliseconds(20);
  for (int tries = 0; tries < 200 && !seen.Kinds().contains(v1::Decision::KIND_DEADLINE); ++tries) {
    request.mutable_budget()->mutable_deadline()->set_seconds(absl::ToInt64Seconds(deadline));
    request.mutable_budget()->mutable_deadline()->set_nanos(static_cast<int>(
        absl::ToInt64Nanoseconds(deadline - absl::Floor(deadline, absl::Seconds(1)))));
    seen = Ask(request);
    deadline *= seen.status.ok() ? 0.8 : 1.3;
    ASSERT_TRUE(seen.status.ok() || seen.status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED)
        << seen.status.error_message();
  }

  ExpectReplays(request, seen, v1::Decision::KIND_DEADLINE);
  EXPECT_TRUE(seen.completed.incomplete());
}

TEST_F(DecisionsTest, AStopBringsTheBestAnswerSoFar) {
  Start({"limits.narrow_wait=60s"});
  const v1::GenerateRequest request = Question(5);

  const Seen seen = AskAndAtTheFirstJoin(request, [&] { EXPECT_TRUE(Stop(request.request_id())); });

  ExpectReplays(request, seen, v1::Decision::KIND_STOP_NOW);
  EXPECT_TRUE(seen.completed.incomplete());
  EXPECT_FALSE(seen.completed.receipt().counts_from_stream());
}

TEST_F(DecisionsTest, AStopBeforeAnybodyHasSaidAWordHasAReceiptTooInEveryMode) {
  Start({"limits.narrow_wait=60s"});
  for (const v1::Mode mode : {v1::MODE_CONTEMPLATING, v1::MODE_THINKING, v1::MODE_INSTANT}) {
    SCOPED_TRACE(v1::Mode_Name(mode));
    v1::GenerateRequest request = Question(6);
    request.set_mode(mode);
    if (mode != v1::MODE_CONTEMPLATING) request.clear_contemplation();

    Seen seen;
    // One that answers faster than the word to stop travels is asked again.
    for (bool stopped = false; !stopped && !HasFailure();) {
      seen = Ask(request, [&](const v1::GenerateResponse& event) {
        if (event.has_admitted()) stopped = Stop(request.request_id());
      });
      stopped = stopped && seen.Kinds().contains(v1::Decision::KIND_STOP_NOW);
    }

    ExpectReplays(request, seen, v1::Decision::KIND_STOP_NOW);
    EXPECT_TRUE(seen.completed.incomplete());
  }
}

}  // namespace
}  // namespace conclave
