#include "tests/badinput/pair.h"

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/badinput/raw_connection.h"

namespace conclave {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

std::shared_ptr<grpc::Channel> Connect(const std::string& address, bool own_connection = false) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, own_connection ? 1 : 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxSendMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

v1::GenerateRequest GoodRequest() {
  v1::GenerateRequest request;
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text(
      "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?");
  request.set_mode(v1::MODE_CONTEMPLATING);
  request.mutable_contemplation()->set_max_agents(2);
  request.set_seed(7);
  return request;
}

Pair::Pair(const std::vector<std::string>& router_settings) {
  cluster_.StartWorker();
  cluster_.StartRouter(router_settings);
  address_ = cluster_.RouterAddress();
  channel_ = Connect(address_);
  // Until the router has heard from its worker.
  EXPECT_TRUE(Eventually(kPatience, [this] { return Ask(first_).ok(); }));
}

grpc::Status Pair::Ask(v1::Receipt& receipt) {
  const auto stub = v1::ConclaveService::NewStub(channel_);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  v1::GenerateOnceRequest request;
  *request.mutable_request() = GoodRequest();
  v1::GenerateOnceResponse response;
  const grpc::Status status = stub->GenerateOnce(&context, request, &response);
  receipt = response.completed().receipt();
  return status;
}

void Pair::ExpectUnharmed() {
  v1::Receipt again;
  const grpc::Status status = Ask(again);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(again.result_hash(), first_.result_hash());
  EXPECT_EQ(again.fingerprint(), first_.fingerprint());
  EXPECT_TRUE(Eventually(kPatience, [this] {
    return IsZero("router", "conclave_requests_running") &&
           IsZero("worker", "conclave_worker_families") &&
           IsZero("worker", "conclave_worker_agents_running");
  })) << "something runs that nobody asked for";
  EXPECT_EQ(cluster_.Ranks().size(), 2u);
  EXPECT_THAT(cluster_.worker().Output(), testing::Not(testing::HasSubstr("epoch 2")));
  EXPECT_TRUE(IsAlive(cluster_.router().pid()));
}

bool Pair::IsZero(const std::string& program, const std::string& gauge) {
  RawConnection scrape(cluster_.AddressOf(program, "metrics"));
  scrape.Send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  return scrape.ReadAll().find("\n" + gauge + " 0\n") != std::string::npos;
}

void Pair::ExpectGoodEnd() {
  cluster_.router().Signal(SIGTERM);
  EXPECT_EQ(cluster_.router().Wait(kPatience), 0) << cluster_.router().Output();
  cluster_.worker().Signal(SIGTERM);
  EXPECT_EQ(cluster_.worker().Wait(kPatience), 0) << cluster_.worker().Output();
}

grpc::Status Pair::Call(const std::string& method, std::string_view message,
                        const std::function<void(grpc::ClientContext&)>& change) {
  // A connection of its own where the call itself is odd: the server may end it, with all that it
  // carries.
  grpc::GenericStub stub(change ? Connect(address_, true) : channel_);
  grpc::ClientContext context;
  if (change) change(context);
  const grpc::Slice slice(message.data(), message.size());
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::Status result;
  absl::Notification done;
  stub.UnaryCall(&context, "/conclave.v1.ConclaveService/" + method, {}, &request, &response,
                 [&](grpc::Status status) {
                   result = std::move(status);
                   done.Notify();
                 });
  done.WaitForNotification();
  return result;
}

}  // namespace conclave
