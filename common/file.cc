#include "common/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/status.h"

namespace conclave {
namespace {

absl::Status WhyNot(const std::filesystem::path& path, int error) {
  const char* why = std::strerror(error);
  if (error == ENOENT || error == ENOTDIR) return NotFound("{}: {}", path.string(), why);
  if (error == ELOOP || error == ENAMETOOLONG || error == ENXIO) {
    return InvalidArgument("{}: {}", path.string(), why);
  }
  return Unavailable("{}: {}", path.string(), why);
}

// Closes it when it leaves scope.
struct Descriptor {
  int number;
  ~Descriptor() { close(number); }
};

}  // namespace

absl::StatusOr<int> OpenFile(const std::filesystem::path& path) {
  // Opening a pipe would wait for its writer.
  const int number = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (number < 0) return WhyNot(path, errno);
  struct stat about = {};
  if (fstat(number, &about) == 0 && S_ISREG(about.st_mode)) return number;
  close(number);
  return InvalidArgument("{}: is {}", path.string(),
                         S_ISDIR(about.st_mode) ? "a folder" : "no regular file");
}

absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes) {
  ASSIGN_OR_RETURN(const int number, OpenFile(path));
  const Descriptor file{number};
  struct stat about = {};
  if (fstat(file.number, &about) != 0) return WhyNot(path, errno);
  const auto size = static_cast<size_t>(about.st_size);
  if (size > max_bytes) {
    return InvalidArgument("{}: has {} bytes; the limit is {}", path.string(), size, max_bytes);
  }
  // One byte more than there should be: whether it grew meanwhile.
  std::string bytes(size + 1, '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = read(file.number, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return WhyNot(path, errno);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  if (done != size) {
    return Unavailable("{}: had {} bytes and changed while it was read", path.string(), size);
  }
  bytes.resize(size);
  return bytes;
}

absl::StatusOr<std::optional<std::string>> ReadFileIfThere(const std::filesystem::path& path,
                                                           size_t max_bytes) {
  absl::StatusOr<std::string> bytes = ReadFile(path, max_bytes);
  if (absl::IsNotFound(bytes.status())) return std::nullopt;
  if (!bytes.ok()) return bytes.status();
  return *std::move(bytes);
}

}  // namespace conclave
