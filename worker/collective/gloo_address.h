#pragma once

#include <absl/status/statusor.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// What a rank tells its peers before they connect: who it is, and a port for each of them.
struct GlooAddress {
  int64_t epoch = 0;
  int rank = 0, size = 0;
  // [rank]: IPv4 or IPv6, with a port; all zero at its own place.
  std::vector<sockaddr_storage> doors;
};

// "gloo/1 EPOCH RANK SIZE DOOR ...": a door is 10.0.0.1:4000, [fd00::1]:4000, or - at its own
// place.
std::string TextOf(const GlooAddress& address);

// Takes nothing but what TextOf makes, in any bytes that a network brings: kInvalidArgument.
absl::StatusOr<GlooAddress> ParseGlooAddress(std::string_view text);

// "10.0.0.1:4000" or "[fd00::1]:4000". REQUIRES: IPv4 or IPv6.
std::string TextOf(const sockaddr_storage& door);

// The first of a host's addresses that belongs to an interface here, with port 0. `host`: an IP
// address or a name, which is looked up. kInvalidArgument when there is none, or a wildcard.
absl::StatusOr<sockaddr_storage> LocalAddressOf(const std::string& host);

// Bytes of it that the system's calls take. REQUIRES: IPv4 or IPv6.
socklen_t BytesOf(const sockaddr_storage& door);

}  // namespace conclave::worker
