#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "common/config.h"

namespace conclave {

// How one end of a connection is protected. Empty paths: plaintext, for loopback and trusted
// networks.
struct TlsOptions {
  std::string certificate_file;  // PEM chain of this end. Servers need it for TLS.
  std::string key_file;          // PEM key of the certificate.
  std::string authority_file;    // PEM roots that the other end must be signed by; a server then
                                 // demands client certificates.

  bool enabled() const { return !certificate_file.empty() || !authority_file.empty(); }

  bool operator==(const TlsOptions&) const = default;
};

// Reads the keys `certificate`, `key` and `authority` of a `tls` section; complains about keys that
// lack another one. The second is for the end that listens.
TlsOptions ReadTlsOptions(ConfigNode node);
TlsOptions ReadServerTlsOptions(ConfigNode node);

// kNotFound: a file can't be read. kInvalidArgument: a certificate without its key, or the other
// way round.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsOptions& options);
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsOptions& options);

}  // namespace conclave
