#pragma once

#include <absl/status/status.h>

#include <string_view>

namespace conclave {

// Whether `text` can be listened on: HOST:PORT, the host a name, an IPv4 address or an IPv6 address
// in brackets, the port 0 (any) to 65535. Nothing is resolved. kInvalidArgument with the address
// and the form that is wanted.
absl::Status CheckListenAddress(std::string_view text);

// The same for an address to connect to: the port 1 to 65535; gRPC's own forms, as
// "dns:///groups:9101" and "unix:/run/x.sock", pass.
absl::Status CheckPeerAddress(std::string_view text);

}  // namespace conclave
