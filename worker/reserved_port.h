#pragma once

#include <absl/status/statusor.h>

#include <string>

namespace conclave::worker {

// A TCP address that the launcher keeps for its ranks: bound, never listening, shareable
// (SO_REUSEADDR and SO_REUSEPORT). So a port that the system chose stays the same over restarts of
// the leader, which binds it again and listens, and nobody else is given it in between. Movable;
// the destructor lets go.
class ReservedPort {
 public:
  // "127.0.0.1:9101", "[::1]:0", "localhost:0"; port 0: any. kInvalidArgument: not HOST:PORT, or an
  // unknown host. kUnavailable: somebody listens there, or the system refuses.
  static absl::StatusOr<ReservedPort> Take(const std::string& address);

  ReservedPort(ReservedPort&& other) noexcept;
  ReservedPort& operator=(ReservedPort&& other) noexcept;
  ~ReservedPort();

  int port() const { return port_; }
  const std::string& address() const { return address_; }  // With the port that it has.

 private:
  ReservedPort(int socket, std::string address, int port)
      : socket_(socket), address_(std::move(address)), port_(port) {}

  int socket_ = -1;
  std::string address_;
  int port_ = 0;
};

}  // namespace conclave::worker
