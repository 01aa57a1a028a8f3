// What a family's prompts cost in real groups, and what its client hears before they are computed.

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <memory>
#include <string>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"
#include "tests/integration/groups.h"
#include "tests/integration/page.h"

namespace conclave {
namespace {

// A long one.
v1::GenerateRequest Question() {
  v1::GenerateRequest request;
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  std::string text;
  for (int i = 0; i < 36; ++i) text += fmt::format("Box {} holds {} apples. ", i + 1, 11 + i);
  message->add_parts()->set_text(
      text +
      "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom "
      "have now?");
  request.set_mode(v1::MODE_CONTEMPLATING);
  request.mutable_contemplation()->set_max_agents(8);
  request.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
  request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_VOTE);
  request.set_seed(41);
  return request;
}

std::unique_ptr<v1::ConclaveService::Stub> StubOf(const std::string& address) {
  return v1::ConclaveService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
}

double Prompts(int64_t tokens, const v1::Receipt& receipt) {
  return static_cast<double>(tokens) / static_cast<double>(receipt.prompt().first());
}

v1::Completed Ask(v1::ConclaveService::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  v1::GenerateOnceRequest once;
  *once.mutable_request() = request;
  v1::GenerateOnceResponse response;
  const grpc::Status status = stub.GenerateOnce(&context, once, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.completed();
}

bool Serves(v1::ConclaveService::Stub& stub) {
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  return stub.ListModels(&context, {}, &response).ok() && response.models_size() > 0 &&
         response.models(0).groups_ready() > 0;
}

class PrefillTest : public testing::Test {
 protected:
  void Start() {
    cluster_.StartWorker();
    cluster_.StartRouter();
    cluster_.AwaitServed();
    stub_ = StubOf(cluster_.RouterAddress());
  }

  // Of the launcher, and of the ranks that it judges.
  void Signal(int signal) {
    // A launcher that is stopped judges nobody; once it goes on, it takes no notice of its pause.
    cluster_.worker().Signal(signal);
    for (const pid_t rank : cluster_.Ranks()) kill(rank, signal);
  }

  Cluster cluster_;
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

TEST_F(PrefillTest, AgentsWithRolesShareWhatStandsBeforeThem) {
  Start();
  v1::GenerateRequest request = Question();
  request.mutable_contemplation()->set_strategy(v1::STRATEGY_ROLES);
  for (const char* role : {"Be careful.", "Check each step twice.", "Work from the end."}) {
    request.mutable_contemplation()->add_roles(role);
  }

  const v1::Receipt receipt = Ask(*stub_, request).receipt();

  ASSERT_EQ(receipt.agents_size(), 8);
  const double computed = Prompts(receipt.prompt().computed(), receipt);
  EXPECT_LE(computed, 1.15);
  EXPECT_GE(Prompts(receipt.prompt().total(), receipt), 7.5);
  fmt::print("eight agents, three roles: {:.2f} prompts of {} tokens computed\n", computed,
             receipt.prompt().first());
}

TEST_F(PrefillTest, TheFirstEventComesFromAGroupThatHasNotComputedAnything) {
  Start();
  Signal(SIGSTOP);
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Question());
  v1::GenerateResponse event;

  EXPECT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_admitted());

  Signal(SIGCONT);
  v1::Completed completed;
  while (reader->Read(&event)) {
    if (event.has_completed()) completed = event.completed();
  }
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(completed.receipt().agents_size(), 8);
}

TEST(TwoGroupsTest, AFamilyThatLosesItsGroupComputesItsPromptOnceInEach) {
  Groups groups;
  groups.Start("a");
  groups.StartRouter({fmt::format("workers.addresses=[{}]", groups.AddressOf("a")),
                      "limits.resume_wait=2m", "workers.place_patience=2m"});
  const auto stub = StubOf(groups.AddressOf("router"));
  ASSERT_TRUE(Eventually(absl::Seconds(60), [&] { return Serves(*stub); }));
  const auto computed = [&] {
    return static_cast<int64_t>(ValueIn(PageOf(groups.AddressOf("a", "metrics")),
                                        "conclave_worker_prompt_tokens_computed_total"));
  };
  grpc::ClientContext context;
  v1::GenerateRequest request = Question();
  request.add_include(v1::INCLUDE_TOKENS);
  const auto reader = stub->Generate(&context, request);
  v1::Completed completed;
  int64_t first = 0;
  int spoke = 0;
  for (v1::GenerateResponse event; reader->Read(&event);) {
    if (event.has_completed()) completed = event.completed();
    if (!event.has_agent_delta() || ++spoke != 8) continue;
    // The first group's page is asked for before it is gone; another one takes its place.
    EXPECT_TRUE(Eventually(absl::Seconds(60), [&] { return (first = computed()) > 0; }));
    groups.Kill("a");
    groups.Start("a");
  }
  const grpc::Status status = reader->Finish();
  ASSERT_TRUE(status.ok()) << status.error_message();
  const v1::Receipt& receipt = completed.receipt();

  EXPECT_GT(receipt.resumes(), 0);
  EXPECT_TRUE(receipt.counts_from_stream());
  int64_t second = 0;
  EXPECT_TRUE(Eventually(absl::Seconds(60), [&] { return (second = computed()) > 0; }));
  // Of agents that resume, each computes what its prompt has behind its last full block.
  EXPECT_LE(Prompts(first + second, receipt), 2.05);
  EXPECT_GT(Prompts(first + second, receipt), 1);
  fmt::print("eight agents, two groups: {:.2f} prompts computed\n",
             Prompts(first + second, receipt));
}

}  // namespace
}  // namespace conclave
