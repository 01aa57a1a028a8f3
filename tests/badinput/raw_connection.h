#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave {

// One HTTP/2 connection made of bytes: for what no gRPC client would send. Blocking; one thread.
class RawConnection {
 public:
  // REQUIRES: somebody listens at "127.0.0.1:PORT".
  explicit RawConnection(const std::string& address);
  ~RawConnection();
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  void Send(std::string_view bytes);
  // No more bytes will follow; the peer's can still be read.
  void HalfClose();
  // How the peer ended the stream or the connection: "INVALID_ARGUMENT" and a message (the trailers
  // of a call), "RST_STREAM 8", "GOAWAY 1", "closed"; "open" when nothing of it came in time.
  struct End {
    std::string status, message;
  };
  End AwaitEnd(absl::Duration patience = absl::Seconds(30));
  // Everything until the peer closes the connection.
  std::string ReadAll(absl::Duration patience = absl::Seconds(30));
  // Waits for a frame of this type.
  bool AwaitFrame(uint8_t type, absl::Duration patience = absl::Seconds(30));

 private:
  // Reads more; false at the end or when it is too late.
  bool Receive(absl::Time deadline);

  int socket_ = -1;
  bool closed_ = false;
  std::string received_;
};

// Frame types and flags.
inline constexpr uint8_t kData = 0, kHeaders = 1, kReset = 3, kSettings = 4, kPing = 6, kGoAway = 7,
                         kWindowUpdate = 8, kContinuation = 9;
inline constexpr uint8_t kEndStream = 1, kEndHeaders = 4;

std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload);
// The client's preface and empty settings.
std::string Preface();
// One header, spelled out.
std::string Header(std::string_view name, std::string_view value);
// The header block of a gRPC call of `path`, with more headers behind.
std::string CallHeaders(std::string_view path,
                        const std::vector<std::pair<std::string, std::string>>& more = {});
// A message with gRPC's five bytes in front.
std::string GrpcMessage(std::string_view bytes, uint8_t flag = 0);
// A number of four bytes, the greatest first.
std::string Number(uint32_t number);

}  // namespace conclave
