#include "worker/text/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

bool IsWordChar(uint32_t code) {
  const auto c = static_cast<UChar32>(code);
  return u_hasBinaryProperty(c, UCHAR_ALPHABETIC) != 0 || u_charType(c) == U_DECIMAL_DIGIT_NUMBER ||
         u_charType(c) == U_CONNECTOR_PUNCTUATION || (U_GET_GC_MASK(c) & U_GC_M_MASK) != 0;
}

bool InsideWord(std::string_view text, size_t begin, size_t end) {
  return (begin > 0 && IsWordChar(LastUtf8(text.substr(0, begin)).code)) ||
         (end < text.size() && IsWordChar(ReadUtf8(text.substr(end)).code));
}

}  // namespace

void AddedTokenFinder::Add(AddedToken token) {
  uint32_t node = 0;
  starts_[static_cast<unsigned char>(token.content[0])] = true;
  for (const char c : token.content) {
    const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(c);
    const auto [child, is_new] =
        children_.try_emplace(edge, static_cast<uint32_t>(token_at_.size()));
    if (is_new) token_at_.push_back(-1);
    node = child->second;
  }
  token_at_[node] = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(std::move(token));
}

const AddedToken* AddedTokenFinder::LongestAt(std::string_view text, size_t at) const {
  if (!starts_[static_cast<unsigned char>(text[at])]) return nullptr;
  const AddedToken* longest = nullptr;
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(text[i]);
    const auto child = children_.find(edge);
    if (child == children_.end()) break;
    node = child->second;
    if (token_at_[node] >= 0) longest = &tokens_[static_cast<size_t>(token_at_[node])];
  }
  return longest;
}

std::vector<AddedTokenFinder::Stretch> AddedTokenFinder::Cut(const MarkedString& text) const {
  std::vector<Stretch> stretches;
  const std::string_view bytes = text.text();
  size_t done = 0;
  const auto put = [&](size_t begin, size_t end, std::optional<TokenId> token) {
    if (begin < end) stretches.push_back({begin, end, token});
    done = end;
  };
  size_t run_begin = 0;
  for (const MarkedString::Run& run : text.runs()) {
    size_t at = std::max(done, run_begin);
    run_begin = run.end;
    if (run.author == Author::kCaller || empty()) continue;
    while (at < run.end) {
      const AddedToken* token = LongestAt(bytes.substr(0, run.end), at);
      if (token == nullptr) {
        ++at;
        continue;
      }
      size_t begin = at, end = at + token->content.size();
      at = end;
      if (token->single_word && InsideWord(bytes, begin, end)) continue;
      while (token->lstrip && begin > done) {
        const Utf8Char before = LastUtf8(bytes.substr(0, begin));
        const size_t start = begin - before.bytes;
        if (!IsWhiteSpace(before.code) || !text.WrittenByTemplate(start, begin)) break;
        begin = start;
      }
      while (token->rstrip && end < run.end) {
        const Utf8Char after = ReadUtf8(bytes.substr(end));
        if (!IsWhiteSpace(after.code)) break;
        end += after.bytes;
      }
      put(done, begin, std::nullopt);
      put(begin, end, token->id);
      at = end;
    }
  }
  put(done, text.size(), std::nullopt);
  return stretches;
}

}  // namespace conclave::worker
