#include "router/contemplation/receipt.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <bit>
#include <memory>
#include <utility>

#include "common/check.h"

namespace conclave::router {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    CHECK(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }

  void Bytes(std::string_view bytes) {
    CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }

  void Number(uint64_t value, int bytes) {
    std::array<char, 8> little{};
    for (int i = 0; i < bytes; ++i) little[i] = static_cast<char>(value >> (8 * i) & 0xffu);
    Bytes({little.data(), static_cast<size_t>(bytes)});
  }

  std::string Hex() {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    CHECK(EVP_DigestFinal_ex(context_.get(), digest.data(), &size) == 1);
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
    return hex;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string ResultHash(const std::vector<KeptTokens>& agents, const std::vector<Vote>& votes,
                       VoteWeight weight, std::string_view answer) {
  const bool weighted = weight != VoteWeight::kOne;
  Sha256 hash;
  hash.Bytes(weighted ? "conclave result 2 weighted\n" : "conclave result 1\n");
  hash.Number(static_cast<uint64_t>(std::count_if(agents.begin(), agents.end(),
                                                  [](const auto& a) { return a.kept > 0; })),
              4);
  for (const KeptTokens& agent : agents) {
    if (agent.kept == 0) continue;
    hash.Number(static_cast<uint32_t>(agent.agent), 4);
    hash.Number(static_cast<uint64_t>(agent.kept), 4);
    for (int i = 0; i < agent.kept; ++i) {
      hash.Number(static_cast<uint32_t>(agent.transcript->tokens()[i].token.id), 4);
    }
  }
  hash.Number(votes.size(), 4);
  for (const Vote& vote : votes) {
    hash.Number(vote.answer.size(), 4);
    hash.Bytes(vote.answer);
    hash.Number(static_cast<uint64_t>(vote.count), 4);
    if (weighted) hash.Number(std::bit_cast<uint64_t>(vote.weight), 8);
  }
  hash.Number(answer.size(), 8);
  hash.Bytes(answer);
  return hash.Hex();
}

void PromptBill::Accepted(AgentId agent, int prompt_tokens) {
  any_ = true;
  if (prompts_.empty()) usage_.first = prompt_tokens;
  if (!prompts_.try_emplace(agent, prompt_tokens).second) return;
  usage_.total += prompt_tokens;
  fresh_ += prompt_tokens;
}

void PromptBill::Ended(const FamilyTotals& totals) {
  const int64_t computed = std::min(totals.prompt_computed, fresh_);
  usage_.computed += computed;
  usage_.shared += fresh_ - computed;
  usage_.recomputed += totals.recomputed + totals.prompt_computed - computed;
  const int64_t again = std::min(totals.probed, std::exchange(probe_tokens_again_, 0));
  usage_.recomputed += again;
  probe_tokens_ += totals.probed - again;
  probe_tokens_heard_ = 0;
  fresh_ = 0;
  any_ = false;
}

void PromptBill::Lost() {
  if (any_) incomplete_ = true;
  usage_.computed += fresh_;
  usage_.recomputed += std::exchange(probe_tokens_again_, 0);
  probe_tokens_ += std::exchange(probe_tokens_heard_, 0);
  fresh_ = 0;
  any_ = false;
}

PromptUsage PromptBill::usage() const {
  CHECK(fresh_ == 0);
  return usage_;
}

}  // namespace conclave::router
