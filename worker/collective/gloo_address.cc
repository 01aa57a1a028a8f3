#include "worker/collective/gloo_address.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "common/check.h"
#include "common/status.h"
#include "worker/collective/gloo_collective.h"

namespace conclave::worker {
namespace {

constexpr std::string_view kFormat = "gloo/1";
constexpr size_t kFirstDoor = 4;

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// In the layout that the system's calls share: memory of sockaddr_storage, read as its family's.
sockaddr_in V4(const sockaddr_storage& door) {
  sockaddr_in v4;
  std::memcpy(&v4, &door, sizeof(v4));
  return v4;
}

sockaddr_in6 V6(const sockaddr_storage& door) {
  sockaddr_in6 v6;
  std::memcpy(&v6, &door, sizeof(v6));
  return v6;
}

template <typename Address>
sockaddr_storage Storage(const Address& address) {
  sockaddr_storage door = {};
  std::memcpy(&door, &address, sizeof(address));
  return door;
}

bool IsWildcard(const sockaddr_storage& door) {
  if (door.ss_family == AF_INET) return V4(door).sin_addr.s_addr == htonl(INADDR_ANY);
  const sockaddr_in6 v6 = V6(door);
  return IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
}

absl::StatusOr<sockaddr_storage> ParseDoor(std::string_view text) {
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon == text.npos || text.size() > INET6_ADDRSTRLEN + 8 ||
      !absl::SimpleAtoi(View(text.substr(colon + 1)), &port) || port < 1 || port > 65'535) {
    return InvalidArgument("a port is given as ADDRESS:PORT");
  }
  std::string host(text.substr(0, colon));
  sockaddr_storage door = {};
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    sockaddr_in6 v6 = {};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<uint16_t>(port));
    host = host.substr(1, host.size() - 2);
    if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) door = Storage(v6);
  } else {
    sockaddr_in v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<uint16_t>(port));
    if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) door = Storage(v4);
  }
  if (door.ss_family == AF_UNSPEC || IsWildcard(door)) {
    return InvalidArgument("no IP address before the port");
  }
  return door;
}

}  // namespace

socklen_t BytesOf(const sockaddr_storage& door) {
  CHECK(door.ss_family == AF_INET || door.ss_family == AF_INET6);
  return door.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

std::string TextOf(const sockaddr_storage& door) {
  CHECK(door.ss_family == AF_INET || door.ss_family == AF_INET6);
  char host[INET6_ADDRSTRLEN] = {};
  if (door.ss_family == AF_INET) {
    const sockaddr_in v4 = V4(door);
    inet_ntop(AF_INET, &v4.sin_addr, host, sizeof(host));
    return fmt::format("{}:{}", host, ntohs(v4.sin_port));
  }
  const sockaddr_in6 v6 = V6(door);
  inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof(host));
  return fmt::format("[{}]:{}", host, ntohs(v6.sin6_port));
}

std::string TextOf(const GlooAddress& address) {
  std::string text = fmt::format("{} {} {} {}", kFormat, address.epoch, address.rank, address.size);
  for (const sockaddr_storage& door : address.doors) {
    text += ' ';
    text += door.ss_family == AF_UNSPEC ? "-" : TextOf(door);
  }
  return text;
}

absl::StatusOr<GlooAddress> ParseGlooAddress(std::string_view text) {
  if (text.size() > kMaxGlooAddressBytes) {
    return InvalidArgument("it has {} bytes; the limit is {}", text.size(), kMaxGlooAddressBytes);
  }
  const std::vector<absl::string_view> fields = absl::StrSplit(View(text), ' ');
  GlooAddress address;
  if (fields.size() < kFirstDoor || fields[0] != View(kFormat) ||
      !absl::SimpleAtoi(fields[1], &address.epoch) || !absl::SimpleAtoi(fields[2], &address.rank) ||
      !absl::SimpleAtoi(fields[3], &address.size)) {
    return InvalidArgument("it does not begin with '{} EPOCH RANK SIZE'", kFormat);
  }
  if (address.size < 2 || address.size > kMaxGlooRanks ||
      fields.size() != kFirstDoor + static_cast<size_t>(address.size)) {
    return InvalidArgument("it says {} ranks and has ports for {}; groups have 2 to {}",
                           address.size, fields.size() - kFirstDoor, kMaxGlooRanks);
  }
  if (address.rank < 0 || address.rank >= address.size) {
    return InvalidArgument("it says rank {} of {}", address.rank, address.size);
  }
  for (int r = 0; r < address.size; ++r) {
    const absl::string_view field = fields[kFirstDoor + static_cast<size_t>(r)];
    if (r == address.rank) {
      if (field != "-") return InvalidArgument("it has a port for its own rank");
      address.doors.emplace_back();
      continue;
    }
    auto door = ParseDoor({field.data(), field.size()});
    if (!door.ok()) return Annotate(door.status(), fmt::format("its port for rank {}", r));
    address.doors.push_back(*door);
  }
  // Zero bytes, signs, leading zeros: numbers have one form.
  if (TextOf(address) != text) return InvalidArgument("it should be '{}'", TextOf(address));
  return address;
}

absl::StatusOr<sockaddr_storage> LocalAddressOf(const std::string& host) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* first = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &first);
  if (error != 0) return InvalidArgument("host '{}' has no address: {}", host, gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(first, &freeaddrinfo);
  int refused = EADDRNOTAVAIL;
  for (const addrinfo* each = first; each != nullptr; each = each->ai_next) {
    if (each->ai_family != AF_INET && each->ai_family != AF_INET6) continue;
    sockaddr_storage door = {};
    std::memcpy(&door, each->ai_addr, each->ai_addrlen);
    if (IsWildcard(door)) return InvalidArgument("host '{}' is every address; name one", host);
    const int fd = socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool bound = fd >= 0 && bind(fd, each->ai_addr, each->ai_addrlen) == 0;
    if (!bound) refused = errno;
    if (fd >= 0) close(fd);
    if (bound) return door;
  }
  return InvalidArgument("host '{}' is not an address of this machine: {}", host,
                         std::strerror(refused));
}

}  // namespace conclave::worker
