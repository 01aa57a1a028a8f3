#include "worker/collective/nccl/nccl_environment.h"

#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "common/status.h"

namespace conclave::worker {
namespace {

struct FreeInterfaces {
  void operator()(ifaddrs* list) const { freeifaddrs(list); }
};

struct Interface {
  std::string name;
  int family = AF_UNSPEC;
};

// The interface that has this address.
absl::StatusOr<Interface> InterfaceOf(const std::string& address) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) {
    return Unavailable("cannot list the interfaces: {}", std::strerror(errno));
  }
  const std::unique_ptr<ifaddrs, FreeInterfaces> interfaces(list);
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    const int family = each->ifa_addr == nullptr ? AF_UNSPEC : each->ifa_addr->sa_family;
    const socklen_t size = family == AF_INET    ? sizeof(sockaddr_in)
                           : family == AF_INET6 ? sizeof(sockaddr_in6)
                                                : 0;
    char text[NI_MAXHOST];
    if (size > 0 &&
        getnameinfo(each->ifa_addr, size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0 &&
        address == text) {
      const std::string name = each->ifa_name;  // Or a label of it: eth0:1.
      return Interface{name.substr(0, name.find(':')), family};
    }
  }
  return InvalidArgument("no interface here has the address {}: set group.hosts.address", address);
}

// NCCL takes the first address of an interface that is of this family.
absl::Status MeetAt(const std::string& address) {
  if (std::getenv("NCCL_SOCKET_IFNAME") != nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Interface interface, InterfaceOf(address));
  setenv("NCCL_SOCKET_IFNAME", ("=" + interface.name).c_str(), 0);
  setenv("NCCL_SOCKET_FAMILY", interface.family == AF_INET6 ? "AF_INET6" : "AF_INET", 0);
  return absl::OkStatus();
}

}  // namespace

absl::Status PrepareEnvironment(const NcclOptions& options) {
  if (options.address.empty()) {
    setenv("NCCL_SOCKET_IFNAME", "=lo", 0);
  } else {
    RETURN_IF_ERROR(MeetAt(options.address));
  }
  setenv("NCCL_RAS_ENABLE", "0", 0);
  if (!options.device_is_shared) return absl::OkStatus();
  setenv("NCCL_HOSTID", fmt::format("conclave-rank-{}", options.rank).c_str(), 0);
  setenv("NCCL_NET", "Socket", 0);
  setenv("NCCL_IB_DISABLE", "1", 0);
  return absl::OkStatus();
}

}  // namespace conclave::worker
