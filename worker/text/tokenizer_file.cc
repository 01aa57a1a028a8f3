#include "worker/text/tokenizer_file.h"

#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/status.h"
#include "worker/text/post_processor.h"
#include "worker/text/tokenizer_json.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxAddedBytes = 256;
constexpr size_t kMaxEntryBytes = size_t{16} << 10;

// Reads one tokenizer.json. The methods return what is wrong; `name: ` is put in front.
class Reader {
 public:
  Reader(const Json& root, TokenizerFile& file) : root_(root), file_(file) {}

  absl::Status Read() {
    if (!root_.is_object()) return InvalidArgument("is not an object");
    ASSIGN_OR_RETURN(file_.normalizer, Normalizer::Parse(Member(root_, "normalizer")));
    ASSIGN_OR_RETURN(file_.pre_tokenizer, PreTokenizer::Parse(Member(root_, "pre_tokenizer")));
    RETURN_IF_ERROR(ReadPostProcessor(Member(root_, "post_processor"), file_.front, file_.back));
    ASSIGN_OR_RETURN(file_.decoder, TokenDecoder::Parse(Member(root_, "decoder"),
                                                        file_.pre_tokenizer.byte_level()));
    RETURN_IF_ERROR(ReadModel());
    for (const auto* ids : {&file_.front, &file_.back}) {
      for (const TokenId id : *ids) {
        if (id < 0 || id >= file_.bpe.size()) {
          return InvalidArgument("post_processor: {} is no token's id", id);
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ReadModel() {
    const Json& model = Member(root_, "model");
    const std::string type = TextMember(model, "type", "BPE");
    if (type != "BPE") return Unimplemented("model.type: {} is not supported; BPE is", type);
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!TextMember(model, key).empty()) return Unimplemented("model.{} is not supported", key);
    }
    const Json& dropout = Member(model, "dropout");
    if (!dropout.is_null() && dropout != 0) return Unimplemented("model.dropout is not supported");
    RETURN_IF_ERROR(ReadVocabulary(Member(model, "vocab")));
    RETURN_IF_ERROR(ReadMerges(Member(model, "merges")));
    RETURN_IF_ERROR(ReadUnknown(model));
    file_.bpe.set_whole_words_first(FlagMember(model, "ignore_merges"));
    return absl::OkStatus();
  }

  absl::Status ReadUnknown(const Json& model) {
    Bpe::Unknown unknown;
    unknown.byte_fallback = FlagMember(model, "byte_fallback");
    unknown.fuse = FlagMember(model, "fuse_unk");
    if (const std::string name = TextMember(model, "unk_token"); !name.empty()) {
      const auto found = ids_.find(name);
      if (found == ids_.end()) return InvalidArgument("model.unk_token: '{}' is no token", name);
      unknown.token = found->second;
    }
    file_.bpe.set_unknown(unknown);
    return absl::OkStatus();
  }

  // One past the greatest id that may be there: a few gaps are usual, and ids cost memory.
  size_t IdLimit() const {
    const Json& added = Member(root_, "added_tokens");
    return 65'536 + 2 * (Member(Member(root_, "model"), "vocab").size() + added.size());
  }
  std::optional<size_t> IdOf(const Json& id) const {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= IdLimit()) return std::nullopt;
    return id.get<size_t>();
  }
  void Put(size_t id, std::string entry) {
    if (id >= file_.entries.size()) file_.entries.resize(id + 1);
    file_.entries[id] = std::move(entry);
  }

  // The added tokens, and their place among the entries: what they say is their content.
  absl::Status ReadAdded() {
    const Json& list = Member(root_, "added_tokens");
    if (!list.is_array() && !list.is_null()) return InvalidArgument("added_tokens: is not a list");
    for (size_t i = 0; i < list.size(); ++i) {
      const Json& entry = list[i];
      AddedToken token;
      token.content = TextMember(entry, "content");
      const std::optional<size_t> id = IdOf(Member(entry, "id"));
      if (!id) return InvalidArgument("added_tokens[{}].id: is no id below {}", i, IdLimit());
      // A token that the vocabulary has, too, is that one.
      const auto known = ids_.find(token.content);
      token.in_vocabulary = known != ids_.end();
      token.id = token.in_vocabulary ? known->second : static_cast<TokenId>(*id);
      if (token.content.empty() || token.content.size() > kMaxAddedBytes) {
        return InvalidArgument("added_tokens[{}].content: has {} bytes; allowed are 1 to {}", i,
                               token.content.size(), kMaxAddedBytes);
      }
      token.special = FlagMember(entry, "special");
      token.single_word = FlagMember(entry, "single_word");
      token.lstrip = FlagMember(entry, "lstrip");
      token.rstrip = FlagMember(entry, "rstrip");
      token.normalized = FlagMember(entry, "normalized");
      if (!token.in_vocabulary) Put(*id, token.content);
      file_.added.push_back(std::move(token));
    }
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary(const Json& vocab) {
    if (!vocab.is_object() || vocab.empty()) return InvalidArgument("model.vocab: is missing");
    file_.entries.resize(vocab.size());
    ids_.reserve(vocab.size());
    for (const auto& [entry, value] : vocab.items()) {
      const std::optional<size_t> id = IdOf(value);
      if (!id) return InvalidArgument("model.vocab: '{}' has no id below {}", entry, IdLimit());
      if (entry.size() > kMaxEntryBytes) {
        return InvalidArgument("model.vocab: id {} has {} bytes; the limit is {}", *id,
                               entry.size(), kMaxEntryBytes);
      }
      if (*id < file_.entries.size() && !file_.entries[*id].empty()) {
        return InvalidArgument("model.vocab: id {} is there twice", *id);
      }
      Put(*id, entry);
      ids_.emplace(entry, static_cast<TokenId>(*id));
    }
    return FillModel();
  }

  absl::Status FillModel() {
    const bool byte_level = file_.pre_tokenizer.byte_level();
    std::vector<std::string> tokens = file_.entries;
    if (byte_level) {
      for (std::string& token : tokens) token = file_.decoder.BytesOf(token);
    }
    RETURN_IF_ERROR(ReadAdded());
    tokens.resize(file_.entries.size());
    for (const AddedToken& token : file_.added) {
      if (!token.in_vocabulary) tokens[token.id] = token.content;
    }
    file_.bpe.SetVocabulary(std::move(tokens),
                            byte_level ? Bpe::Symbols::kBytes : Bpe::Symbols::kCharacters);
    if (const int byte = file_.bpe.MissingByte(); byte_level && byte >= 0) {
      return InvalidArgument("model.vocab: has no token for the byte {:#04x}", byte);
    }
    for (const AddedToken& token : file_.added) {
      const bool character = ReadUtf8(token.content).bytes == token.content.size();
      // A character that any text may hold stays a token of it.
      const bool plain = byte_level ? token.content.size() == 1 : character && !token.special;
      if (!plain) file_.bpe.Withhold(token.id);
    }
    return absl::OkStatus();
  }

  // "left right", or ["left", "right"].
  static std::optional<std::pair<std::string, std::string>> HalvesOf(const Json& merge) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
    }
    if (!merge.is_string()) return std::nullopt;
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space == std::string::npos) return std::nullopt;
    return std::pair(text.substr(0, space), text.substr(space + 1));
  }

  absl::Status ReadMerges(const Json& merges) {
    if (!merges.is_array()) return InvalidArgument("model.merges: is missing");
    for (size_t i = 0; i < merges.size(); ++i) {
      const auto halves = HalvesOf(merges[i]);
      if (!halves || halves->first.empty() || halves->second.empty()) {
        return InvalidArgument("model.merges[{}]: is not a pair of tokens", i);
      }
      const auto left = ids_.find(halves->first), right = ids_.find(halves->second),
                 merged = ids_.find(halves->first + halves->second);
      if (left == ids_.end() || right == ids_.end() || merged == ids_.end()) {
        return InvalidArgument("model.merges[{}]: '{}' or '{}' or both together are no token", i,
                               halves->first, halves->second);
      }
      file_.bpe.AddMerge(left->second, right->second, merged->second);
    }
    return absl::OkStatus();
  }

  const Json& root_;
  TokenizerFile& file_;
  absl::flat_hash_map<std::string, TokenId> ids_;  // By the vocabulary's spelling.
};

}  // namespace

absl::StatusOr<TokenizerFile> ParseTokenizerFile(std::string_view json, const std::string& name) {
  ASSIGN_OR_RETURN(const Json root, ParseJson(json, name));
  TokenizerFile file;
  if (absl::Status status = Reader(root, file).Read(); !status.ok()) return Annotate(status, name);
  return file;
}

}  // namespace conclave::worker
