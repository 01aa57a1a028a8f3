#include "worker/text/tokenizer.h"

#include <absl/container/flat_hash_map.h>

#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "worker/text/added_tokens.h"
#include "worker/text/json_text.h"
#include "worker/text/tokenizer_file.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";      // U+FFFD.
constexpr size_t kMaxAddedBytes = size_t{16} << 10;  // Of an added token that is normalised.

}  // namespace

// Everything that a tokenizer.json says, ready for use.
class Tokenizer::Tables {
 public:
  static absl::StatusOr<std::unique_ptr<const Tables>> Make(TokenizerFile file,
                                                            const std::string& name) {
    auto tables = std::make_unique<Tables>();
    tables->name_ = std::filesystem::path(name).filename().string();
    for (AddedToken token : file.added) {
      tables->added_ids_.emplace(token.content, token.id);
      // Without a normaliser the two kinds do not differ.
      const bool normalized = token.normalized && !file.normalizer.empty();
      if (normalized) {
        ASSIGN_OR_RETURN(const MarkedString content,
                         file.normalizer.Apply(MarkedString::Template(token.content)));
        if (content.empty()) continue;  // Nothing that could be found.
        if (content.size() > kMaxAddedBytes) {
          return InvalidArgument("added_tokens: '{}', normalised, has {} bytes; the limit is {}",
                                 token.content, content.size(), kMaxAddedBytes);
        }
        token.content = content.text();
      }
      (normalized ? tables->normalized_ : tables->plain_).Add(std::move(token));
    }
    tables->SetTexts(file);
    tables->file_ = std::move(file);
    return tables;
  }

  absl::Status Encode(const MarkedString& text, std::vector<TokenId>& ids) const {
    for (const auto& stretch : plain_.Cut(text)) {
      if (stretch.token) {
        ids.push_back(*stretch.token);
        continue;
      }
      MarkedString piece = text.Slice(stretch.begin, stretch.end - stretch.begin);
      if (!file_.normalizer.empty()) {
        ASSIGN_OR_RETURN(piece, file_.normalizer.Apply(std::move(piece)));
      }
      RETURN_IF_ERROR(EncodeNormalized(piece, stretch.begin == 0, ids));
    }
    return absl::OkStatus();
  }

  // For errors: clients see them.
  const std::string& name() const { return name_; }
  const TokenizerFile& file() const { return file_; }
  const Bpe& bpe() const { return file_.bpe; }
  bool known(TokenId id) const { return id >= 0 && static_cast<size_t>(id) < texts_.size(); }
  bool is_special(TokenId id) const { return known(id) && special_[static_cast<size_t>(id)]; }
  bool is_added(TokenId id) const { return known(id) && added_[static_cast<size_t>(id)]; }
  std::string_view text(TokenId id) const {
    return known(id) ? std::string_view(texts_[static_cast<size_t>(id)]) : std::string_view();
  }
  // As the first token of a text.
  std::string_view first_text(TokenId id) const {
    const auto found = first_texts_.find(id);
    return found == first_texts_.end() ? text(id) : std::string_view(found->second);
  }
  std::optional<TokenId> IdOf(std::string_view content) const {
    const auto added = added_ids_.find(absl::string_view(content.data(), content.size()));
    if (added != added_ids_.end()) return added->second;
    const TokenId id = bpe().Find(content);
    if (id < 0) return std::nullopt;
    return id;
  }

 private:
  // What each token says.
  void SetTexts(const TokenizerFile& file) {
    texts_.resize(file.entries.size());
    special_.assign(texts_.size(), false);
    added_.assign(texts_.size(), false);
    for (size_t id = 0; id < texts_.size(); ++id) {
      const std::string& entry = file.entries[id];
      texts_[id] = file.decoder.BytesOf(entry);
      if (!file.decoder.drops_first_mark()) continue;
      std::string first = file.decoder.FirstBytesOf(entry);
      if (first != texts_[id]) first_texts_.emplace(static_cast<TokenId>(id), std::move(first));
    }
    for (const AddedToken& token : file.added) {
      special_[static_cast<size_t>(token.id)] = token.special;
      added_[static_cast<size_t>(token.id)] = true;
      // The alphabet of bytes spells the vocabulary, not what was added to it.
      if (!token.in_vocabulary && file.pre_tokenizer.byte_level()) {
        texts_[static_cast<size_t>(token.id)] = token.content;
      }
    }
  }

  absl::Status EncodeNormalized(const MarkedString& text, bool at_start,
                                std::vector<TokenId>& ids) const {
    Words words;
    for (const auto& stretch : normalized_.Cut(text)) {
      if (stretch.token) {
        ids.push_back(*stretch.token);
        continue;
      }
      const std::string_view piece =
          std::string_view(text.text()).substr(stretch.begin, stretch.end - stretch.begin);
      RETURN_IF_ERROR(file_.pre_tokenizer.Cut(piece, at_start && stretch.begin == 0, words));
      for (const std::string_view word : words.words) file_.bpe.Encode(word, ids);
    }
    return absl::OkStatus();
  }

  std::string name_;  // The file's, without its folder.
  TokenizerFile file_;
  AddedTokenFinder plain_, normalized_;  // Looked for before and after normalisation.
  std::vector<std::string> texts_;       // By id.
  absl::flat_hash_map<TokenId, std::string> first_texts_;  // Where they differ at a text's start.
  std::vector<bool> special_, added_;
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
  absl::StatusOr<std::unique_ptr<const Tables>> tables = Tables::Make(*std::move(file), name);
  if (!tables.ok()) return Annotate(tables.status(), name);
  return std::unique_ptr<Tokenizer>(new Tokenizer(*std::move(tables)));
}

absl::StatusOr<std::vector<TokenId>> Tokenizer::Encode(const MarkedString& text) const {
  if (text.size() > kMaxTextBytes) {
    return ResourceExhausted("text has {} bytes; the limit is {}", text.size(), kMaxTextBytes);
  }
  if (const size_t at = FirstInvalidUtf8(text.text()); at < text.size()) {
    return InvalidArgument("text is not valid UTF-8 at byte {}", at);
  }
  std::vector<TokenId> ids;
  if (absl::Status status = tables_->Encode(text, ids); !status.ok()) {
    return Annotate(status, tables_->name());
  }
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

const std::vector<TokenId>& Tokenizer::front() const { return tables_->file().front; }
const std::vector<TokenId>& Tokenizer::back() const { return tables_->file().back; }
int Tokenizer::vocab_size() const { return tables_->bpe().size(); }
std::string_view Tokenizer::token_bytes(TokenId id) const { return tables_->text(id); }
bool Tokenizer::is_special(TokenId id) const { return tables_->is_special(id); }
bool Tokenizer::is_added(TokenId id) const { return tables_->is_added(id); }
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

IncrementalDecoder::IncrementalDecoder(const Tokenizer& tokenizer)
    : tokenizer_(&tokenizer), strip_left_(tokenizer.tables_->file().decoder.strip_count()) {}

std::string IncrementalDecoder::Feed(TokenId id) {
  const Tokenizer::Tables& tables = *tokenizer_->tables_;
  if (tables.is_special(id)) return "";
  return FeedText(std::exchange(first_, false) ? tables.first_text(id) : tables.text(id));
}

std::string IncrementalDecoder::FeedText(std::string_view bytes) {
  first_ = false;
  std::string out;
  assembler_.Feed(bytes, out);
  return Stripped(std::move(out));
}

std::string IncrementalDecoder::Flush() {
  std::string out;
  assembler_.Flush(out);
  return Stripped(std::move(out));
}

std::string IncrementalDecoder::Stripped(std::string text) {
  if (strip_left_ == 0 || text.empty()) return text;
  const char stripped = tokenizer_->tables_->file().decoder.strip_character();
  size_t count = 0;
  while (count < text.size() && strip_left_ > 0 && text[count] == stripped) {
    ++count;
    --strip_left_;
  }
  if (count < text.size()) strip_left_ = 0;
  return text.substr(count);
}

}  // namespace conclave::worker
