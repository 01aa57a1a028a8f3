// What holds of all calls of the public API, whatever they do.

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/router/api/api_rig.h"

namespace conclave::router {
namespace {

// Calls a method by its path with these bytes as its message, and gives its status.
grpc::Status CallByName(ApiRig& rig, const std::string& method, const std::string& authorization,
                        const std::string& message = "") {
  grpc::GenericStub stub(rig.channel());
  grpc::ClientContext context;
  if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  void* const mark = &queue;
  call->StartCall(mark);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(message);
  call->WriteLast(grpc::ByteBuffer(&slice, 1), {}, mark);
  queue.Next(&tag, &ok);
  // The status comes behind the messages.
  grpc::ByteBuffer answer;
  do {
    call->Read(&answer, mark);
    queue.Next(&tag, &ok);
  } while (ok);
  grpc::Status status;
  call->Finish(&status, mark);
  queue.Next(&tag, &ok);
  return status;
}

// Whatever is added to the service is found here by its descriptor.
std::vector<std::string> Paths() {
  const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
      "conclave.v1.ConclaveService");
  std::vector<std::string> paths;
  for (int i = 0; i < service->method_count(); ++i) {
    paths.push_back(fmt::format("/{}/{}", service->full_name(), service->method(i)->name()));
  }
  EXPECT_GE(paths.size(), 6u);
  return paths;
}

TEST(EveryMethodTest, IsServedToNobodyWithoutAKey) {
  RigOptions options;
  TenantOptions tenant;
  tenant.name = "acme";
  tenant.keys = {DigestOf("sesame")};
  options.admission.tenants = {tenant};
  ApiRig rig(options);
  for (const std::string& path : Paths()) {
    EXPECT_EQ(CallByName(rig, path, "").error_code(), grpc::StatusCode::UNAUTHENTICATED) << path;
    EXPECT_EQ(CallByName(rig, path, "Bearer wrong").error_code(), grpc::StatusCode::UNAUTHENTICATED)
        << path;
    EXPECT_NE(CallByName(rig, path, "Bearer sesame").error_code(),
              grpc::StatusCode::UNAUTHENTICATED)
        << path;
  }
}

TEST(EveryMethodTest, RefusesBytesThatAreNoMessageInWords) {
  ApiRig rig;
  for (const std::string& path : Paths()) {
    const grpc::Status status = CallByName(rig, path, "", "\xFF\xFF");
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << path;
    EXPECT_THAT(status.error_message(), testing::HasSubstr("with texts in UTF-8")) << path;
  }
}

TEST(EveryMethodTest, ReadsNothingOfAStranger) {
  ApiRig rig(WithTenants({"acme"}));
  for (const std::string& path : Paths()) {
    EXPECT_EQ(CallByName(rig, path, "Bearer wrong", "\xFF\xFF").error_code(),
              grpc::StatusCode::UNAUTHENTICATED)
        << path;
  }
}

TEST(EveryMethodTest, CountsARequestThatCannotBeReadAsRefused) {
  ApiRig rig;
  CallByName(rig, "/conclave.v1.ConclaveService/Generate", "", "\xFF\xFF");
  EXPECT_THAT(rig.metrics().Text(), testing::HasSubstr("code=\"INVALID_ARGUMENT\""));
}

}  // namespace
}  // namespace conclave::router
