#include "worker/service/description.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>

#include "common/answer/answer_key.h"

namespace conclave::worker {

std::string Fingerprint(const GroupShape& shape, const TextModel& text) {
  const std::string said = fmt::format("conclave\nweights {}\ntext {}\ntp {}\nnumerics {}\n",
                                       shape.weights_hash, text.hash(), shape.tp, shape.numerics);
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(said.data()), said.size(), digest);
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

ModelDescription Describe(const std::string& name, const std::string& family, int64_t parameters,
                          const GroupShape& shape, const TextModel& text) {
  int64_t blocks = 0;
  for (const KvPoolShape& pool : shape.pools) {
    if (pool.window_tokens > 0) continue;
    blocks = blocks == 0 ? pool.num_blocks : std::min<int64_t>(blocks, pool.num_blocks);
  }
  return {.name = name,
          .fingerprint = Fingerprint(shape, text),
          .numerics = shape.numerics,
          .tensor_parallel = shape.tp,
          .max_positions = shape.max_positions,
          .max_agents = shape.max_slots,
          .kv_tokens = blocks * kBlockTokens,
          .parameters = parameters,
          .decision_version = kDecisionVersion,
          .family = family,
          .vocabulary = shape.vocab_size,
          .profile = text.prompt_profile()};
}

}  // namespace conclave::worker
