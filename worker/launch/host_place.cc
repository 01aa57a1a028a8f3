#include "worker/launch/host_place.h"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "common/status.h"
#include "worker/launch/rendezvous.h"

namespace conclave::worker {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

absl::StatusOr<GroupPlace> FromConfig(const HostsOptions& options) {
  if (options.index >= options.count) {
    return InvalidArgument("group.hosts.index is {}, and group.hosts.count {}", options.index,
                           options.count);
  }
  if (options.count > 1 && options.leader.empty()) {
    return InvalidArgument("group.hosts.leader must name host 0, for group.hosts.count is {}",
                           options.count);
  }
  GroupPlace place;
  place.hosts = options.count;
  place.host = options.index;
  place.leader = options.leader;
  place.port = options.port;
  return place;
}

// torchrun's own store may have the port that it names.
bool StoreHasPort(const std::function<const char*(const char*)>& variable) {
  const char* kept = variable("TORCHELASTIC_USE_AGENT_STORE");
  return kept != nullptr && std::string_view(kept) == "True";
}

absl::StatusOr<GroupPlace> FromEnvironment(
    const HostsOptions& options, const std::function<const char*(const char*)>& variable) {
  ASSIGN_OR_RETURN(const Rendezvous found, ReadRendezvous(variable));
  if (found.kind == Rendezvous::Kind::kAlone) {
    return InvalidArgument(
        "group.hosts.place is environment, and neither MASTER_ADDR nor LWS_LEADER_ADDRESS is set");
  }
  if (found.local_index > 0) {
    return InvalidArgument(
        "LOCAL_RANK is {}: start one process on each host, which starts its ranks",
        found.local_index);
  }
  GroupPlace place;
  place.hosts = found.size;
  place.host = found.index;
  place.leader = found.address;
  place.port = found.port == 0 || StoreHasPort(variable) ? options.port : found.port;
  return place;
}

absl::StatusOr<std::unique_ptr<addrinfo, FreeAddresses>> Resolve(const std::string& host,
                                                                 int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0) return Unavailable("host {} is not known: {}", host, gai_strerror(error));
  return std::unique_ptr<addrinfo, FreeAddresses>(list);
}

absl::StatusOr<std::string> Numbers(const sockaddr* address, socklen_t size) {
  std::array<char, NI_MAXHOST> text{};
  const int error =
      getnameinfo(address, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
  if (error != 0) return Unavailable("an address has no numbers: {}", gai_strerror(error));
  return std::string(text.data());
}

}  // namespace

std::string JoinHostPort(const std::string& host, int port) {
  const bool bare = host.find(':') != std::string::npos && !host.starts_with('[');
  return bare ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

std::string GroupPlace::coordinator() const { return JoinHostPort(leader, port); }

absl::StatusOr<GroupPlace> FindPlace(const HostsOptions& options, int tp,
                                     const std::function<const char*(const char*)>& variable) {
  ASSIGN_OR_RETURN(GroupPlace place, options.from_environment ? FromEnvironment(options, variable)
                                                              : FromConfig(options));
  place.address = options.address;
  if (tp % place.hosts != 0) {
    return InvalidArgument("group.tensor_parallel is {}: it does not divide among {} hosts", tp,
                           place.hosts);
  }
  return place;
}

// A datagram socket that is connected has chosen its way, and sent nothing.
absl::StatusOr<std::string> OwnAddress(const GroupPlace& place) {
  const std::string& towards = place.address.empty() ? place.leader : place.address;
  ASSIGN_OR_RETURN(const auto list, Resolve(towards, place.port));
  if (!place.address.empty()) return Numbers(list->ai_addr, list->ai_addrlen);
  const int fd = socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  const bool found = fd >= 0 && connect(fd, list->ai_addr, list->ai_addrlen) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!found) return Unavailable("no way to host 0 at {}: {}", towards, std::strerror(error));
  ASSIGN_OR_RETURN(std::string numbers, Numbers(reinterpret_cast<const sockaddr*>(&own), size));
  // As Debian's /etc/hosts has it for a machine's own name: no other host would find this one.
  const bool loopback = numbers.starts_with("127.") || numbers == "::1";
  if (loopback && numbers != towards && towards != "localhost") {
    return InvalidArgument("{} is {} here: set group.hosts.address", towards, numbers);
  }
  return numbers;
}

}  // namespace conclave::worker
