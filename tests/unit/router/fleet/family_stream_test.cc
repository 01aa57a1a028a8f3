#include "router/fleet/family_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/wire/family_wire.h"
#include "router/fleet/grpc_worker_client.h"
#include "tests/unit/router/fleet/scripted_worker.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Writes down what it is told.
class WrittenEvents : public FamilyEvents {
 public:
  explicit WrittenEvents(Diary& diary) : diary_(diary) {}
  void OnAccepted(std::vector<AcceptedAgent> gang) override {
    diary_.Write(fmt::format("accepted {}", gang.size()));
  }
  void OnRefused(std::vector<AgentId> gang, absl::Status why, int width) override {
    diary_.Write(fmt::format("refused {} {} width {}", gang.size(), MessageOf(why), width));
  }
  void OnDelta(FamilyDelta delta) override {
    diary_.Write(fmt::format("delta {} at {}", delta.answer, delta.first));
  }
  void OnProbe(ProbeResult probe) override {
    diary_.Write(fmt::format("probe {} at {}", probe.answer, probe.at));
  }
  void OnFamilyEnd(FamilyTotals totals) override {
    diary_.Write(fmt::format("end {}", totals.prompt_computed));
  }
  void OnLost(absl::Status why) override {
    diary_.Write(fmt::format("lost {} {}", static_cast<int>(why.code()), MessageOf(why)));
  }

 private:
  Diary& diary_;
};

FamilyOpening Opening() {
  FamilyOpening opening;
  opening.request_id = "r";
  opening.messages = {{Role::kUser, {{"Hello"}}}};
  return opening;
}

AgentRecipe Recipe(int index) {
  AgentRecipe recipe;
  recipe.id = MakeAgentId(kThinkStage, 0, index);
  recipe.grant = 10;
  return recipe;
}

v1::RunResponse DeltaOf(const std::string& text, int first) {
  FamilyDelta delta;
  delta.first = first;
  delta.answer = text;
  delta.tokens.push_back({.token = {.id = 1, .logprob = -1, .top_logprob_mean = -2, .kind = {}},
                          .text_end = static_cast<int64_t>(text.size())});
  return ToWire(FamilyEvent(std::move(delta)));
}

FamilyTotals Totals() {
  FamilyTotals totals;
  totals.prompt_computed = 5;
  return totals;
}

class FamilyStreamTest : public ::testing::Test {
 protected:
  void Serve(std::function<grpc::Status(grpc::ServerContext&, RunStream&)> run) {
    WorkerScript script;
    script.run = std::move(run);
    worker_ = std::make_unique<ScriptedWorker>(std::move(script));
    client_ = std::make_unique<GrpcWorkerClient>(worker_->channel(), timers_, WatchBackoff{});
  }
  std::unique_ptr<FamilyRun> Open() {
    return client_->Open(Opening(), std::make_shared<WrittenEvents>(told_));
  }

  Diary told_, served_;
  TimerThread timers_;
  std::unique_ptr<ScriptedWorker> worker_;
  std::unique_ptr<GrpcWorkerClient> client_;
};

TEST_F(FamilyStreamTest, CommandsArriveInOrderAfterTheOpening) {
  Serve([this](auto&, RunStream& stream) {
    for (v1::RunRequest request; stream.Read(&request);) {
      switch (request.command_case()) {
        case v1::RunRequest::kOpen:
          served_.Write("open " + request.open().request_id());
          break;
        case v1::RunRequest::kAdd:
          served_.Write(fmt::format("add {}", request.add().agents_size()));
          break;
        case v1::RunRequest::kCancel:
          served_.Write(fmt::format("cancel {}", request.cancel().agents(0)));
          break;
        case v1::RunRequest::kRunTo:
          served_.Write(fmt::format("run_to {}", request.run_to().counts(0)));
          break;
        default:
          served_.Write("nothing");
      }
    }
    served_.Write("half-closed");
    stream.Write(ToWire(FamilyEvent(Totals())));
    return grpc::Status::OK;
  });
  const auto run = Open();
  run->Add({Recipe(0), Recipe(1)});
  run->RunTo({AgentId{0}}, {7});
  run->Cancel({AgentId{1}});
  run->Add({Recipe(2)});
  run->Finish();

  EXPECT_THAT(served_.First(6),
              ElementsAre("open r", "add 2", "run_to 7", "cancel 1", "add 1", "half-closed"));
  EXPECT_THAT(told_.First(1), ElementsAre("end 5"));
}

TEST_F(FamilyStreamTest, AThousandCommandsAtOnceKeepTheirOrder) {
  Serve([this](auto&, RunStream& stream) {
    v1::RunRequest request;
    stream.Read(&request);
    int expected = 1;
    bool ordered = true;
    while (stream.Read(&request)) {
      ordered = ordered && request.run_to().counts(0) == expected;
      ++expected;
    }
    served_.Write(fmt::format("{} {}", expected - 1, ordered));
    return grpc::Status::OK;
  });
  const auto run = Open();
  for (int i = 1; i <= 1000; ++i) run->RunTo({AgentId{0}}, {i});
  run->Finish();

  EXPECT_THAT(served_.First(1), ElementsAre("1000 true"));
}

TEST_F(FamilyStreamTest, EventsAreToldInOrderAndTheLastOneIsTheFamilysEnd) {
  Serve([](auto&, RunStream& stream) {
    stream.Write(ToWire(FamilyEvent(GangAccepted{{{.id = AgentId{0}, .prompt_tokens = 3}}})));
    stream.Write(ToWire(FamilyEvent(
        GangRefused{.agents = {AgentId{1}}, .why = OutOfRange("too wide"), .width = 1})));
    stream.Write(DeltaOf("a", 0));
    stream.Write(DeltaOf("b", 1));
    stream.Write(ToWire(FamilyEvent(Totals())));
    return grpc::Status(grpc::StatusCode::INTERNAL, "after the end nothing counts");
  });
  {
    const auto run = Open();
    EXPECT_THAT(told_.First(5), ElementsAre("accepted 1", "refused 1 too wide width 1",
                                            "delta a at 0", "delta b at 1", "end 5"));
  }
  worker_.reset();  // Every call is over.
  told_.Write("nothing more");
  EXPECT_EQ(told_.First(6).back(), "nothing more");
}

TEST_F(FamilyStreamTest, AStreamThatEndsWithoutTheFamilysEndIsALoss) {
  Serve([](auto&, RunStream& stream) {
    stream.Write(DeltaOf("a", 0));
    return grpc::Status::OK;
  });
  const auto run = Open();
  EXPECT_THAT(told_.First(2), ElementsAre("delta a at 0", "lost 14 the stream ended early"));
  run->Add({Recipe(0)});  // Nobody hears it any more.
  run->Finish();
}

TEST_F(FamilyStreamTest, AWorkersStatusIsTheReasonOfTheLoss) {
  Serve([](auto&, RunStream&) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "another fingerprint");
  });
  const auto run = Open();
  EXPECT_THAT(told_.First(1), ElementsAre("lost 9 another fingerprint"));
}

TEST_F(FamilyStreamTest, AnAnswerThatCannotBeReadIsALossAndEndsTheStream) {
  Serve([this](grpc::ServerContext& context, RunStream& stream) {
    stream.Write(DeltaOf("a", -1));
    stream.Write(DeltaOf("b", 0));
    v1::RunRequest request;
    while (stream.Read(&request)) {
    }
    served_.Write(context.IsCancelled() ? "cancelled" : "half-closed");
    return grpc::Status::OK;
  });
  const auto run = Open();
  const auto lines = told_.First(1);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("lost 15 the worker's answer can't be read"));
  EXPECT_THAT(served_.First(1), ElementsAre("cancelled"));
}

// gRPC reports what it cannot read as if the worker had closed its side, which is no reason to
// wait for anything.
TEST_F(FamilyStreamTest, BytesThatAreNoAnswerAreALossAndEndTheStream) {
  Serve([this](grpc::ServerContext& context, RunStream& stream) {
    v1::RunResponse response = DeltaOf("abc", 0);
    response.mutable_delta()->set_answer("\xFF\xFE\xFD");
    stream.Write(response);
    v1::RunRequest request;
    while (stream.Read(&request)) {
    }
    served_.Write(context.IsCancelled() ? "cancelled" : "half-closed");
    return grpc::Status::OK;
  });
  const auto run = Open();
  EXPECT_THAT(told_.First(1),
              ElementsAre("lost 15 the worker's answer can't be read: the bytes are no RunResponse "
                          "with texts in UTF-8"));
  EXPECT_THAT(served_.First(1), ElementsAre("cancelled"));
}

TEST_F(FamilyStreamTest, ALongReasonOfALossComesWhole) {
  Serve([](auto&, RunStream&) {
    return grpc::Status(grpc::StatusCode::INTERNAL, std::string(5000, 'e'));
  });
  const auto run = Open();
  EXPECT_THAT(told_.First(1), ElementsAre("lost 13 " + std::string(5000, 'e')));
}

TEST_F(FamilyStreamTest, LettingGoOfTheRunCancelsTheStreamAndEndsTheEvents) {
  Serve([this](grpc::ServerContext& context, RunStream& stream) {
    v1::RunRequest request;
    while (stream.Read(&request)) stream.Write(DeltaOf("a", 0));
    served_.Write(context.IsCancelled() ? "cancelled" : "half-closed");
    return grpc::Status::OK;
  });
  auto run = Open();
  EXPECT_THAT(told_.First(1), ElementsAre("delta a at 0"));
  run.reset();
  told_.Write("let go");

  EXPECT_THAT(served_.First(1), ElementsAre("cancelled"));
  worker_.reset();
  told_.Write("over");
  EXPECT_EQ(told_.First(3)[2], "over");
}

TEST_F(FamilyStreamTest, RunsThatAreLetGoAtOnceLeaveNothingBehind) {
  Serve([](auto&, RunStream& stream) {
    v1::RunRequest request;
    while (stream.Read(&request)) stream.Write(DeltaOf("a", 0));
    return grpc::Status::OK;
  });
  for (int i = 0; i < 100; ++i) {
    const auto run = Open();
    run->Add({Recipe(0)});
    if (i % 2 == 0) run->Finish();
  }
}

TEST_F(FamilyStreamTest, TokensAreCountedByTheWorker) {
  WorkerScript script;
  script.count = [](const v1::CountRequest& request, v1::CountResponse& response) {
    if (request.messages(0).parts(0).text() == "bad")
      return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no");
    response.set_tokens(request.thinking() == v1::THINKING_ON ? 42 : 1);
    return grpc::Status::OK;
  };
  ScriptedWorker worker(std::move(script));
  GrpcWorkerClient client(worker.channel(), timers_, {});
  const auto ask = [&](const char* text) {
    PromptQuestion question;
    question.messages = {{Role::kUser, {{text}}}};
    question.thinking = Thinking::kOn;
    client.Count(question, [this](absl::StatusOr<int> tokens) {
      told_.Write(tokens.ok() ? std::to_string(*tokens) : std::string(MessageOf(tokens.status())));
    });
  };
  ask("good");
  EXPECT_THAT(told_.First(1), ElementsAre("42"));
  ask("bad");
  EXPECT_THAT(told_.First(2), ElementsAre("42", "no"));
}

TEST_F(FamilyStreamTest, APromptIsRenderedByTheWorkerWhichIsNotBelievedBlindly) {
  WorkerScript script;
  script.render = [](const v1::RenderRequest& request, v1::RenderResponse& response) {
    response.set_text(request.messages(0).parts(0).text());
    response.add_runs()->set_end(4);
    return grpc::Status::OK;
  };
  ScriptedWorker worker(std::move(script));
  GrpcWorkerClient client(worker.channel(), timers_, {});
  const auto ask = [&](const char* text) {
    PromptQuestion question;
    question.messages = {{Role::kUser, {{text}}}};
    client.Render(question, [this](const absl::StatusOr<Prompt>& prompt) {
      told_.Write(prompt.ok() ? prompt->text : std::string(MessageOf(prompt.status())));
    });
  };
  ask("good");
  EXPECT_THAT(told_.First(1), ElementsAre("good"));
  ask("bad");
  EXPECT_THAT(told_.First(2), ElementsAre("good", "a run of the prompt ends at byte 4 of 3"));
}

}  // namespace
}  // namespace conclave::router
