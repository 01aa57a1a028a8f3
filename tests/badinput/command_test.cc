// Commands that no router of ours would send, to a real worker.

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "common/wire/grpc_status.h"
#include "conclave/v1/worker.grpc.pb.h"
#include "tests/badinput/pair.h"
#include "tests/badinput/table.h"

namespace conclave {
namespace {

using Command = v1::RunRequest;

Command Open() {
  Command command;
  command.mutable_open()->set_request_id("r");
  *command.mutable_open()->add_messages() = GoodRequest().messages(0);
  return command;
}

Command Add() {
  Command command;
  v1::AgentRecipe& recipe = *command.mutable_add()->add_agents();
  recipe.set_agent(1);
  recipe.set_thinking(v1::THINKING_ON);
  recipe.set_grant(4);
  return command;
}

v1::AgentRecipe& Recipe(Command& command) { return *command.mutable_add()->mutable_agents(0); }

// How the worker ends the stream, or refuses the gang.
absl::Status Send(v1::WorkerService::Stub& worker, const std::vector<Command>& commands) {
  grpc::ClientContext context;
  const auto stream = worker.Run(&context);
  for (const Command& command : commands) stream->Write(command);
  stream->WritesDone();
  absl::Status refused;
  for (v1::RunResponse response; stream->Read(&response);) {
    if (!response.has_refused() || !refused.ok()) continue;
    refused = absl::Status(static_cast<absl::StatusCode>(response.refused().code()),
                           response.refused().message());
  }
  const absl::Status ended = FromGrpc(stream->Finish());
  return ended.ok() ? refused : ended;
}

struct Case {
  std::string kind;
  std::vector<Command> commands;
};

Case Opening(const std::string& kind, const std::function<void(v1::OpenFamily&)>& change) {
  Command open = Open();
  change(*open.mutable_open());
  return {kind, {open}};
}

Case Gang(const std::string& kind, const std::function<void(Command&)>& change) {
  Command add = Add();
  change(add);
  return {kind, {Open(), add}};
}

Case Produced(const std::string& kind, const std::function<void(v1::ProducedToken&)>& change) {
  return Gang(kind, [&](Command& add) {
    v1::ProducedToken& token = *Recipe(add).add_produced();
    token.set_id(3);
    token.set_logprob(-1);
    token.set_kind(v1::TOKEN_KIND_SAMPLED);
    change(token);
  });
}

std::vector<Case> Cases() {
  Command cancel, nobody, raise;
  cancel.mutable_cancel()->add_agents(1);
  nobody.mutable_cancel();
  raise.mutable_run_to()->add_agents(1);
  Command lowered = raise;
  lowered.mutable_run_to()->add_counts(-1);
  return {
      {"nothing", {}},
      {"no opening", {Add()}},
      {"an opening twice", {Open(), Open()}},
      {"a command of no kind", {Open(), Command()}},
      Opening("an opening without messages", [](auto& open) { open.clear_messages(); }),
      Opening("another fingerprint", [](auto& open) { open.set_fingerprint("f00d"); }),
      Opening("a salt of 257 bytes", [](auto& open) { open.set_salt(std::string(257, 's')); }),
      Opening("a request id of 129 bytes",
              [](auto& open) { open.set_request_id(std::string(129, 'r')); }),
      {"a cancel of nobody", {Open(), nobody}},
      {"agents without counts", {Open(), raise}},
      {"a count of -1", {Open(), lowered}},
      {"a gang of nobody",
       {Open(),
        [] {
          Command add;
          add.mutable_add();
          return add;
        }()}},
      Gang("a gang of 1025",
           [](Command& add) {
             for (uint32_t i = 2; i <= 1025; ++i) {
               *add.mutable_add()->add_agents() = Recipe(add);
               add.mutable_add()->mutable_agents(static_cast<int>(i) - 1)->set_agent(i);
             }
           }),
      Gang("an agent twice", [](Command& add) { *add.mutable_add()->add_agents() = Recipe(add); }),
      Gang("a grant of 0", [](Command& add) { Recipe(add).set_grant(0); }),
      Gang("a grant of 2^31 - 1", [](Command& add) { Recipe(add).set_grant(INT32_MAX); }),
      Gang("a place to wait at -1", [](Command& add) { Recipe(add).set_run_to(-1); }),
      Gang("thinking that is neither on nor off",
           [](Command& add) { Recipe(add).clear_thinking(); }),
      Gang("a thinking budget of -1", [](Command& add) { Recipe(add).set_thinking_tokens(-1); }),
      Gang("a min_p of NaN",
           [](Command& add) {
             Recipe(add).mutable_sampling()->set_min_p(std::numeric_limits<float>::quiet_NaN());
           }),
      Gang("a bias beyond the vocabulary",
           [](Command& add) { (*Recipe(add).mutable_sampling()->mutable_logit_bias())[640] = 1; }),
      Gang("a confidence bar of infinity",
           [](Command& add) {
             Recipe(add).set_confidence_bar(std::numeric_limits<double>::infinity());
           }),
      Gang("17 stop texts",
           [](Command& add) {
             for (int i = 0; i < 17; ++i) Recipe(add).add_stop("s");
           }),
      Gang("text beyond the tokenizer's limit",
           [](Command& add) { Recipe(add).set_append(std::string(5 << 20, 'a')); }),
      Gang("text beyond the model's positions",
           [](Command& add) { Recipe(add).set_append(std::string(20'000, '7')); }),
      Produced("a produced token of -1", [](auto& token) { token.set_id(-1); }),
      Produced("a produced token beyond the vocabulary", [](auto& token) { token.set_id(640); }),
      Produced("a produced token of no kind", [](auto& token) { token.clear_kind(); }),
      Gang("more produced tokens than granted",
           [](Command& add) {
             for (int i = 0; i < 5; ++i) {
               Recipe(add).add_produced()->set_kind(v1::TOKEN_KIND_SAMPLED);
             }
           }),
      {"an agent that runs already", {Open(), Add(), Add()}},
  };
}

TEST(CommandTest, EveryBadCommandIsRefusedAndTheNextRequestAnswered) {
  Pair pair;
  const auto worker = v1::WorkerService::NewStub(grpc::CreateChannel(
      pair.cluster().AddressOf("worker", "server"), grpc::InsecureChannelCredentials()));
  std::vector<BadInput> rows;
  for (const Case& each : Cases()) {
    const absl::Status status = Send(*worker, each.commands);
    EXPECT_FALSE(status.ok()) << each.kind;
    rows.push_back(Refused(each.kind, status));
  }
  ExpectTable("Commands of a router to a worker", std::move(rows));
  pair.ExpectUnharmed();
  pair.ExpectGoodEnd();
}

}  // namespace
}  // namespace conclave
