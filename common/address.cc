#include "common/address.h"

#include <charconv>

#include "common/status.h"

namespace conclave {
namespace {

absl::Status CheckHost(std::string_view text, std::string_view host) {
  if (host.empty()) {
    return InvalidArgument("\"{}\" names no host; 0.0.0.0 stands for all of this one", text);
  }
  if (host.front() == '[' && host.back() == ']') return absl::OkStatus();
  if (host.find(':') != std::string_view::npos) {
    return InvalidArgument(
        "\"{}\" has more than one colon; an IPv6 address needs brackets, as "
        "[::1]:9100",
        text);
  }
  if (host.find_first_of("/ \t[]") != std::string_view::npos) {
    return InvalidArgument("\"{}\" is not HOST:PORT, as 127.0.0.1:9100", text);
  }
  return absl::OkStatus();
}

absl::Status CheckHostAndPort(std::string_view text, int least_port) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return InvalidArgument("\"{}\" is not HOST:PORT, as 127.0.0.1:9100", text);
  }
  const std::string_view digits = text.substr(colon + 1);
  int port = -1;
  const char* end = digits.data() + digits.size();
  const auto [stopped, error] = std::from_chars(digits.data(), end, port);
  if (error != std::errc() || stopped != end || port < least_port || port > 65'535) {
    return InvalidArgument("\"{}\": the port must be {} to 65535", text, least_port);
  }
  return CheckHost(text, text.substr(0, colon));
}

}  // namespace

absl::Status CheckListenAddress(std::string_view text) { return CheckHostAndPort(text, 0); }

absl::Status CheckPeerAddress(std::string_view text) {
  for (const std::string_view scheme : {"dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:"}) {
    if (!text.starts_with(scheme)) continue;
    // A host may be called as a scheme is: "dns:9101" has a port behind it.
    const std::string_view rest = text.substr(scheme.size());
    if (rest.find_first_not_of("0123456789") != std::string_view::npos) return absl::OkStatus();
  }
  return CheckHostAndPort(text, 1);
}

}  // namespace conclave
