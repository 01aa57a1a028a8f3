// Two routers over one worker group. A client loses its router, or its connection, in mid-answer;
// the rest must come exactly once, and the whole must be the answer of an undisturbed run.

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"

namespace conclave {
namespace {

using nlohmann::json;

constexpr absl::Duration kPatience = absl::Seconds(120);
constexpr int kAnswerTokens = 250;
constexpr int kEndOfText = 637;  // The model's stop token.

std::string Sha256(const std::string& bytes) {
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

// One agent whose answer is long: it never stops by itself.
v1::GenerateRequest LongAnswer(uint64_t seed) {
  v1::GenerateRequest request;
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text("Tom has 12 apples and buys 3 boxes with 15 apples each.");
  request.set_mode(v1::MODE_INSTANT);
  request.set_seed(seed);
  request.mutable_sampling()->set_temperature(2);
  (*request.mutable_sampling()->mutable_logit_bias())[kEndOfText] = -100;
  request.mutable_budget()->set_answer_tokens(kAnswerTokens);
  return request;
}

// Agents that disagree, and a synthesis, streamed, that is long as well.
v1::GenerateRequest LongSynthesis(uint64_t seed) {
  v1::GenerateRequest request = LongAnswer(seed);
  request.set_mode(v1::MODE_CONTEMPLATING);
  request.mutable_contemplation()->set_max_agents(3);
  request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
  request.mutable_budget()->set_thinking_tokens(8);
  request.mutable_budget()->set_answer_tokens(80);
  return request;
}

// What a client holds, over all its streams.
struct Client {
  v1::Admitted admitted;
  std::string answer;
  std::vector<v1::Decision> decisions;
  v1::Completed completed;
  int streams = 0;
  bool gap = false;
  grpc::Status status;

  // Reads a stream until its end, or until `moment`; then `lose` is called, once.
  template <typename Moment, typename Lose>
  void Read(const std::string& router, const v1::GenerateRequest& request, Moment moment,
            Lose lose) {
    const auto stub = v1::ConclaveService::NewStub(
        grpc::CreateChannel(router, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    const auto reader = stub->Generate(&context, request);
    ++streams;
    decisions.clear();  // Each stream tells them from the beginning.
    bool lost = false;
    int64_t sequence = 0;
    for (v1::GenerateResponse event; reader->Read(&event);) {
      gap |= event.sequence() != ++sequence || event.has_admitted() != (sequence == 1);
      if (event.has_admitted()) admitted = event.admitted();
      if (event.has_decision()) decisions.push_back(event.decision());
      answer += event.answer_delta().text();
      if (event.has_completed()) completed = event.completed();
      if (!lost && moment(*this)) {
        lost = true;
        lose(context);
      }
    }
    status = reader->Finish();
  }

  void Read(const std::string& router, const v1::GenerateRequest& request) {
    Read(
        router, request, [](const Client&) { return false; }, [](grpc::ClientContext&) {});
  }

  v1::GenerateRequest Resume(v1::GenerateRequest request) const {
    request.set_request_id(admitted.request_id());
    request.mutable_resume()->set_answer_bytes(static_cast<int64_t>(answer.size()));
    request.mutable_resume()->set_answer_sha256(Sha256(answer));
    if (answer.empty()) return request;
    v1::Replay& replay = *request.mutable_replay();
    replay.set_seed(admitted.seed());
    replay.set_time_of_day(admitted.time_of_day());
    replay.set_fingerprint(admitted.fingerprint());
    replay.set_decision_version(admitted.decision_version());
    replay.mutable_decisions()->Add(decisions.begin(), decisions.end());
    return request;
  }

  void ExpectTheAnswerOf(const Client& undisturbed) const {
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_FALSE(gap);
    EXPECT_EQ(answer, undisturbed.answer);
    EXPECT_EQ(completed.answer(), undisturbed.answer);
    EXPECT_EQ(completed.receipt().result_hash(), undisturbed.completed.receipt().result_hash());
  }
};

class RouterLossTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.StartWorker();
    for (const char* name : kRouters) cluster_.StartRouter({}, name);
    for (const char* name : kRouters) cluster_.AwaitServed(name);
  }

  Client Undisturbed(const v1::GenerateRequest& request) {
    Client client;
    client.Read(cluster_.RouterAddress(kRouters[0]), request);
    EXPECT_TRUE(client.status.ok()) << client.status.error_message();
    return client;
  }

  void Kill(const std::string& router) {
    cluster_.router(router).Signal(SIGKILL);
    cluster_.router(router).Wait(absl::Seconds(10));
  }

  // A loss that comes after the end of what it was to meet is tried again, so often.
  static constexpr int kTries = 20;

  // `bytes`: of the answer, when the router is killed; -1 = as soon as it was admitted.
  void LoseAt(int64_t bytes, const v1::GenerateRequest& request, bool restarts) {
    const Client undisturbed = Undisturbed(request);
    ASSERT_GT(static_cast<int64_t>(undisturbed.answer.size()), bytes + 20);
    const std::string first = kRouters[++turn_ % 2],
                      second = restarts ? first : kRouters[(turn_ + 1) % 2];
    Client client;
    for (int tries = 0; tries < kTries && client.status.ok(); ++tries) {
      cluster_.AwaitServed(first);
      client = {};
      client.Read(
          cluster_.RouterAddress(first), request,
          [&](const Client& c) { return static_cast<int64_t>(c.answer.size()) >= bytes; },
          [&](grpc::ClientContext&) { Kill(first); });
      cluster_.StartRouter({}, first);
    }
    ASSERT_EQ(client.status.error_code(), grpc::StatusCode::UNAVAILABLE);
    for (int tries = 0; tries < 100 && !client.status.ok(); ++tries) {  // It knows no group yet.
      if (client.status.error_code() != grpc::StatusCode::UNAVAILABLE) break;
      client.Read(cluster_.RouterAddress(second), client.Resume(request));
    }
    client.ExpectTheAnswerOf(undisturbed);
  }

  // Arguments of `conclave ask`: one agent with a long answer, as JSON.
  std::vector<std::string> LongQuestion(const std::vector<std::string>& more,
                                        std::string routers = "") const {
    if (routers.empty()) routers = cluster_.RouterAddress();
    std::vector<std::string> arguments = {
        "ask", "How many?",     "--router", routers,           "--mode", "instant", "--seed",
        "6",   "--temperature", "4",        "--answer-tokens", "250",    "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  // The answer's bytes among the JSON lines that `conclave ask --json` wrote.
  static std::string AnswerIn(const std::string& log) {
    std::string answer;
    for (size_t begin = 0, end; (end = log.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      const json event = json::parse(log.substr(begin, end - begin), nullptr, false);
      if (event.is_object() && event.contains("answer_delta"))
        answer += event["answer_delta"]["text"].get<std::string>();
    }
    return answer;
  }

  static constexpr const char* kRouters[] = {"router", "router2"};
  Cluster cluster_;
  int turn_ = 0;
};

TEST_F(RouterLossTest, AnotherRouterGivesTheRestOfAnAnswerExactlyOnce) {
  uint64_t seed = 1;
  for (const int64_t bytes : {-1, 1, 40, 150}) {
    LoseAt(bytes, LongAnswer(++seed), /*restarts=*/false);
    if (HasFailure()) FAIL() << bytes << " bytes, seed " << seed;
  }
}

TEST_F(RouterLossTest, TheRestartedRouterGivesTheRestOfASynthesisExactlyOnce) {
  uint64_t seed = 10;
  for (const int64_t bytes : {-1, 1, 60}) {
    LoseAt(bytes, LongSynthesis(++seed), /*restarts=*/true);
    if (HasFailure()) FAIL() << bytes << " bytes, seed " << seed;
  }
}

TEST_F(RouterLossTest, ABrokenConnectionsRequestGoesOnWhereItIsKept) {
  v1::GenerateRequest request = LongAnswer(21);
  const Client undisturbed = Undisturbed(request);
  request.mutable_keep_for()->set_seconds(60);
  Client client;
  for (int tries = 0; tries < kTries && client.status.ok(); ++tries) {
    client = {};
    client.Read(
        cluster_.RouterAddress(), request, [](const Client& c) { return c.answer.size() >= 50; },
        [](grpc::ClientContext& context) { context.TryCancel(); });
  }
  ASSERT_EQ(client.status.error_code(), grpc::StatusCode::CANCELLED);
  v1::GenerateRequest bare;

  bare = client.Resume(bare);
  bare.clear_replay();
  client.Read(cluster_.RouterAddress(), bare);

  client.ExpectTheAnswerOf(undisturbed);
  EXPECT_EQ(client.admitted.seed(), 21u);
  EXPECT_NE(cluster_.router().Output().find("resumed"), std::string::npos);
}

TEST_F(RouterLossTest, AClientThatIsKilledFindsItsRequestKept) {
  const std::string log = cluster_.folder() + "/killed.log";
  {
    Program client("conclave", LongQuestion({"--request-id", "killed-1"}), log);
    ASSERT_TRUE(Eventually(kPatience, [&] { return AnswerIn(FileText(log)).size() >= 20; }))
        << FileText(log);
    client.Signal(SIGKILL);
    client.Wait(absl::Seconds(10));
  }
  Client client;
  client.admitted.set_request_id("killed-1");
  client.answer = AnswerIn(FileText(log));
  v1::GenerateRequest bare;
  bare = client.Resume(bare);
  bare.clear_replay();

  client.Read(cluster_.RouterAddress(), bare);

  ASSERT_TRUE(client.status.ok()) << client.status.error_message();
  EXPECT_EQ(client.answer, client.completed.answer());
}

TEST_F(RouterLossTest, TheClientProgramTakesItsStreamUpAtTheNextRouter) {
  const std::string routers =
      cluster_.RouterAddress(kRouters[0]) + "," + cluster_.RouterAddress(kRouters[1]);
  const auto ask = [&](const std::string& log) {
    return Program("conclave", LongQuestion({}, routers), log);
  };
  const std::string quiet = cluster_.folder() + "/quiet.log";
  ASSERT_EQ(ask(quiet).Wait(kPatience), 0) << FileText(quiet);
  const auto taken_up = [&] {
    return cluster_.router(kRouters[1]).Output().find("admitted") != std::string::npos;
  };
  for (int tries = 0; tries < kTries && !taken_up(); ++tries) {
    if (tries > 0) cluster_.StartRouter({}, kRouters[0]);
    cluster_.AwaitServed(kRouters[0]);
    const std::string log = fmt::format("{}/broken{}.log", cluster_.folder(), tries);

    Program client = ask(log);
    ASSERT_TRUE(Eventually(kPatience, [&] { return AnswerIn(FileText(log)).size() >= 20; }))
        << FileText(log);
    Kill(kRouters[0]);

    EXPECT_EQ(client.Wait(kPatience), 0) << FileText(log);
    EXPECT_EQ(AnswerIn(FileText(log)), AnswerIn(FileText(quiet)));
  }
  EXPECT_TRUE(taken_up()) << "the kill met no answer";
}

TEST_F(RouterLossTest, CtrlCBringsTheReceiptOfWhatThereIs) {
  std::string log, receipt;
  int exit_code = 0;
  const auto stopped = [&] {
    return FileText(log).find("\"incomplete\":true") != std::string::npos;
  };
  for (int tries = 0; tries < kTries && !stopped(); ++tries) {
    log = fmt::format("{}/stopped{}.log", cluster_.folder(), tries);
    receipt = log + ".receipt";
    Program client("conclave", LongQuestion({"--receipt", receipt}), log);
    ASSERT_TRUE(Eventually(kPatience, [&] { return AnswerIn(FileText(log)).size() >= 20; }))
        << FileText(log);

    client.Signal(SIGINT);
    exit_code = client.Wait(kPatience);
  }

  EXPECT_EQ(exit_code, 130) << FileText(log);
  const json written = json::parse(FileText(receipt), nullptr, false);
  ASSERT_TRUE(written.is_object()) << FileText(receipt);
  EXPECT_EQ(written["receipt"]["decisions"][0]["kind"], "KIND_STOP_NOW");
}

}  // namespace
}  // namespace conclave
