#include "common/wire/tls_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <filesystem>
#include <fstream>

#include "common/status.h"
#include "common/wire/pems.h"

namespace conclave {
namespace {

using testing::HasSubstr;

struct Pair {
  std::string certificate, key;  // Paths.
};

// A key and the certificate that it signs for itself, valid from now on for `seconds`.
Pair MakePair(const std::string& name, long seconds) {
  const Pair pair = {testing::TempDir() + "/" + name + ".pem",
                     testing::TempDir() + "/" + name + ".key"};
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_gmtime_adj(X509_getm_notBefore(certificate), std::min(seconds, 0L) - 60);
  X509_gmtime_adj(X509_getm_notAfter(certificate), seconds);
  X509_set_pubkey(certificate, key);
  X509_sign(certificate, key, EVP_sha256());
  FILE* file = fopen(pair.certificate.c_str(), "w");
  PEM_write_X509(file, certificate);
  fclose(file);
  file = fopen(pair.key.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return pair;
}

std::string Complaint(const TlsOptions& options) {
  const std::string text =
      fmt::format("tls: {{certificate: '{}', key: '{}', authority: '{}'}}",
                  options.certificate_file, options.key_file, options.authority_file);
  auto config = Config::Parse(text, "x.yaml");
  ConfigNode node = config->root().Section("tls");
  CheckTlsFiles(node, ReadTlsOptions(node));
  return std::string(MessageOf(config->Finish()));
}

TEST(TlsFilesTest, ACertificateWithItsKeyIsRight) {
  const Pair pair = MakePair("right", 3600);
  EXPECT_EQ(Complaint({pair.certificate, pair.key, pair.certificate}), "");
  EXPECT_EQ(Complaint({}), "");
}

TEST(TlsFilesTest, AnotherCertificatesKeyIsFound) {
  EXPECT_THAT(Complaint({MakePair("a", 3600).certificate, MakePair("b", 3600).key, ""}),
              HasSubstr("b.key is not the key of the certificate in"));
}

TEST(TlsFilesTest, ACertificateThatHasRunOutIsFound) {
  const Pair pair = MakePair("old", -10);
  EXPECT_THAT(Complaint({pair.certificate, pair.key, ""}), HasSubstr("old.pem has run out"));
}

TEST(TlsFilesTest, EveryFileThatIsMissingOrHoldsSomethingElseIsNamed) {
  const std::string text = testing::TempDir() + "/text";
  std::ofstream(text) << "no PEM\n";
  const std::string complaint = Complaint({text, text, "/nonexistent/ca.pem"});
  EXPECT_THAT(complaint, HasSubstr("tls.certificate: " + text + " holds no PEM certificate"));
  EXPECT_THAT(complaint, HasSubstr("tls.key: " + text + " holds no PEM key"));
  EXPECT_THAT(complaint, HasSubstr("tls.authority: /nonexistent/ca.pem: No such file"));
}

TEST(TlsFilesTest, AFileIsReadOnlyWithinItsLimitAndNeverAPipe) {
  const std::string huge = testing::TempDir() + "/huge.pem";
  std::ofstream(huge) << "-----BEGIN CERTIFICATE-----\n";
  std::filesystem::resize_file(huge, kMostPemBytes + 1);
  const TlsOptions options{huge, huge, "/dev/zero"};

  const std::string complaint = Complaint(options);
  EXPECT_THAT(complaint, HasSubstr("huge.pem: has 1048577 bytes; the limit is 1048576"));
  EXPECT_THAT(complaint, HasSubstr("tls.authority: /dev/zero: is no regular file"));
  for (const absl::Status& status :
       {MakeServerCredentials(options).status(), MakeChannelCredentials(options).status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.ToString(), HasSubstr("has 1048577 bytes; the limit is 1048576"));
  }
}

}  // namespace
}  // namespace conclave
