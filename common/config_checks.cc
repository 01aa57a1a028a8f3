#include "common/config_checks.h"

#include <unistd.h>

#include <filesystem>
#include <map>
#include <system_error>

#include "common/address.h"
#include "common/status.h"

namespace conclave {

void CheckListeners(ConfigNode root,
                    std::initializer_list<std::pair<std::string_view, std::string>> listeners) {
  std::map<std::string, std::string_view> seen;
  for (const auto& [section, address] : listeners) {
    ConfigNode node = root.Section(section);
    if (const absl::Status status = CheckListenAddress(address); !status.ok()) {
      node.Fail("listen", MessageOf(status));
      continue;
    }
    const auto [other, is_new] = seen.emplace(address, section);
    if (is_new || address.ends_with(":0")) continue;
    node.Fail("listen", fmt::format("\"{}\" is {}.listen too", address, other->second));
  }
}

namespace {

void CheckWritable(ConfigNode& node, std::string_view key, std::filesystem::path folder) {
  if (folder.empty()) folder = ".";
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    node.Fail(key, fmt::format("{} is not a folder", folder.string()));
  } else if (access(folder.c_str(), W_OK) != 0) {
    node.Fail(key, fmt::format("{} may not be written to", folder.string()));
  }
}

}  // namespace

void CheckFolderOf(ConfigNode& node, std::string_view key, const std::string& path) {
  if (!path.empty()) CheckWritable(node, key, std::filesystem::path(path).parent_path());
}

void CheckFolderToMake(ConfigNode node, std::string_view key, const std::string& path) {
  if (path.empty()) return;
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  std::error_code error;
  while (folder.has_relative_path() && !std::filesystem::exists(folder, error)) {
    folder = folder.parent_path();
  }
  CheckWritable(node, key, folder);
}

}  // namespace conclave
