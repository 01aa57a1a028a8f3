#include "cli/eval/asker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/eval/procedural.h"
#include "tests/unit/cli/events.h"
#include "tests/unit/cli/fake_router.h"

namespace conclave::cli {
namespace {

using testing::StartsWith;

v1::AnswerKey LastLine() {
  v1::AnswerKey key;
  key.set_kind(v1::AnswerKey::KIND_LAST_LINE);
  return key;
}

Problem FiftySeven() {
  Problem problem;
  problem.id = "p";
  problem.question = "How many?";
  problem.answer = "57";
  return problem;
}

class AskerTest : public testing::Test {
 protected:
  // Asks a router that says this.
  Outcome Ask(const Problem& problem, const Arm& arm, std::vector<v1::GenerateResponse> events,
              const grpc::Status& end = grpc::Status::OK) {
    FakeRouter router({.events = std::move(events), .end = end, .render = {}, .models = {}});
    options_.routers = {router.address()};
    const auto asker = Asker::Make(options_, LastLine());
    EXPECT_TRUE(asker.ok()) << asker.status();
    const Outcome outcome = (*asker)->Ask({&arm, &problem});
    request_ = router.request();
    authorization_ = router.authorization();
    return outcome;
  }

  AskerOptions options_{.routers = {},
                        .caller = {.router = {}, .key = "secret", .pems = {}, .tls_name = {}},
                        .model = "demo",
                        .seed = 5,
                        .retries = 0};
  v1::GenerateRequest request_;
  std::string authorization_;
};

TEST_F(AskerTest, TheAnswerIsFoundByTheSuitesKeyAndGraded) {
  const Arm arm = *ParseArm("pool:agents=2");

  const Outcome right = Ask(FiftySeven(), arm, {Admitted(2), Completed("thus\n57.0")});
  const Outcome wrong = Ask(FiftySeven(), arm, {Admitted(2), Completed("57\nor 58")});

  EXPECT_TRUE(right.right);
  EXPECT_EQ(right.answer, "57");
  EXPECT_EQ(right.arm, "pool");
  EXPECT_EQ(right.problem, "p");
  EXPECT_EQ(right.error, "");
  EXPECT_GT(right.seconds, 0);
  EXPECT_FALSE(wrong.right);
}

TEST_F(AskerTest, ARequestIsItsArmsWithTheQuestionItsSeedAndTheKey) {
  const Arm arm = *ParseArm("pool:agents=2,stop-rule=none");

  Ask(FiftySeven(), arm, {Completed("57")});

  EXPECT_EQ(request_.messages(0).parts(0).text(), "How many?");
  EXPECT_EQ(request_.contemplation().max_agents(), 2);
  EXPECT_EQ(request_.contemplation().stop_rule(), v1::STOP_RULE_NONE);
  EXPECT_EQ(request_.seed(), SeedOf(5, "p"));
  EXPECT_EQ(request_.answer_key().kind(), v1::AnswerKey::KIND_LAST_LINE);
  EXPECT_EQ(request_.model(), "demo");
  EXPECT_EQ(authorization_, "Bearer secret");
  EXPECT_FALSE(request_.contemplation().has_checker());
}

TEST_F(AskerTest, AnArmMayBringTheProblemsCheckerAlong) {
  const Problem target = MakeProblem(*ParseProcedural("target:3"), 1, 0);

  const Outcome outcome =
      Ask(target, *ParseArm("check:agents=4,checker=suite"), {Completed(target.answer)});

  EXPECT_TRUE(outcome.right);
  EXPECT_EQ(request_.contemplation().checker().arithmetic().value(),
            target.checker->arithmetic().value());
}

TEST_F(AskerTest, ARoutersErrorIsTheOutcome) {
  const Outcome outcome =
      Ask(FiftySeven(), *ParseArm("pool:agents=2"), {},
          {grpc::StatusCode::INVALID_ARGUMENT, "contemplation.max_agents is 2; the limit is 1"});

  EXPECT_THAT(outcome.error, StartsWith("INVALID_ARGUMENT: contemplation.max_agents is 2"));
  EXPECT_FALSE(outcome.right);
  EXPECT_EQ(outcome.tries, 1);
}

TEST_F(AskerTest, AStreamThatEndsEarlyIsAnError) {
  EXPECT_THAT(Ask(FiftySeven(), *ParseArm("pool:agents=2"), {Admitted(2)}).error,
              StartsWith("DATA_LOSS"));
}

TEST_F(AskerTest, WhatTheRouterHasNoRoomForIsAskedAgain) {
  options_.retries = 2;
  const Outcome outcome = Ask(FiftySeven(), *ParseArm("pool:agents=2"), {},
                              {grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"});

  EXPECT_EQ(outcome.tries, 3);
  EXPECT_THAT(outcome.error, StartsWith("RESOURCE_EXHAUSTED"));
}

TEST_F(AskerTest, WithoutAKeyOfTheSuitesTheModelsIsTaken) {
  v1::ListModelsResponse models;
  v1::ModelDescription& model = *models.add_models()->mutable_description();
  model.set_name("demo");
  model.mutable_profile()->mutable_answer_key()->set_kind(v1::AnswerKey::KIND_BOXED);
  FakeRouter router(
      {.events = {Completed("\\boxed{57}")}, .end = {}, .render = {}, .models = models});
  options_.routers = {router.address()};
  const Arm arm = *ParseArm("greedy:mode=thinking");
  const Problem problem = FiftySeven();

  const auto asker = Asker::Make(options_, std::nullopt);

  ASSERT_TRUE(asker.ok()) << asker.status();
  EXPECT_TRUE((*asker)->Ask({&arm, &problem}).right);
  EXPECT_FALSE(router.request().has_answer_key());
  options_.model = "other";
  EXPECT_EQ(Asker::Make(options_, std::nullopt).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(AskerTest, AllQuestionsAreAskedOnceHoweverManyAtATime) {
  FakeRouter router({.events = {Completed("57")}, .end = {}, .render = {}, .models = {}});
  options_.routers = {router.address(), router.address()};
  const auto asker = *Asker::Make(options_, LastLine());
  const Arm arm = *ParseArm("greedy:mode=thinking");
  std::vector<Problem> problems(40, FiftySeven());
  std::vector<Question> questions;
  for (size_t i = 0; i < problems.size(); ++i) {
    problems[i].id = std::to_string(i);
    questions.push_back({&arm, &problems[i]});
  }

  std::multiset<std::string> told;
  AskAll(*asker, questions, 8, [&told](const Outcome& outcome) { told.insert(outcome.problem); });

  EXPECT_EQ(told.size(), 40u);
  EXPECT_EQ(std::set<std::string>(told.begin(), told.end()).size(), 40u);
}

TEST_F(AskerTest, AfterCancelNothingMoreIsAsked) {
  FakeRouter router({.events = {Completed("57")}, .end = {}, .render = {}, .models = {}});
  options_.routers = {router.address()};
  const auto asker = *Asker::Make(options_, LastLine());
  const Arm arm = *ParseArm("greedy:mode=thinking");
  const Problem problem = FiftySeven();
  int told = 0;

  AskAll(*asker, std::vector<Question>(100, {&arm, &problem}), 1, [&](const Outcome&) {
    if (++told == 3) asker->Cancel();
  });

  EXPECT_EQ(told, 3);
}

TEST(SeedOfTest, EachProblemHasItsOwn) {
  std::set<uint64_t> seeds;
  for (int i = 0; i < 1000; ++i) seeds.insert(SeedOf(1, std::to_string(i)));
  EXPECT_EQ(seeds.size(), 1000u);
  EXPECT_NE(SeedOf(1, "a"), SeedOf(2, "a"));
}

}  // namespace
}  // namespace conclave::cli
