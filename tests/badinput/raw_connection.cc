#include "tests/badinput/raw_connection.h"

#include <absl/status/status.h>
#include <absl/time/clock.h>
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "common/check.h"

namespace conclave {
namespace {

constexpr size_t kFrameHeader = 9;

uint32_t NumberAt(std::string_view bytes, size_t at, size_t width) {
  uint32_t number = 0;
  for (size_t i = 0; i < width; ++i) number = number << 8 | static_cast<uint8_t>(bytes[at + i]);
  return number;
}

// The value that follows a name which is spelled out, as gRPC's first answer on a connection spells
// it; empty when the name is not there.
std::string ValueOf(std::string_view block, std::string_view name) {
  const size_t at = block.find(name);
  if (at == std::string_view::npos) return "";
  const size_t length_at = at + name.size();
  size_t length = static_cast<uint8_t>(block[length_at]), begin = length_at + 1;
  if (length == 127) {  // More bytes of the length follow.
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(block[begin++]);
      length += static_cast<size_t>(byte & 127) << shift;
      if (byte < 128) break;
    }
  }
  return std::string(block.substr(begin, length));
}

// "%20" and the like undone.
std::string Unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      plain += static_cast<char>(std::strtol(text.substr(i + 1, 2).c_str(), nullptr, 16));
      i += 2;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::string Number(uint32_t number) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(number >> shift);
  return bytes;
}

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string frame = Number(static_cast<uint32_t>(payload.size())).substr(1);
  frame += static_cast<char>(type);
  frame += static_cast<char>(flags);
  return frame + Number(stream) + std::string(payload);
}

std::string Preface() { return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + Frame(kSettings, 0, 0, ""); }

std::string Header(std::string_view name, std::string_view value) {
  std::string bytes(1, '\0');  // Neither indexed nor to be.
  for (const std::string_view part : {name, value}) {
    size_t length = part.size();
    if (length < 127) {
      bytes += static_cast<char>(length);
    } else {
      bytes += static_cast<char>(127);
      for (length -= 127; length >= 128; length >>= 7) {
        bytes += static_cast<char>((length & 127) | 128);
      }
      bytes += static_cast<char>(length);
    }
    bytes += part;
  }
  return bytes;
}

std::string CallHeaders(std::string_view path,
                        const std::vector<std::pair<std::string, std::string>>& more) {
  std::string block = Header(":method", "POST") + Header(":scheme", "http") +
                      Header(":path", path) + Header(":authority", "localhost") +
                      Header("te", "trailers") + Header("content-type", "application/grpc");
  for (const auto& [name, value] : more) block += Header(name, value);
  return block;
}

std::string GrpcMessage(std::string_view bytes, uint8_t flag) {
  return std::string(1, static_cast<char>(flag)) + Number(static_cast<uint32_t>(bytes.size())) +
         std::string(bytes);
}

RawConnection::RawConnection(const std::string& address) {
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(connect(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
}

RawConnection::~RawConnection() { close(socket_); }

void RawConnection::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return;  // The peer has closed it: what it said before can still be read.
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

void RawConnection::HalfClose() { shutdown(socket_, SHUT_WR); }

bool RawConnection::Receive(absl::Time deadline) {
  if (closed_) return false;
  pollfd readable = {socket_, POLLIN, 0};
  const int64_t left = absl::ToInt64Milliseconds(deadline - absl::Now());
  if (left <= 0 || poll(&readable, 1, static_cast<int>(left)) <= 0) return false;
  char bytes[16384];
  const ssize_t count = recv(socket_, bytes, sizeof bytes, 0);
  if (count > 0) received_.append(bytes, static_cast<size_t>(count));
  closed_ = count <= 0;
  return !closed_;
}

std::string RawConnection::ReadAll(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (Receive(deadline)) {
  }
  return received_;
}

bool RawConnection::AwaitFrame(uint8_t type, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  size_t at = 0;
  while (true) {
    while (at + kFrameHeader <= received_.size()) {
      if (static_cast<uint8_t>(received_[at + 3]) == type) return true;
      at += kFrameHeader + NumberAt(received_, at, 3);
    }
    if (!Receive(deadline)) return false;
  }
}

RawConnection::End RawConnection::AwaitEnd(absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  size_t at = 0;
  while (true) {
    while (at + kFrameHeader <= received_.size()) {
      const size_t length = NumberAt(received_, at, 3);
      if (at + kFrameHeader + length > received_.size()) break;
      const std::string_view payload =
          std::string_view(received_).substr(at + kFrameHeader, length);
      const auto type = static_cast<uint8_t>(received_[at + 3]);
      at += kFrameHeader + length;
      const std::string code = type == kHeaders ? ValueOf(payload, "grpc-status") : "";
      if (!code.empty()) {
        const auto status = static_cast<absl::StatusCode>(std::atoi(code.c_str()));
        return {absl::StatusCodeToString(status), Unescaped(ValueOf(payload, "grpc-message"))};
      }
      if (type == kReset) return {fmt::format("RST_STREAM {}", NumberAt(payload, 0, 4)), ""};
      if (type == kGoAway) {
        return {fmt::format("GOAWAY {}", NumberAt(payload, 4, 4)), std::string(payload.substr(8))};
      }
    }
    if (!Receive(deadline)) return {closed_ ? "closed" : "open", ""};
  }
}

}  // namespace conclave
