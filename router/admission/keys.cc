#include "router/admission/keys.h"

#include <openssl/sha.h>

#include "common/status.h"

namespace conclave::router {
namespace {

constexpr std::string_view kScheme = "Bearer ";
constexpr size_t kMostKeyBytes = 1024;

bool IsDigest(std::string_view text) {
  return text.size() == 2 * SHA256_DIGEST_LENGTH &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::string DigestOf(std::string_view bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

absl::StatusOr<Keys> Keys::Make(const std::vector<TenantOptions>& tenants) {
  Keys keys;
  for (const TenantOptions& tenant : tenants) {
    if (tenant.keys.empty()) return InvalidArgument("tenant {} has no key", tenant.name);
    for (const std::string& digest : tenant.keys) {
      if (!IsDigest(digest)) {
        return InvalidArgument("tenant {}: a key must be 64 lower-case hex digits, its SHA-256",
                               tenant.name);
      }
      if (!keys.tenants_.emplace(digest, tenant.name).second) {
        return InvalidArgument("tenant {}: a key is there twice", tenant.name);
      }
    }
  }
  return keys;
}

std::set<std::string> Keys::tenants() const {
  if (open()) return {kAnonymous};
  std::set<std::string> names;
  for (const auto& [digest, name] : tenants_) names.insert(name);
  return names;
}

absl::StatusOr<std::string> Keys::Authenticate(std::string_view authorization) const {
  if (open()) return std::string(kAnonymous);
  if (authorization.substr(0, kScheme.size()) != kScheme) {
    return Unauthenticated("an API key is needed: authorization: Bearer KEY");
  }
  const std::string_view key = authorization.substr(kScheme.size());
  // Only digests are compared, so the time that takes tells nothing about a key.
  const auto tenant = key.size() > kMostKeyBytes ? tenants_.end() : tenants_.find(DigestOf(key));
  if (tenant == tenants_.end()) return Unauthenticated("the API key is not known");
  return tenant->second;
}

}  // namespace conclave::router
