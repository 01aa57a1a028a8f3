#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::router {

// The caller to whom limits and cache salts belong.
struct TenantOptions {
  std::string name;  // 1 to 64 characters of A-Z a-z 0-9 . _ -
  std::vector<std::string>
      keys;               // Hex SHA-256 of each of its API keys: the keys themselves stand nowhere.
  int max_requests = 64;  // That run at a time.
  int max_agents = 256;   // Of the requests that run.
  double weight = 1;      // Its share of tokens when requests wait, against the others' weights.

  bool operator==(const TenantOptions&) const = default;
};

// Who may call. Immutable, so any thread may ask.
class Keys {
 public:
  // No tenants: everybody is the tenant "anonymous". kInvalidArgument: a digest that is no SHA-256,
  // or stands there twice.
  static absl::StatusOr<Keys> Make(const std::vector<TenantOptions>& tenants);

  // `authorization` is the header's value, "Bearer KEY". The tenant's name, or kUnauthenticated.
  absl::StatusOr<std::string> Authenticate(std::string_view authorization) const;

  // Whom Authenticate may name.
  std::set<std::string> tenants() const;

  bool open() const { return tenants_.empty(); }

 private:
  std::map<std::string, std::string> tenants_;  // By digest.
};

// Hex SHA-256 of `bytes`, as a config file holds it.
std::string DigestOf(std::string_view bytes);

inline constexpr char kAnonymous[] = "anonymous";

}  // namespace conclave::router
