#include "router/admission/admission.h"

#include <gtest/gtest.h>

#include <deque>
#include <thread>

#include "common/status_details.h"

namespace conclave::router {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'700'000'000);

TenantOptions Tenant(const std::string& name, int requests = 8, int agents = 64,
                     double weight = 1) {
  return {
      .name = name, .keys = {}, .max_requests = requests, .max_agents = agents, .weight = weight};
}

// Keeps what Admit answers, in order of the answers.
class AdmissionTest : public testing::Test {
 protected:
  struct Answer {
    std::string name;
    absl::Status status;
    std::unique_ptr<Ticket> ticket;
  };

  void Make(AdmissionOptions options) {
    answers_.clear();
    admission_ = std::make_unique<Admission>(std::move(options));
  }
  ~AdmissionTest() override {
    admission_->Drain();
    answers_.clear();
  }

  uint64_t Ask(const std::string& name, AdmissionQuestion question, absl::Time now = kNow) {
    return admission_->Admit(std::move(question), now, [this, name](absl::StatusOr<Ticket> ticket) {
      Answer answer{name, ticket.status(), nullptr};
      if (ticket.ok()) answer.ticket = std::make_unique<Ticket>(*std::move(ticket));
      answers_.push_back(std::move(answer));
    });
  }

  void Leave(const std::string& name, int64_t used = -1) {
    for (auto at = answers_.begin(); at != answers_.end(); ++at) {
      if (at->name != name) continue;
      std::unique_ptr<Ticket> ticket = std::move(at->ticket);
      answers_.erase(at);
      if (used >= 0) ticket->Used(used);
      return;  // The ticket goes here, when the list is whole again.
    }
    FAIL() << name << " has no ticket";
  }

  std::string Names() const {
    std::string names;
    for (const Answer& answer : answers_) names += answer.name + (answer.status.ok() ? " " : "! ");
    return names;
  }

  std::deque<Answer> answers_;
  std::unique_ptr<Admission> admission_;
};

TEST_F(AdmissionTest, ARequestThatFitsEntersAtOnce) {
  Make({});

  Ask("a", {.tenant = kAnonymous});

  EXPECT_EQ(Names(), "a ");
  EXPECT_EQ(admission_->running(), 1);
}

TEST_F(AdmissionTest, ARequestBeyondTheLimitWaitsUntilATicketComesBack) {
  Make({.max_requests = 1});
  Ask("a", {.tenant = kAnonymous});
  Ask("b", {.tenant = kAnonymous});
  EXPECT_EQ(Names(), "a ");

  Leave("a");

  EXPECT_EQ(Names(), "b ");
  EXPECT_EQ(admission_->queued(), 0);
}

TEST_F(AdmissionTest, ARequestBeyondTheQueueIsRefusedWithRetryInfo) {
  Make({.max_requests = 1, .max_queued = 1, .retry_after = absl::Seconds(7)});
  Ask("a", {.tenant = kAnonymous});
  Ask("b", {.tenant = kAnonymous});

  Ask("c", {.tenant = kAnonymous});

  ASSERT_EQ(Names(), "a c! ");
  EXPECT_EQ(answers_.back().status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(DetailsOf(answers_.back().status).retry_after, absl::Seconds(7));
  EXPECT_EQ(DetailsOf(answers_.back().status).quotas.size(), 1u);
}

TEST_F(AdmissionTest, WhoMayNotWaitIsRefusedInsteadOfQueued) {
  Make({.max_requests = 1});
  Ask("a", {.tenant = kAnonymous});

  Ask("b", {.tenant = kAnonymous, .may_wait = false});

  EXPECT_EQ(Names(), "a b! ");
  EXPECT_EQ(admission_->queued(), 0);
}

TEST_F(AdmissionTest, MoreAgentsThanCanEverRunAreRefusedWithoutRetryInfo) {
  Make({.max_agents = 8});

  Ask("a", {.tenant = kAnonymous, .agents = 9});

  ASSERT_EQ(Names(), "a! ");
  EXPECT_EQ(DetailsOf(answers_.back().status).retry_after, std::nullopt);
}

TEST_F(AdmissionTest, AgentsCountAgainstTheLimitUntilTheTicketComesBack) {
  Make({.max_agents = 8});
  Ask("a", {.tenant = kAnonymous, .agents = 6});
  Ask("b", {.tenant = kAnonymous, .agents = 3});
  EXPECT_EQ(Names(), "a ");

  Leave("a");

  EXPECT_EQ(Names(), "b ");
}

TEST_F(AdmissionTest, AManyAgentsRequestIsNotOvertakenBySmallOnes) {
  Make({.max_agents = 8});
  Ask("a", {.tenant = kAnonymous, .agents = 4});
  Ask("big", {.tenant = kAnonymous, .agents = 8});
  Ask("small", {.tenant = kAnonymous, .agents = 1});
  EXPECT_EQ(Names(), "a ");

  Leave("a");

  EXPECT_EQ(Names(), "big ");
}

TEST_F(AdmissionTest, ATenantsOwnLimitHoldsOnlyItsOwnRequests) {
  Make({.tenants = {Tenant("red", 1), Tenant("blue", 1)}});
  Ask("r1", {.tenant = "red"});
  Ask("r2", {.tenant = "red"});

  Ask("b1", {.tenant = "blue"});

  EXPECT_EQ(Names(), "r1 b1 ");
}

TEST_F(AdmissionTest, TheTenantWithFewestTokensComesNext) {
  Make({.max_requests = 2, .tenants = {Tenant("red"), Tenant("blue")}});
  Ask("r1", {.tenant = "red", .tokens = 1000});
  Ask("b1", {.tenant = "blue", .tokens = 10});
  Ask("r2", {.tenant = "red", .tokens = 10});
  Ask("b2", {.tenant = "blue", .tokens = 10});

  Leave("b1");

  EXPECT_EQ(Names(), "r1 b2 ");
}

TEST_F(AdmissionTest, AWeightMakesTokensCheaper) {
  Make({.max_requests = 2, .tenants = {Tenant("red", 8, 64, 100), Tenant("blue")}});
  Ask("r1", {.tenant = "red", .tokens = 1000});
  Ask("b1", {.tenant = "blue", .tokens = 500});
  Ask("b2", {.tenant = "blue", .tokens = 10});
  Ask("r2", {.tenant = "red", .tokens = 10});

  Leave("b1");

  EXPECT_EQ(Names(), "r1 r2 ");
}

TEST_F(AdmissionTest, WhatWasNotUsedIsGivenBack) {
  Make({.max_requests = 3, .tenants = {Tenant("red"), Tenant("blue")}});
  Ask("r0", {.tenant = "red", .tokens = 10});
  Ask("r1", {.tenant = "red", .tokens = 1000});
  Ask("b1", {.tenant = "blue", .tokens = 500});
  Ask("b2", {.tenant = "blue", .tokens = 10});
  Ask("r2", {.tenant = "red", .tokens = 10});

  Leave("r1", 1);

  EXPECT_EQ(Names(), "r0 b1 r2 ");
}

TEST_F(AdmissionTest, WhoWaitsTooLongIsRefused) {
  Make({.max_requests = 1, .queue_wait = absl::Seconds(5)});
  Ask("a", {.tenant = kAnonymous});
  Ask("b", {.tenant = kAnonymous});
  Ask("c", {.tenant = kAnonymous}, kNow + absl::Seconds(3));

  admission_->Expire(kNow + absl::Seconds(5));

  EXPECT_EQ(Names(), "a b! ");
  EXPECT_EQ(admission_->queued(), 1);
}

TEST_F(AdmissionTest, AWithdrawnRequestIsAnsweredCancelledAndLeavesTheQueue) {
  Make({.max_requests = 1});
  Ask("a", {.tenant = kAnonymous});
  const uint64_t id = Ask("b", {.tenant = kAnonymous});

  admission_->Withdraw(id);

  ASSERT_EQ(Names(), "a b! ");
  EXPECT_EQ(answers_.back().status.code(), absl::StatusCode::kCancelled);
}

TEST_F(AdmissionTest, DrainRefusesThoseWhoWaitAndThoseWhoCome) {
  Make({.max_requests = 1});
  Ask("a", {.tenant = kAnonymous});
  Ask("b", {.tenant = kAnonymous});

  admission_->Drain();
  Ask("c", {.tenant = kAnonymous});

  ASSERT_EQ(Names(), "a b! c! ");
  EXPECT_EQ(answers_.back().status.code(), absl::StatusCode::kUnavailable);
}

TEST(AdmissionThreadsTest, EveryRequestIsAnsweredOnceWhoeverMakesRoom) {
  Admission admission({.max_requests = 3, .max_queued = 10'000});
  std::atomic<int> answers = 0;

  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 500; ++j) {
        admission.Admit({.tenant = kAnonymous}, kNow, [&](absl::StatusOr<Ticket> ticket) {
          if (ticket.ok()) ++answers;
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(answers, 2000);
  EXPECT_EQ(admission.running(), 0);
}

}  // namespace
}  // namespace conclave::router
