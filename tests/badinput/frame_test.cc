// Bytes that no gRPC client would send, and clients that do not do their part, to a real router and
// worker.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/badinput/pair.h"
#include "tests/badinput/raw_connection.h"
#include "tests/badinput/table.h"

namespace conclave {
namespace {

constexpr char kGenerate[] = "/conclave.v1.ConclaveService/Generate";

struct Case {
  std::string kind;
  std::string bytes;  // Behind the preface.
};

// A call whose message is there in full.
std::string GoodCall(const std::vector<std::pair<std::string, std::string>>& headers = {}) {
  return Frame(kHeaders, kEndHeaders, 1, CallHeaders(kGenerate, headers)) +
         Frame(kData, kEndStream, 1, GrpcMessage(GoodRequest().SerializeAsString()));
}

// A call with these bytes as its data.
std::string CallWith(std::string_view data, uint8_t flags = kEndStream) {
  return Frame(kHeaders, kEndHeaders, 1, CallHeaders(kGenerate)) + Frame(kData, flags, 1, data);
}

std::vector<Case> Cases() {
  const std::string good = GrpcMessage(GoodRequest().SerializeAsString());
  std::string endless(1, '\0');  // A name whose length never ends.
  endless += "\x7F" + std::string(64, '\xFF');
  return {
      {"a message with an unknown flag", CallWith(GrpcMessage("", 2))},
      {"a message that is said to be compressed, by nothing", CallWith(GrpcMessage("abc", 1))},
      {"a message that ends too soon", CallWith(good.substr(0, good.size() - 7))},
      {"half a message's length", CallWith(std::string(3, '\0'))},
      {"a call without a message",
       Frame(kHeaders, kEndHeaders | kEndStream, 1, CallHeaders(kGenerate))},
      {"a call of a path that is none",
       Frame(kHeaders, kEndHeaders | kEndStream, 1, CallHeaders("../../etc/passwd"))},
      {"a time limit of 1 ns", GoodCall({{"grpc-timeout", "1n"}})},
      {"a header in upper case", GoodCall({{"Grpc-Timeout", "1S"}})},
      {"binary metadata that is no base64", GoodCall({{"x-bin", "%%%"}})},
      {"metadata with a zero byte", GoodCall({{"x-note", std::string("a\0b", 3)}})},
      {"a header block that refers to nothing", Frame(kHeaders, kEndHeaders, 1, "\xFF\xFF\x7F")},
      {"a header whose length never ends", Frame(kHeaders, kEndHeaders, 1, endless)},
      {"a continuation of no headers", Frame(kContinuation, 0, 1, "x")},
      {"headers that are interrupted",
       Frame(kHeaders, 0, 1, Header("a", "b")) + Frame(kPing, 0, 0, "12345678")},
      {"a frame of 16 MiB, announced", std::string("\xFF\xFF\xFF\x00\x00\x00\x00\x00\x01", 9)},
      {"settings of 5 bytes", Frame(kSettings, 0, 0, "12345")},
      {"a ping of 7 bytes", Frame(kPing, 0, 0, "1234567")},
      {"a window of 4 GiB in the settings",
       Frame(kSettings, 0, 0, std::string("\x00\x04", 2) + Number(0xFFFFFFFF))},
  };
}

// What the connection goes on after.
std::vector<Case> Ignored() {
  return {
      {"a message of 4 GiB, announced", CallWith(std::string(1, '\0') + Number(0xFFFFFFFF), 0)},
      {"headers on stream 0", Frame(kHeaders, kEndHeaders, 0, CallHeaders(kGenerate))},
      {"headers on an even stream", Frame(kHeaders, kEndHeaders, 2, CallHeaders(kGenerate))},
      {"a window that overflows", Frame(kWindowUpdate, 0, 0, Number(0x7FFFFFFF)) +
                                      Frame(kWindowUpdate, 0, 0, Number(0x7FFFFFFF))},
  };
}

BadInput Row(const std::string& kind, const RawConnection::End& end) {
  return {kind, end.status, end.message};
}

TEST(FrameTest, BytesThatAreNoCallEndTheirConnectionAndNothingElse) {
  Pair pair;
  std::vector<BadInput> rows;
  for (const auto& [kind, bytes] : std::vector<Case>{
           {"a request of HTTP/1.1", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
           {"a TLS greeting", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", 11) +
                                  std::string(500, 'a')},
           {"noise", std::string(4096, '\xA5')}}) {
    RawConnection connection(pair.address());
    connection.Send(bytes);
    rows.push_back(Row(kind, connection.AwaitEnd()));
  }
  for (const Case& each : Cases()) {
    RawConnection connection(pair.address());
    connection.Send(Preface() + each.bytes);
    rows.push_back(Row(each.kind, connection.AwaitEnd()));
  }
  for (const Case& each : Ignored()) {
    RawConnection connection(pair.address());
    connection.Send(Preface() + each.bytes + Frame(kPing, 0, 0, "12345678"));
    EXPECT_TRUE(connection.AwaitFrame(kPing)) << each.kind;
    rows.push_back({each.kind, "-", "nothing; the connection goes on"});
  }
  pair.cluster().StartRouter(
      {"admission.tenants=[{name: a, keys: [" + std::string(64, '0') + "]}]"}, "keyed");
  for (const std::string& value : {std::string("Bearer a\0b", 10), std::string("Bearer \xFF"),
                                   "Bearer " + std::string(4000, 'a')}) {
    RawConnection connection(pair.cluster().RouterAddress("keyed"));
    connection.Send(Preface() + GoodCall({{"authorization", value}}));
    rows.push_back(Row(fmt::format("a key of {} bytes, the last of them {:#04x}", value.size() - 7,
                                   static_cast<unsigned char>(value.back())),
                       connection.AwaitEnd()));
  }
  ExpectTable("Bytes", std::move(rows));
  pair.ExpectUnharmed();
  pair.ExpectGoodEnd();
}

}  // namespace
}  // namespace conclave
