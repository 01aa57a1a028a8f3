// Workers that do not keep to what was agreed, and a real router that has to do with them. Each
// serves a model of its own, so that a request names the lie that it meets.

#include <absl/synchronization/notification.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "common/wire/grpc_status.h"
#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/badinput/table.h"
#include "tests/integration/groups.h"
#include "tests/unit/router/fleet/scripted_worker.h"

namespace conclave {
namespace {

using router::LoadStream;
using router::RunStream;
using router::ScriptedWorker;
using router::WorkerScript;

constexpr int kGrant = 40;

v1::ModelDescription Honest(const std::string& name) {
  v1::ModelDescription model;
  model.set_name(name);
  model.set_fingerprint("f-" + name);
  model.set_numerics("cpu/plain");
  model.set_tensor_parallel(1);
  model.set_max_positions(4096);
  model.set_max_agents(8);
  model.set_kv_tokens(65536);
  model.set_decision_version(1);
  model.mutable_profile()->set_aggregate_text("{question}{candidates}");
  model.mutable_profile()->set_candidate_line("{index}{answer}");
  model.mutable_profile()->set_max_candidates(4);
  return model;
}

// The family's side of one stream, up to the one agent of the request.
class Stage {
 public:
  explicit Stage(RunStream& stream) : stream_(stream) {
    v1::RunRequest request;
    while (stream.Read(&request) && !request.has_add()) {
    }
    if (request.has_add()) agent_ = request.add().agents(0).agent();
  }

  uint32_t agent() const { return agent_; }
  void Say(const v1::RunResponse& response) { stream_.Write(response); }
  void Accept() { AcceptAgent(agent_); }
  void AcceptAgent(uint32_t agent) {
    v1::RunResponse response;
    auto* accepted = response.mutable_accepted()->add_agents();
    accepted->set_agent(agent);
    accepted->set_prompt_tokens(5);
    Say(response);
  }
  // `count` tokens from `first` on, each of which says "a".
  v1::RunResponse Tokens(int first, int count) const {
    v1::RunResponse response;
    v1::FamilyDelta& delta = *response.mutable_delta();
    delta.set_agent(agent_);
    delta.set_first(first);
    for (int i = 0; i < count; ++i) {
      v1::ProducedToken& token = *delta.add_tokens();
      token.set_id(7);
      token.set_logprob(-1);
      token.set_top_logprob_mean(-3);
      token.set_kind(v1::TOKEN_KIND_SAMPLED);
      token.set_text_end(first + i + 1);
    }
    delta.set_answer(std::string(static_cast<size_t>(count), 'a'));
    return response;
  }
  // The same, the agent's last.
  v1::RunResponse Last(int first, int count) const {
    v1::RunResponse response = Tokens(first, count);
    v1::AgentEnd& end = *response.mutable_delta()->mutable_end();
    end.set_cause(v1::AgentEnd::CAUSE_STOP);
    end.set_sampled(first + count);
    return response;
  }
  void EndFamily(int64_t sampled) {
    v1::RunResponse response;
    response.mutable_family_end()->set_prompt_computed(5);
    response.mutable_family_end()->set_sampled(sampled);
    Say(response);
  }

 private:
  RunStream& stream_;
  uint32_t agent_ = 0;
};

struct Lie {
  std::string kind;
  std::function<void(Stage&)> say;                                // On every stream.
  std::function<void(v1::ModelDescription&)> describe = nullptr;  // Of itself.
  std::function<void(v1::WatchLoadResponse&)> load = nullptr;
  grpc::Status end = grpc::Status::OK;  // Of the stream; when OK, it waits until it is cancelled.
  bool leaves = false;                  // Ends the stream at once.
};

// A lie about one token, or about the delta that carries it.
Lie Delta(const std::string& kind, std::function<void(v1::FamilyDelta&)> change) {
  return {kind, [change = std::move(change)](Stage& stage) {
            stage.Accept();
            v1::RunResponse response = stage.Tokens(0, 3);
            change(*response.mutable_delta());
            stage.Say(response);
          }};
}
Lie Token(const std::string& kind, std::function<void(v1::ProducedToken&)> change) {
  return Delta(kind, [change = std::move(change)](v1::FamilyDelta& delta) {
    change(*delta.mutable_tokens(1));
  });
}
// A copy of the agent has answered.
Lie Copy(const std::string& kind, int at, int sampled) {
  return {kind, [at, sampled](Stage& stage) {
            stage.Accept();
            stage.Say(stage.Tokens(0, 3));
            v1::RunResponse response;
            v1::ProbeResult& probe = *response.mutable_probe();
            probe.set_agent(stage.agent());
            probe.set_at(at);
            probe.set_sampled(sampled);
            stage.Say(response);
          }};
}
Lie Description(const std::string& kind, std::function<void(v1::ModelDescription&)> change) {
  return {kind, nullptr, std::move(change)};
}

std::vector<Lie> Lies() {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  return {
      {"an event of no kind", [](Stage& stage) { stage.Say({}); }},
      {"accepts an agent that nobody sent", [](Stage& stage) { stage.AcceptAgent(99); }},
      {"accepts twice",
       [](Stage& stage) {
         stage.Accept();
         stage.Accept();
       }},
      {"tokens before it accepted", [](Stage& stage) { stage.Say(stage.Tokens(0, 1)); }},
      Delta("tokens of an agent that nobody sent",
            [](v1::FamilyDelta& delta) { delta.set_agent(99); }),
      Delta("a gap before the tokens", [](v1::FamilyDelta& delta) { delta.set_first(5); }),
      Delta("tokens from -1 on", [](v1::FamilyDelta& delta) { delta.set_first(-1); }),
      Delta("text that its tokens do not say",
            [](v1::FamilyDelta& delta) { delta.set_answer("aaaa"); }),
      Delta("text that is not UTF-8",
            [](v1::FamilyDelta& delta) { delta.set_answer("\xFF\xFE\xFD"); }),
      Token("a token of -7", [](v1::ProducedToken& token) { token.set_id(-7); }),
      Token("a token of no kind", [](v1::ProducedToken& token) { token.clear_kind(); }),
      Token("a token that was put by nothing",
            [](v1::ProducedToken& token) { token.set_kind(v1::TOKEN_KIND_FORCED); }),
      Token("a log-probability of NaN", [](v1::ProducedToken& token) { token.set_logprob(kNan); }),
      Token("text that goes back", [](v1::ProducedToken& token) { token.set_text_end(0); }),
      {"more tokens than were granted",
       [](Stage& stage) {
         stage.Accept();
         stage.Say(stage.Tokens(0, kGrant + 1));
       }},
      {"a token again, and another one",
       [](Stage& stage) {
         stage.Accept();
         stage.Say(stage.Tokens(0, 3));
         v1::RunResponse again = stage.Tokens(2, 1);
         again.mutable_delta()->mutable_tokens(0)->set_id(8);
         stage.Say(again);
       }},
      {"an end without a last token",
       [](Stage& stage) {
         stage.Accept();
         stage.Say(stage.Last(0, 0));
       }},
      {"an end of no cause",
       [](Stage& stage) {
         stage.Accept();
         v1::RunResponse last = stage.Last(0, 3);
         last.mutable_delta()->mutable_end()->clear_cause();
         stage.Say(last);
       }},
      {"an end with -1 tokens drawn",
       [](Stage& stage) {
         stage.Accept();
         v1::RunResponse last = stage.Last(0, 3);
         last.mutable_delta()->mutable_end()->set_sampled(-1);
         stage.Say(last);
       }},
      {"an end that nobody asked for",
       [](Stage& stage) {
         stage.Accept();
         v1::RunResponse last = stage.Last(0, 3);
         last.mutable_delta()->mutable_end()->set_cause(v1::AgentEnd::CAUSE_CANCELLED);
         stage.Say(last);
       }},
      Copy("a copy that nobody asked", 3, 1),
      Copy("a copy ahead of all agents", std::numeric_limits<int>::max(), 1),
      Copy("a copy with -1 tokens drawn", 3, -1),
      Copy("a copy with more tokens than any may have", 3, 257),
      {"the family's end before its agent's",
       [](Stage& stage) {
         stage.Accept();
         stage.Say(stage.Tokens(0, 1));
         stage.EndFamily(1);
       }},
      {"a refusal without a reason",
       [](Stage& stage) {
         v1::RunResponse refusal;
         refusal.mutable_refused()->add_agents(stage.agent());
         stage.Say(refusal);
       }},
      {"a refusal of somebody else",
       [](Stage& stage) {
         v1::RunResponse refusal;
         refusal.mutable_refused()->add_agents(99);
         refusal.mutable_refused()->set_code(8);
         stage.Say(refusal);
       }},
      {.kind = "it leaves in the middle",
       .say =
           [](Stage& stage) {
             stage.Accept();
             stage.Say(stage.Tokens(0, 1));
           },
       .leaves = true},
      {.kind = "another fingerprint than it said",
       .say = nullptr,
       .end = {grpc::StatusCode::FAILED_PRECONDITION, "the group has the fingerprint 0, not 1"}},
      {.kind = "an error of 5 kB",
       .say = nullptr,
       .end = {grpc::StatusCode::INTERNAL, std::string(5000, 'x') + "\n\x1b[31m"}},
      Description("no name", [](v1::ModelDescription& model) { model.clear_name(); }),
      Description("no fingerprint", [](v1::ModelDescription& model) { model.clear_fingerprint(); }),
      Description("0 ranks", [](v1::ModelDescription& model) { model.set_tensor_parallel(0); }),
      Description("-1 positions", [](v1::ModelDescription& model) { model.set_max_positions(-1); }),
      Description("a default temperature of NaN",
                  [](v1::ModelDescription& model) {
                    model.mutable_profile()->mutable_sampling()->set_temperature(kNan);
                  }),
      {.kind = "-5 credits",
       .say = nullptr,
       .load = [](v1::WatchLoadResponse& load) { load.set_credits(-5); }},
  };
}

// A worker that tells one lie under the name of its model. `over`: when the test is.
std::unique_ptr<ScriptedWorker> Serve(const Lie& lie, const std::string& name,
                                      const absl::Notification& over) {
  WorkerScript script;
  script.describe = [=](int, v1::DescribeResponse& response) {
    *response.mutable_model() = Honest(name);
    response.set_epoch(1);
    if (lie.describe) lie.describe(*response.mutable_model());
    return grpc::Status::OK;
  };
  script.watch_load = [lie, &over](grpc::ServerContext&, LoadStream& stream) {
    v1::WatchLoadResponse load;
    load.set_credits(8);
    load.set_ready(true);
    load.set_blocks_free(1000);
    load.set_blocks_total(1000);
    load.set_epoch(1);
    if (lie.load) lie.load(load);
    stream.Write(load);
    over.WaitForNotification();
    return grpc::Status::OK;
  };
  script.run = [lie](grpc::ServerContext&, RunStream& stream) {
    if (!lie.end.ok()) return lie.end;
    Stage stage(stream);
    lie.say(stage);
    v1::RunRequest request;
    while (!lie.leaves && stream.Read(&request)) {  // Until the router has had enough.
    }
    return grpc::Status::OK;
  };
  return std::make_unique<ScriptedWorker>(std::move(script));
}

grpc::Status Ask(const std::string& router, const std::string& model) {
  const auto stub =
      v1::ConclaveService::NewStub(grpc::CreateChannel(router, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  v1::GenerateOnceRequest request;
  v1::GenerateRequest& wire = *request.mutable_request();
  wire.set_model(model);
  wire.set_mode(v1::MODE_INSTANT);
  wire.set_seed(1);
  wire.mutable_budget()->set_answer_tokens(kGrant);
  auto* message = wire.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text("Well?");
  v1::GenerateOnceResponse response;
  return stub->GenerateOnce(&context, request, &response);
}

// Asks until the router has heard from its workers.
grpc::Status AskInTheEnd(const std::string& router, const std::string& model) {
  grpc::Status status;
  Eventually(absl::Seconds(60), [&] {
    status = Ask(router, model);
    const std::string& message = status.error_message();
    for (const char* early :
         {"none is known", "not reached yet", "failed to connect", "not ready"}) {
      if (message.find(early) != std::string::npos) return false;
    }
    return true;
  });
  return status;
}

const std::vector<std::string> kImpatient = {"limits.resume_wait=1s", "limits.retry_wait=1ms",
                                             "workers.place_patience=1s"};

std::vector<std::string> With(std::vector<std::string> settings, const std::string& addresses) {
  settings.push_back("workers.addresses=[" + addresses + "]");
  return settings;
}

TEST(LyingWorkerTest, WhatItSaysIsCheckedAndTheNextOneIsAskedAllTheSame) {
  absl::Notification over;
  std::vector<std::unique_ptr<ScriptedWorker>> workers;
  std::string addresses;
  std::vector<std::pair<std::string, std::string>> names;
  std::vector<Lie> lies = Lies();
  lies.push_back({"nothing but the truth", [](Stage& stage) {
                    stage.Accept();
                    stage.Say(stage.Last(0, 3));
                    stage.EndFamily(3);
                  }});
  std::erase_if(lies, [](const Lie& lie) { return lie.describe || lie.load; });
  for (size_t i = 0; i < lies.size(); ++i) {
    workers.push_back(Serve(lies[i], "model-" + std::to_string(i), over));
    addresses += (i == 0 ? "" : ", ") + workers.back()->address();
    names.emplace_back(workers.back()->address(), "WORKER");
  }
  std::vector<BadInput> rows;
  {
    Groups groups;
    groups.StartRouter(With(kImpatient, addresses));
    for (size_t i = 0; i < lies.size(); ++i) {
      const grpc::Status status =
          AskInTheEnd(groups.AddressOf("router"), "model-" + std::to_string(i));
      if (i + 1 == lies.size()) {
        EXPECT_TRUE(status.ok()) << status.error_message();
      } else {
        EXPECT_FALSE(status.ok()) << lies[i].kind;
        rows.push_back(Refused(lies[i].kind, FromGrpc(status)));
      }
    }
  }
  over.Notify();
  workers.clear();
  ExpectTable("A worker that lies", std::move(rows), names);
}

TEST(LyingWorkerTest, WhatItSaysOfItselfIsCheckedBeforeItIsAsked) {
  std::vector<BadInput> rows;
  std::vector<std::pair<std::string, std::string>> names;
  for (const Lie& lie : Lies()) {
    if (!lie.describe && !lie.load) continue;
    absl::Notification over;
    auto worker = Serve(lie, "model", over);
    {
      Groups groups;
      groups.StartRouter(With(kImpatient, worker->address()));
      const grpc::Status status = AskInTheEnd(groups.AddressOf("router"), "model");
      EXPECT_FALSE(status.ok()) << lie.kind;
      rows.push_back(Refused(lie.kind, FromGrpc(status)));
    }
    names.emplace_back(worker->address(), "WORKER");
    over.Notify();
  }
  ExpectTable("A worker that lies about itself", std::move(rows), names);
}

}  // namespace
}  // namespace conclave
