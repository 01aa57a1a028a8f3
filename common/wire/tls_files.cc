#include "common/wire/tls_files.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

#include "common/check.h"
#include "common/file.h"
#include "common/status.h"
#include "common/wire/pems.h"

namespace conclave {
namespace {

struct FreeText {
  void operator()(BIO* text) const { BIO_free(text); }
};
struct FreeCertificate {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Text = std::unique_ptr<BIO, FreeText>;
using Certificate = std::unique_ptr<X509, FreeCertificate>;
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

// Nobody sits at a terminal to type the passphrase of a key.
int NoPassphrase(char*, int, int, void*) { return -1; }

// Null, after a complaint, when the file cannot be read.
Text Read(ConfigNode& node, const char* key, const std::string& path) {
  const absl::StatusOr<std::string> bytes = ReadFile(path, kMostPemBytes);
  if (!bytes.ok()) {
    node.Fail(key, std::string(MessageOf(bytes.status())));
    return nullptr;
  }
  Text text(BIO_new(BIO_s_mem()));
  CHECK(BIO_write(text.get(), bytes->data(), static_cast<int>(bytes->size())) ==
        static_cast<int>(bytes->size()));
  return text;
}

Certificate ReadCertificate(ConfigNode& node, const char* key, const std::string& path) {
  const Text text = Read(node, key, path);
  if (text == nullptr) return nullptr;
  Certificate certificate(PEM_read_bio_X509(text.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (certificate == nullptr) {
    node.Fail(key, fmt::format("{} holds no PEM certificate", path));
  }
  return certificate;
}

void CheckTime(ConfigNode& node, const std::string& path, const X509& certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(&certificate)) < 0) {
    node.Fail("certificate", fmt::format("the certificate in {} has run out", path));
  } else if (X509_cmp_current_time(X509_get0_notBefore(&certificate)) > 0) {
    node.Fail("certificate", fmt::format("the certificate in {} is not valid yet", path));
  }
}

Key ReadPrivateKey(ConfigNode& node, const std::string& path) {
  const Text text = Read(node, "key", path);
  if (text == nullptr) return nullptr;
  Key key(PEM_read_bio_PrivateKey(text.get(), nullptr, NoPassphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    node.Fail("key", fmt::format("{} holds no PEM key that needs no passphrase", path));
  }
  return key;
}

}  // namespace

void CheckTlsFiles(ConfigNode node, const TlsOptions& options) {
  Certificate certificate;
  Key key;
  if (!options.certificate_file.empty()) {
    certificate = ReadCertificate(node, "certificate", options.certificate_file);
    if (certificate != nullptr) CheckTime(node, options.certificate_file, *certificate);
  }
  if (!options.key_file.empty()) key = ReadPrivateKey(node, options.key_file);
  if (certificate != nullptr && key != nullptr &&
      X509_check_private_key(certificate.get(), key.get()) != 1) {
    node.Fail("key", fmt::format("{} is not the key of the certificate in {}", options.key_file,
                                 options.certificate_file));
  }
  ERR_clear_error();
  if (!options.authority_file.empty()) {
    ReadCertificate(node, "authority", options.authority_file);
  }
}

}  // namespace conclave
