#pragma once

#include <absl/status/status.h>
#include <grpcpp/support/status.h>

namespace conclave {

// The only converter between our statuses and gRPC's. Details (common/status_details.h) travel as
// google.rpc messages in grpc-status-details-bin.
grpc::Status ToGrpc(const absl::Status& status);

// Codes outside of gRPC's become kUnknown; details that can't be read are left out; at most 32 of
// each kind are taken.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace conclave
