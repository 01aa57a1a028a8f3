#include "worker/text/tokenizer.h"

#include <absl/container/flat_hash_map.h>
#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <utility>

#include "common/status.h"
#include "worker/text/added_tokens.h"
#include "worker/text/json_text.h"
#include "worker/text/tokenizer_file.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";  // U+FFFD.

// Unicode's composed form (NFC). Each author's stretch for itself: what a caller wrote can't reach
// over and change a character of the template.
absl::StatusOr<MarkedString> Compose(const MarkedString& text) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(error);
  if (U_FAILURE(error)) return Internal("ICU has no NFC: {}", u_errorName(error));
  MarkedString composed;
  size_t begin = 0;
  for (const MarkedString::Run& run : text.runs()) {
    std::string piece;
    icu::StringByteSink<std::string> sink(&piece);
    const icu::StringPiece source(text.text().data() + begin, static_cast<int>(run.end - begin));
    nfc->normalizeUTF8(0, source, sink, nullptr, error);
    if (U_FAILURE(error)) return Internal("composing the text failed: {}", u_errorName(error));
    composed.Append(piece, run.author);
    begin = run.end;
  }
  return composed;
}

}  // namespace

// Everything that a tokenizer.json says, ready for use.
class Tokenizer::Tables {
 public:
  explicit Tables(TokenizerFile file) : file_(std::move(file)) {
    special_.assign(static_cast<size_t>(file_.bpe.size()), false);
    for (const AddedToken& token : file_.added) {
      special_[static_cast<size_t>(token.id)] = token.special;
      added_ids_.emplace(token.content, token.id);
      // Without a normaliser the two kinds do not differ.
      (token.normalized && file_.nfc ? composed_ : plain_).Add(token);
    }
  }

  absl::Status Encode(const MarkedString& text, std::vector<TokenId>& ids) const {
    for (const auto& stretch : plain_.Cut(text)) {
      if (stretch.token) {
        ids.push_back(*stretch.token);
        continue;
      }
      MarkedString piece = text.Slice(stretch.begin, stretch.end - stretch.begin);
      if (file_.nfc) {
        absl::StatusOr<MarkedString> composed = Compose(piece);
        if (!composed.ok()) return composed.status();
        piece = *std::move(composed);
      }
      if (absl::Status status = EncodeComposed(piece, ids); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  const Bpe& bpe() const { return file_.bpe; }
  bool is_special(TokenId id) const {
    return id >= 0 && id < bpe().size() && special_[static_cast<size_t>(id)];
  }
  std::optional<TokenId> IdOf(std::string_view content) const {
    const auto added = added_ids_.find(absl::string_view(content.data(), content.size()));
    if (added != added_ids_.end()) return added->second;
    const TokenId id = bpe().Find(content);
    if (id < 0) return std::nullopt;
    return id;
  }

 private:
  absl::Status EncodeComposed(const MarkedString& text, std::vector<TokenId>& ids) const {
    for (const auto& stretch : composed_.Cut(text)) {
      if (stretch.token) {
        ids.push_back(*stretch.token);
        continue;
      }
      const std::string_view words =
          std::string_view(text.text()).substr(stretch.begin, stretch.end - stretch.begin);
      if (absl::Status status = EncodeWords(words, ids); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status EncodeWords(std::string_view text, std::vector<TokenId>& ids) const {
    // ByteLevel puts its space in front before its own pattern splits; no other split comes before.
    std::string spaced;
    if (file_.prefix_space && text.front() != ' ') {
      spaced = " " + std::string(text);
      text = spaced;
    }
    std::vector<std::string_view> words = {text}, pieces;
    for (const SplitStep& step : file_.splits) {
      pieces.clear();
      for (const std::string_view word : words) {
        if (absl::Status status = step.pattern.Split(word, pieces); !status.ok()) return status;
      }
      words.swap(pieces);
    }
    for (const std::string_view word : words) file_.bpe.Encode(word, ids);
    return absl::OkStatus();
  }

  const TokenizerFile file_;
  AddedTokenFinder plain_, composed_;  // Looked for before and after normalisation.
  std::vector<bool> special_;
  absl::flat_hash_map<std::string, TokenId> added_ids_;
};

Tokenizer::Tokenizer(std::unique_ptr<const Tables> tables) : tables_(std::move(tables)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::filesystem::path& dir) {
  const std::filesystem::path path = dir / "tokenizer.json";
  absl::StatusOr<std::string> json = ReadFile(path, kMaxFileBytes);
  if (!json.ok()) return json.status();
  return Parse(*json, path.string());
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Parse(std::string_view json,
                                                            const std::string& name) {
  if (json.size() > kMaxFileBytes) {
    return InvalidArgument("{}: has {} bytes; the limit is {}", name, json.size(), kMaxFileBytes);
  }
  absl::StatusOr<TokenizerFile> file = ParseTokenizerFile(json, name);
  if (!file.ok()) return file.status();
  return std::unique_ptr<Tokenizer>(
      new Tokenizer(std::make_unique<const Tables>(*std::move(file))));
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(const MarkedString& text) const {
  if (text.size() > kMaxTextBytes) {
    return ResourceExhausted("text has {} bytes; the limit is {}", text.size(), kMaxTextBytes);
  }
  if (const size_t at = FirstInvalidUtf8(text.text()); at < text.size()) {
    return InvalidArgument("text is not valid UTF-8 at byte {}", at);
  }
  std::vector<TokenId> ids;
  if (absl::Status status = tables_->Encode(text, ids); !status.ok()) return status;
  return ids;
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(std::string_view text) const {
  return Encode(MarkedString::Caller(std::string(text)));
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::EncodeWithSpecials(std::string_view text) const {
  return Encode(MarkedString::Template(std::string(text)));
}

std::string Tokenizer::Decode(const std::vector<TokenId>& ids) const {
  std::string text;
  IncrementalDecoder decoder(*this);
  for (const TokenId id : ids) text += decoder.Feed(id);
  return text + decoder.Flush();
}

int Tokenizer::vocab_size() const { return tables_->bpe().size(); }
std::string_view Tokenizer::token_bytes(TokenId id) const { return tables_->bpe().bytes(id); }
bool Tokenizer::is_special(TokenId id) const { return tables_->is_special(id); }
std::optional<TokenId> Tokenizer::IdOf(std::string_view content) const {
  return tables_->IdOf(content);
}

void Utf8Assembler::Feed(std::string_view bytes, std::string& out) {
  half_ += bytes;
  std::string_view rest = half_;
  while (!rest.empty()) {
    const Utf8Front front = LookAtUtf8(rest);
    if (front.kind == Utf8Front::Kind::kHalf) break;
    if (front.kind == Utf8Front::Kind::kWhole) {
      out += rest.substr(0, front.bytes);
    } else {
      out += kReplacement;
    }
    rest.remove_prefix(front.bytes);
  }
  half_.erase(0, half_.size() - rest.size());
}

void Utf8Assembler::Flush(std::string& out) {
  if (!half_.empty()) out += kReplacement;
  half_.clear();
}

std::string IncrementalDecoder::Feed(TokenId id) {
  return tokenizer_->is_special(id) ? std::string() : FeedText(tokenizer_->token_bytes(id));
}

std::string IncrementalDecoder::FeedText(std::string_view bytes) {
  std::string out;
  assembler_.Feed(bytes, out);
  return out;
}

std::string IncrementalDecoder::Flush() {
  std::string out;
  assembler_.Flush(out);
  return out;
}

}  // namespace conclave::worker
