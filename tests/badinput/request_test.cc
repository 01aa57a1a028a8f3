// Requests that no client of ours would send, to a real router and worker.

#include <fmt/format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "common/wire/grpc_status.h"
#include "tests/badinput/pair.h"
#include "tests/badinput/table.h"

namespace conclave {
namespace {

using Request = v1::GenerateRequest;

struct Case {
  std::string kind;
  std::function<void(Request&)> change;
};

BadInput Row(const std::string& kind, const grpc::Status& status) {
  EXPECT_FALSE(status.ok()) << kind;
  return Refused(kind, FromGrpc(status));
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<Case> Cases() {
  using Change = Request&;
  const auto message = [](Request& r) -> v1::Message& { return *r.mutable_messages(0); };
  const auto how = [](Request& r) -> v1::Contemplation& { return *r.mutable_contemplation(); };
  return {
      {"no messages", [](Change r) { r.clear_messages(); }},
      {"1025 messages",
       [](Change r) {
         while (r.messages_size() < 1025) *r.add_messages() = r.messages(0);
       }},
      {"a message without a role", [=](Change r) { message(r).clear_role(); }},
      {"a role that does not exist",
       [=](Change r) { message(r).set_role(static_cast<v1::Role>(99)); }},
      {"a message without parts", [=](Change r) { message(r).clear_parts(); }},
      {"65 parts",
       [=](Change r) {
         while (message(r).parts_size() < 65) message(r).add_parts()->set_text("a");
       }},
      {"an empty part", [=](Change r) { message(r).mutable_parts(0)->clear_text(); }},
      {"an image", [=](Change r) { message(r).mutable_parts(0)->mutable_image(); }},
      {"the model has the last word", [=](Change r) { message(r).set_role(v1::ROLE_ASSISTANT); }},
      {"a mode that does not exist", [](Change r) { r.set_mode(static_cast<v1::Mode>(-1)); }},
      {"a model that is not served", [](Change r) { r.set_model("gpt-9"); }},
      {"a model's name of 1 MiB", [](Change r) { r.set_model(std::string(1 << 20, 'm')); }},
      {"a request id with a line break",
       [](Change r) { r.set_request_id("a\nlevel=error msg=forged"); }},
      {"a request id with a zero byte", [](Change r) { r.set_request_id(std::string("a\0b", 3)); }},
      {"2^31 - 1 agents", [=](Change r) { how(r).set_max_agents(INT32_MAX); }},
      {"-1 agents", [=](Change r) { how(r).set_max_agents(-1); }},
      {"more agents at least than at most", [=](Change r) { how(r).set_min_agents(9); }},
      {"contemplation of an instant answer", [](Change r) { r.set_mode(v1::MODE_INSTANT); }},
      {"rounds of a strategy that has one", [=](Change r) { how(r).set_rounds(2); }},
      {"an aggregator that is not served", [=](Change r) { how(r).set_aggregator_model("gpt-9"); }},
      {"an aggregator's name of 1 MiB",
       [=](Change r) { how(r).set_aggregator_model(std::string(1 << 20, 'm')); }},
      {"an aggregator of a vote",
       [=](Change r) {
         how(r).set_aggregation(v1::AGGREGATION_VOTE);
         how(r).set_aggregator_model("conclave-demo");
       }},
      {"an agent's model that is not served",
       [=](Change r) {
         how(r).add_agent_models("conclave-demo");
         how(r).add_agent_models("gpt-9");
       }},
      {"agents of a model without a name", [=](Change r) { how(r).add_agent_models(""); }},
      {"65 agents' models",
       [=](Change r) {
         for (int i = 0; i < 65; ++i) how(r).add_agent_models("conclave-demo");
       }},
      {"agents of nine models",
       [=](Change r) {
         for (int i = 0; i < 9; ++i) how(r).add_agent_models(fmt::format("model-{}", i));
       }},
      {"agents' models that begin with another than the request's",
       [=](Change r) {
         r.set_model("conclave-demo");
         how(r).add_agent_models("conclave-novice");
       }},
      {"a certainty of NaN",
       [=](Change r) {
         how(r).set_stop_rule(v1::STOP_RULE_LEADER_BEATS_RUNNER_UP);
         how(r).set_stop_certainty(static_cast<double>(kNan));
       }},
      {"a confidence bar of -infinity",
       [=](Change r) { how(r).set_confidence_bar(static_cast<double>(-kInfinity)); }},
      {"a patience of -1 s", [=](Change r) { how(r).mutable_patience()->set_seconds(-1); }},
      {"a deadline of 2^63 - 1 s",
       [](Change r) { r.mutable_budget()->mutable_deadline()->set_seconds(INT64_MAX); }},
      {"a deadline of -1 ns",
       [](Change r) { r.mutable_budget()->mutable_deadline()->set_nanos(-1); }},
      {"a thinking budget of -5", [](Change r) { r.mutable_budget()->set_thinking_tokens(-5); }},
      {"an answer budget of 2^31 - 1",
       [](Change r) { r.mutable_budget()->set_answer_tokens(INT32_MAX); }},
      {"a total budget of -2^63",
       [](Change r) { r.mutable_budget()->set_total_tokens(INT64_MIN); }},
      {"a total budget that no agent fits in",
       [](Change r) { r.mutable_budget()->set_total_tokens(1); }},
      {"a temperature of NaN", [](Change r) { r.mutable_sampling()->set_temperature(kNan); }},
      {"a temperature of infinity",
       [](Change r) { r.mutable_sampling()->set_temperature(kInfinity); }},
      {"a top_p of 0", [](Change r) { r.mutable_sampling()->set_top_p(0); }},
      {"a top_k of -1", [](Change r) { r.mutable_sampling()->set_top_k(-1); }},
      {"a repetition penalty of 0",
       [](Change r) { r.mutable_sampling()->set_repetition_penalty(0); }},
      {"a bias for the token -1",
       [](Change r) { (*r.mutable_sampling()->mutable_logit_bias())[-1] = 1; }},
      {"a bias beyond the vocabulary",
       [](Change r) { (*r.mutable_sampling()->mutable_logit_bias())[640] = 1; }},
      {"a bias of NaN", [](Change r) { (*r.mutable_sampling()->mutable_logit_bias())[3] = kNan; }},
      {"1025 biases",
       [](Change r) {
         for (int i = 0; i < 1025; ++i) (*r.mutable_sampling()->mutable_logit_bias())[i] = 1;
       }},
      {"17 stop texts",
       [](Change r) {
         for (int i = 0; i < 17; ++i) r.add_stop("stop");
       }},
      {"an empty stop text", [](Change r) { r.add_stop(""); }},
      {"a stop text of 257 bytes", [](Change r) { r.add_stop(std::string(257, 's')); }},
      {"an answer's pattern that is not valid",
       [](Change r) {
         r.mutable_answer_key()->set_kind(v1::AnswerKey::KIND_REGEX);
         r.mutable_answer_key()->set_argument("(");
       }},
      {"a replay without a fingerprint", [](Change r) { r.mutable_replay(); }},
      {"a replay of another model", [](Change r) { r.mutable_replay()->set_fingerprint("f00d"); }},
      {"a resumption with half a hash",
       [](Change r) {
         r.set_request_id("half");
         r.mutable_resume()->set_answer_bytes(5);
         r.mutable_resume()->set_answer_sha256("half");
       }},
      {"a prompt beyond the model's positions",
       [=](Change r) { message(r).mutable_parts(0)->set_text(std::string(20'000, '7')); }},
      {"a prompt beyond the tokenizer's limit",
       [=](Change r) { message(r).mutable_parts(0)->set_text(std::string(5 << 20, 'a')); }},
  };
}

// Bytes that are no request, or more than one may have.
std::vector<BadInput> RawRows(Pair& pair) {
  const std::string good = GoodRequest().SerializeAsString();
  // Field 2 (messages) of one message of one part whose text is this.
  const auto text = [](const std::string& bytes) {
    const std::string part = "\x0A" + std::string(1, static_cast<char>(bytes.size())) + bytes;
    const std::string message =
        std::string("\x08\x02\x12") + std::string(1, static_cast<char>(part.size())) + part;
    return "\x12" + std::string(1, static_cast<char>(message.size())) + message;
  };
  std::string groups;
  for (int i = 0; i < 5000; ++i) groups += "\x2B";  // Field 5 begins a group, again and again.
  std::vector<BadInput> rows = {
      Row("bytes that are no protobuf", pair.Call("Generate", "\xFF\xFF\xFF\xFF")),
      Row("a request cut in the middle",
          pair.Call("Generate", std::string_view(good).substr(0, good.size() / 2))),
      Row("a length beyond the request", pair.Call("Generate", "\x12\xFF\xFF\xFF\xFF\x07")),
      Row("groups in each other 5,000 deep", pair.Call("Generate", groups)),
      Row("text that is not UTF-8", pair.Call("Generate", text("a\xFF\xFE"))),
      Row("half a character",
          pair.Call("GenerateOnce",
                    "\x0A" + std::string(1, static_cast<char>(text("a\xE4\xB8").size())) +
                        text("a\xE4\xB8"))),
      Row("text that is not UTF-8, to be counted", pair.Call("CountTokens", text("a\xFF\xFE"))),
      Row("a stop that is no protobuf", pair.Call("Stop", "\xFF")),
      Row("a surrogate", pair.Call("Generate", text("\xED\xA0\x80"))),
      Row("a request of 9 MiB", pair.Call("Generate", std::string(9 << 20, 'a'))),
      Row("a compressed request", pair.Call("Generate", std::string(1 << 20, 'a'),
                                            [](grpc::ClientContext& context) {
                                              context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
                                            })),
      Row("a method that does not exist", pair.Call("Destroy", good)),
      Row("a deadline that is over", pair.Call("Generate", good,
                                               [](grpc::ClientContext& context) {
                                                 context.set_deadline(
                                                     std::chrono::system_clock::now());
                                               })),
      Row("metadata of 64 KiB", pair.Call("Generate", good,
                                          [](grpc::ClientContext& context) {
                                            context.AddMetadata("x", std::string(64 << 10, 'x'));
                                          })),
      Row("a stop of no request", pair.Call("Stop", "\x0A\x01?")),
      Row("a count of nothing", pair.Call("CountTokens", "")),
  };
  return rows;
}

TEST(RequestTest, EveryBadRequestIsRefusedByFieldAndValueAndTheNextGoodOneAnswered) {
  Pair pair;
  std::vector<BadInput> rows;
  for (const Case& each : Cases()) {
    Request request = GoodRequest();
    each.change(request);
    rows.push_back(Row(each.kind, pair.Call("Generate", request.SerializeAsString())));
  }
  for (BadInput& row : RawRows(pair)) rows.push_back(std::move(row));
  ExpectTable("Requests", std::move(rows));
  pair.ExpectUnharmed();
  pair.ExpectGoodEnd();
}

}  // namespace
}  // namespace conclave
