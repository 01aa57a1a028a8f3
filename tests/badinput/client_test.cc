// Clients that do not do their part, and a real router that has to do with them: what they asked
// for is ended, and nothing of it goes on.

#include <gtest/gtest.h>

#include <functional>
#include <regex>
#include <string>
#include <vector>

#include "tests/badinput/pair.h"
#include "tests/badinput/raw_connection.h"
#include "tests/badinput/table.h"

namespace conclave {
namespace {

constexpr char kGenerate[] = "/conclave.v1.ConclaveService/Generate";
constexpr absl::Duration kPatience = absl::Seconds(60);

// A call that streams all there is.
std::string Call(const std::string& id, uint8_t flags = kEndStream, uint32_t stream = 1) {
  v1::GenerateRequest request = GoodRequest();
  request.set_request_id(id);
  request.mutable_contemplation()->set_max_agents(8);
  request.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
  for (const v1::Include each :
       {v1::INCLUDE_THINKING, v1::INCLUDE_AGENT_ANSWERS, v1::INCLUDE_TOKENS}) {
    request.add_include(each);
  }
  return Frame(kHeaders, kEndHeaders, stream, CallHeaders(kGenerate)) +
         Frame(kData, flags, stream, GrpcMessage(request.SerializeAsString()));
}

// The settings that let the peer send no byte of a stream.
std::string NoWindow() { return Frame(kSettings, 0, 0, std::string("\x00\x04", 2) + Number(0)); }

struct Case {
  std::string kind;
  std::function<void(RawConnection&, const std::string& id)> behave;
};

std::vector<Case> Cases() {
  return {
      {"it closes its half of the connection",
       [](RawConnection& client, const std::string& id) {
         client.Send(Preface() + Call(id));
         client.AwaitFrame(kData, kPatience);
         client.HalfClose();
         client.AwaitEnd(kPatience);
       }},
      {"it vanishes in the middle",
       [](RawConnection& client, const std::string& id) {
         client.Send(Preface() + Call(id));
         client.AwaitFrame(kData, kPatience);
       }},
      {"it takes its call back",
       [](RawConnection& client, const std::string& id) {
         client.Send(Preface() + Call(id));
         client.AwaitFrame(kData, kPatience);
         client.Send(Frame(kReset, 0, 1, Number(8)));
         client.Send(Frame(kPing, 0, 0, "12345678"));
         client.AwaitFrame(kPing, kPatience);
       }},
      {"it says goodbye and goes",
       [](RawConnection& client, const std::string& id) {
         client.Send(Preface() + Call(id));
         client.AwaitFrame(kData, kPatience);
         client.Send(Frame(kGoAway, 0, 0, Number(0) + Number(0)));
         client.HalfClose();
         client.AwaitEnd(kPatience);
       }},
  };
}

// How the router's log says that the request ended.
std::string CodeOf(Pair& pair, const std::string& id) {
  const std::regex line("ended .*request=" + id + " .*code=([A-Z_]+)");
  std::smatch match;
  std::string log;
  Eventually(kPatience, [&] {
    log = pair.cluster().router().Output();
    return std::regex_search(log, match, line);
  });
  return match.empty() ? "nothing\n" + log : match[1].str();
}

TEST(ClientTest, WhatNobodyReadsIsEndedAndNothingOfItGoesOn) {
  Pair pair({"server.client_stall=1s"});
  std::vector<BadInput> rows;
  {
    RawConnection client(pair.address());
    client.Send(Preface() + NoWindow() + Call("silent"));
    const RawConnection::End end = client.AwaitEnd(kPatience);
    rows.push_back({"it never reads", end.status, "on its stream, after server.client_stall"});
  }
  pair.ExpectUnharmed();
  for (const Case& each : Cases()) {
    const std::string id = "client-" + std::to_string(rows.size());
    {
      RawConnection client(pair.address());
      each.behave(client, id);
    }
    rows.push_back({each.kind, CodeOf(pair, id), "in the router's log"});
    pair.ExpectUnharmed();
  }
  ExpectTable("A client that does not do its part", std::move(rows));
  pair.ExpectGoodEnd();
}

TEST(ClientTest, AThousandCallsThatAreTakenBackAtOnceHarmNobody) {
  Pair pair;
  RawConnection client(pair.address());
  client.Send(Preface());
  for (uint32_t i = 0; i < 1000; ++i) {
    const uint32_t stream = 2 * i + 1;
    client.Send(Call("rapid-" + std::to_string(i), kEndStream, stream) +
                Frame(kReset, 0, stream, Number(8)));
  }
  client.Send(Frame(kPing, 0, 0, "12345678"));
  EXPECT_TRUE(client.AwaitFrame(kPing, kPatience));
  pair.ExpectUnharmed();
  pair.ExpectGoodEnd();
}

}  // namespace
}  // namespace conclave
