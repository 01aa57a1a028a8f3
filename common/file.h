#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

namespace conclave {

// The bytes of a regular file, links followed. Never waits for a writer. Errors begin with the
// path. kNotFound: there is no such file. kInvalidArgument: it is a folder, a pipe, a device, a
// link to itself, or has more than `max_bytes`. kUnavailable: it cannot be read (rights, disk).
absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes);

// The same; nothing when there is no such file.
absl::StatusOr<std::optional<std::string>> ReadFileIfThere(const std::filesystem::path& path,
                                                           size_t max_bytes);

// The same checks without reading: a descriptor, which the caller closes.
absl::StatusOr<int> OpenFile(const std::filesystem::path& path);

}  // namespace conclave
