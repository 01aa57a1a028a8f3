#include "cli/connection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "tests/fakes/certificate.h"
#include "tests/unit/cli/fake_router.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

// A router that serves one model over TLS, and knows its clients.
class TlsRouterTest : public testing::Test {
 protected:
  TlsRouterTest()
      : of_router_(MakeCertificate(testing::TempDir(), "router", "DNS:router.example")),
        of_client_(MakeCertificate(testing::TempDir(), "client", "DNS:client.example")),
        router_(Script(), *MakeServerCredentials(
                              {of_router_.certificate, of_router_.key, of_client_.certificate})) {}

  static RouterScript Script() {
    RouterScript script;
    script.models.add_models();
    return script;
  }
  ServerOptions Right() const {
    return {.router = router_.address(),
            .tls_ca = of_router_.certificate,
            .tls_cert = of_client_.certificate,
            .tls_key = of_client_.key,
            .tls_name = "router.example"};
  }
  static absl::Status Ask(const ServerOptions& options) {
    const absl::StatusOr<Caller> caller = MakeCaller(options);
    if (!caller.ok()) return caller.status();
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    const auto stub = Connect(caller->router, *caller);
    RETURN_IF_ERROR(FromGrpc(stub->ListModels(&context, {}, &response)));
    EXPECT_EQ(response.models_size(), 1);
    return absl::OkStatus();
  }

  const Certificate of_router_, of_client_;
  FakeRouter router_;
};

TEST_F(TlsRouterTest, IsAskedByAClientThatHasACertificateAndKnowsItsName) {
  EXPECT_TRUE(Ask(Right()).ok()) << Ask(Right());
}

TEST_F(TlsRouterTest, IsNotAskedUnderAnotherNameOrByAnotherAuthorityOrInPlainText) {
  ServerOptions options = Right();
  options.tls_name = "";
  EXPECT_EQ(Ask(options).code(), absl::StatusCode::kUnavailable);
  options = Right();
  options.tls_ca = of_client_.certificate;
  EXPECT_EQ(Ask(options).code(), absl::StatusCode::kUnavailable);
  options = Right();
  options.tls_cert = options.tls_key = "";
  EXPECT_EQ(Ask(options).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Ask({.router = router_.address()}).code(), absl::StatusCode::kUnavailable);
}

TEST_F(TlsRouterTest, OptionsThatDoNotGoTogetherAreNamed) {
  ServerOptions options = Right();
  options.tls_key = "";
  EXPECT_THAT(Ask(options).ToString(), HasSubstr("--tls-cert and --tls-key go together"));
  options = Right();
  options.tls_ca = "/nonexistent/ca.pem";
  EXPECT_THAT(Ask(options).ToString(), HasSubstr("/nonexistent/ca.pem: No such file"));
  options = {.router = router_.address(), .tls_name = "router.example"};
  EXPECT_THAT(Ask(options).ToString(), HasSubstr("--tls-name is for TLS"));
}

}  // namespace
}  // namespace conclave::cli
