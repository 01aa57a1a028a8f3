#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/security/credentials.h>

#include <cstddef>
#include <memory>
#include <string>

#include "common/wire/credentials.h"

namespace conclave {

// Of one PEM file. Bundles of all public authorities have a quarter of it.
inline constexpr size_t kMostPemBytes = size_t{1} << 20;

// What the files of TlsOptions hold; empty where there is none.
struct Pems {
  std::string certificate, key, authority;
};

// kNotFound: there is no such file. kUnavailable: it can't be read. kInvalidArgument: it is no
// file, or too large a one; a certificate without its key, or the other way round.
absl::StatusOr<Pems> ReadPems(const TlsOptions& options);

// Plaintext without a certificate and an authority. Starts gRPC, which has threads.
std::shared_ptr<grpc::ChannelCredentials> ChannelCredentialsOf(const Pems& pems);

}  // namespace conclave
