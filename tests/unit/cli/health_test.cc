#include "cli/health.h"

#include <gmock/gmock.h>
#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>

#include "cli/exit_code.h"

namespace conclave::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

// A server as the programs' health ports are, or one without a health service.
class HealthServer {
 public:
  explicit HealthServer(bool has_health = true) {
    grpc::EnableDefaultHealthCheckService(has_health);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterCallbackGenericService(&no_service_);
    server_ = builder.BuildAndStart();
    grpc::EnableDefaultHealthCheckService(false);
  }

  void Set(const std::string& service, bool serving) {
    server_->GetHealthCheckService()->SetServingStatus(service, serving);
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  int port_ = 0;
  grpc::CallbackGenericService no_service_;
  std::unique_ptr<grpc::Server> server_;
};

class HealthTest : public testing::Test {
 protected:
  // Patient: only what never answers may run into the timeout.
  int Ask(const std::string& address, const std::string& service) {
    return AskHealth({.address = address, .service = service, .timeout_seconds = 60}, out_,
                     errors_);
  }

  std::ostringstream out_, errors_;
};

TEST_F(HealthTest, WhatServesIsSaidAndIsSuccess) {
  HealthServer server;
  server.Set("readiness", true);
  EXPECT_EQ(Ask(server.address(), "readiness"), kExitOk);
  EXPECT_EQ(out_.str(), server.address() + ": readiness: SERVING\n");
  EXPECT_THAT(errors_.str(), IsEmpty());
}

TEST_F(HealthTest, WhatDoesNotServeIsFailure) {
  HealthServer server;
  server.Set("liveness", true);
  server.Set("readiness", false);
  EXPECT_EQ(Ask(server.address(), "readiness"), kExitFailed);
  EXPECT_THAT(out_.str(), HasSubstr("readiness: NOT_SERVING"));
  EXPECT_EQ(Ask(server.address(), "liveness"), kExitOk);
}

TEST_F(HealthTest, AnUnknownServiceIsFailureAndTheKnownOnesAreNamed) {
  HealthServer server;
  EXPECT_EQ(Ask(server.address(), "no.such.Service"), kExitFailed);
  EXPECT_THAT(errors_.str(), AllOf(HasSubstr("no.such.Service"), HasSubstr("readiness")));
}

TEST_F(HealthTest, AnotherPortIsFailureAndTheRightOneIsNamed) {
  HealthServer server(/*has_health=*/false);
  EXPECT_EQ(Ask(server.address(), "readiness"), kExitFailed);
  EXPECT_THAT(errors_.str(), AllOf(HasSubstr("UNIMPLEMENTED"), HasSubstr("health.listen")));
}

TEST_F(HealthTest, NobodyThereIsFailure) {
  std::string address;
  {
    HealthServer gone;
    address = gone.address();
  }
  EXPECT_EQ(Ask(address, "readiness"), kExitFailed);
  EXPECT_THAT(errors_.str(), AllOf(HasSubstr(address), HasSubstr("is the program running")));
}

TEST_F(HealthTest, AnAddressWithoutPortIsWrongUsage) {
  EXPECT_EQ(Ask("localhost", "readiness"), kExitUsage);
  EXPECT_THAT(errors_.str(), HasSubstr("localhost"));
}

}  // namespace
}  // namespace conclave::cli
