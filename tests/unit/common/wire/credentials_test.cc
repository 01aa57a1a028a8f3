#include "common/wire/credentials.h"

#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave {
namespace {

TEST(CredentialsTest, WithoutFilesConnectionsArePlaintext) {
  EXPECT_FALSE(TlsOptions{}.enabled());
  EXPECT_TRUE(MakeServerCredentials({}).ok());
  EXPECT_TRUE(MakeChannelCredentials({}).ok());
}

TEST(CredentialsTest, AFileThatIsMissingIsNotFound) {
  TlsOptions options;
  options.certificate_file = "/nonexistent/a.pem";
  options.key_file = "/nonexistent/a.key";

  EXPECT_EQ(MakeServerCredentials(options).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(MakeChannelCredentials(options).status().code(), absl::StatusCode::kNotFound);
}

TEST(CredentialsTest, ACertificateWithoutItsKeyIsRefused) {
  TlsOptions options;
  options.certificate_file = "/nonexistent/a.pem";

  EXPECT_EQ(MakeServerCredentials(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CredentialsTest, AServerThatChecksClientsNeedsACertificateOfItsOwn) {
  TlsOptions options;
  options.authority_file = "/nonexistent/ca.pem";

  EXPECT_EQ(MakeServerCredentials(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CredentialsTest, OptionsAreReadFromTheirSection) {
  auto config = Config::Parse("tls: {certificate: c, key: k, authority: a}", "x.yaml");

  const TlsOptions options = ReadTlsOptions(config->root().Section("tls"));

  EXPECT_TRUE(config->Finish().ok());
  EXPECT_EQ(options.certificate_file + options.key_file + options.authority_file, "cka");
}

}  // namespace
}  // namespace conclave
