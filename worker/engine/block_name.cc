#include "worker/engine/block_name.h"

#include <openssl/sha.h>

#include <array>
#include <cstring>
#include <string>

#include "common/check.h"

namespace conclave::worker {
namespace {

BlockName Digest(std::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  BlockName name;
  std::memcpy(&name.high, digest.data(), sizeof(name.high));
  std::memcpy(&name.low, digest.data() + sizeof(name.high), sizeof(name.low));
  return name;
}

// Each part with its length, so that no two lists of parts give the same bytes.
void Append(std::string& bytes, std::string_view part) {
  bytes += std::to_string(part.size());
  bytes += ':';
  bytes += part;
}

}  // namespace

BlockName RootName(std::string_view salt, const GroupShape& shape) {
  std::string bytes;
  Append(bytes, "conclave block root 1");
  Append(bytes, salt);
  Append(bytes, shape.weights_hash);
  Append(bytes, shape.numerics);
  Append(bytes, std::to_string(shape.tp));
  return Digest(bytes);
}

BlockName NextName(const BlockName& parent, std::span<const TokenId> tokens) {
  CHECK(!tokens.empty() && tokens.size() <= kBlockTokens);
  std::array<char, sizeof(BlockName) + kBlockTokens * sizeof(TokenId)> bytes;
  std::memcpy(bytes.data(), &parent.high, sizeof(parent.high));
  std::memcpy(bytes.data() + sizeof(parent.high), &parent.low, sizeof(parent.low));
  std::memcpy(bytes.data() + sizeof(BlockName), tokens.data(), tokens.size_bytes());
  return Digest({bytes.data(), sizeof(BlockName) + tokens.size_bytes()});
}

}  // namespace conclave::worker
