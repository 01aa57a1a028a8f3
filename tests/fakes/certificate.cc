#include "tests/fakes/certificate.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>

#include "common/check.h"

namespace conclave {

Certificate MakeCertificate(const std::string& folder, const std::string& name,
                            const std::string& names) {
  const Certificate files = {folder + "/" + name + ".pem", folder + "/" + name + ".key"};
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_NAME* subject = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, subject);
  X509_EXTENSION* whom = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names.c_str());
  CHECK(whom != nullptr);
  X509_add_ext(certificate, whom, -1);
  X509_set_pubkey(certificate, key);
  X509_sign(certificate, key, EVP_sha256());
  FILE* file = fopen(files.certificate.c_str(), "w");
  CHECK(file != nullptr);
  PEM_write_X509(file, certificate);
  fclose(file);
  file = fopen(files.key.c_str(), "w");
  CHECK(file != nullptr);
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  fclose(file);
  X509_EXTENSION_free(whom);
  X509_free(certificate);
  EVP_PKEY_free(key);
  return files;
}

}  // namespace conclave
