#include "router/fleet/resolver.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <set>

#include "common/status.h"

namespace conclave::router {
namespace {

// The address in digits; empty when it has none.
std::string HostOf(const addrinfo& entry) {
  char host[NI_MAXHOST];
  if (getnameinfo(entry.ai_addr, entry.ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST) !=
      0) {
    return "";
  }
  return host;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SystemResolver::Resolve(const std::string& name) {
  const size_t colon = name.rfind(':');
  if (colon == std::string::npos) return InvalidArgument("\"{}\" is not HOST:PORT", name);
  std::string host = name.substr(0, colon);
  const std::string port = name.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* entries = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, &hints, &entries);
  if (error != 0) {
    return Unavailable("{}: {}", host,
                       error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(entries, freeaddrinfo);
  std::set<std::string> v4, v6;
  for (const addrinfo* entry = entries; entry != nullptr; entry = entry->ai_next) {
    const std::string digits = HostOf(*entry);
    if (digits.empty()) continue;
    if (entry->ai_family == AF_INET) v4.insert(fmt::format("{}:{}", digits, port));
    if (entry->ai_family == AF_INET6) v6.insert(fmt::format("[{}]:{}", digits, port));
  }
  const std::set<std::string>& chosen = v4.empty() ? v6 : v4;
  if (chosen.empty()) return Unavailable("{}: no address", host);
  return std::vector<std::string>(chosen.begin(), chosen.end());
}

}  // namespace conclave::router
