#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "common/config.h"

// Checks that the configs of several programs need; each complains where the value stands.
namespace conclave {

// The sections' `listen` keys: each an address that can be listened on, no two the same.
void CheckListeners(ConfigNode root,
                    std::initializer_list<std::pair<std::string_view, std::string>> listeners);

// The folder in which the file `path`, the value of `key`, would be made; nothing when it is empty.
void CheckFolderOf(ConfigNode& node, std::string_view key, const std::string& path);

// A folder that is made when it is missing: it, or the nearest one above it that is there.
void CheckFolderToMake(ConfigNode node, std::string_view key, const std::string& path);

}  // namespace conclave
