#include "common/wire/credentials.h"

#include "common/file.h"
#include "common/status.h"
#include "common/wire/pems.h"

namespace conclave {
namespace {

// The file's bytes; nothing for an empty path.
absl::StatusOr<std::string> ReadPem(const std::string& path) {
  if (path.empty()) return std::string();
  absl::StatusOr<std::string> text = ReadFile(path, kMostPemBytes);
  if (!text.ok()) return Annotate(text.status(), "tls");
  return text;
}

}  // namespace

absl::StatusOr<Pems> ReadPems(const TlsOptions& options) {
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return InvalidArgument("tls: certificate and key go together");
  }
  Pems pems;
  ASSIGN_OR_RETURN(pems.certificate, ReadPem(options.certificate_file));
  ASSIGN_OR_RETURN(pems.key, ReadPem(options.key_file));
  ASSIGN_OR_RETURN(pems.authority, ReadPem(options.authority_file));
  return pems;
}

TlsOptions ReadTlsOptions(ConfigNode node) {
  TlsOptions options;
  node.Read("certificate", &options.certificate_file);
  node.Read("key", &options.key_file);
  node.Read("authority", &options.authority_file);
  if (options.certificate_file.empty() != options.key_file.empty()) {
    node.Fail("", "certificate and key go together");
  }
  return options;
}

TlsOptions ReadServerTlsOptions(ConfigNode node) {
  TlsOptions options = ReadTlsOptions(node);
  if (!options.authority_file.empty() && options.certificate_file.empty()) {
    node.Fail("authority", "a server that checks its clients needs a certificate of its own");
  }
  return options;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsOptions& options) {
  if (!options.enabled()) return grpc::InsecureServerCredentials();
  if (options.certificate_file.empty()) return InvalidArgument("tls: a server needs a certificate");
  ASSIGN_OR_RETURN(const Pems pems, ReadPems(options));
  grpc::SslServerCredentialsOptions ssl(
      pems.authority.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                             : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  ssl.pem_root_certs = pems.authority;
  ssl.pem_key_cert_pairs.push_back({pems.key, pems.certificate});
  return grpc::SslServerCredentials(ssl);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsOptions& options) {
  ASSIGN_OR_RETURN(const Pems pems, ReadPems(options));
  return ChannelCredentialsOf(pems);
}

std::shared_ptr<grpc::ChannelCredentials> ChannelCredentialsOf(const Pems& pems) {
  if (pems.certificate.empty() && pems.authority.empty()) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = pems.authority;
  ssl.pem_private_key = pems.key;
  ssl.pem_cert_chain = pems.certificate;
  return grpc::SslCredentials(ssl);
}

}  // namespace conclave
