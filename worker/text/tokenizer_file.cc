#include "worker/text/tokenizer_file.h"

#include <absl/container/flat_hash_map.h>

#include <array>
#include <optional>
#include <utility>

#include "common/status.h"
#include "worker/text/json_text.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxTokenId = 1 << 24;
constexpr size_t kMaxAddedBytes = 1024;
// What GPT-2 splits with, which ByteLevel implies with use_regex.
constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Byte-level vocabularies write bytes as printable characters: Latin-1's printable ones stand for
// themselves, the others for U+0100 and up, in order.
class ByteAlphabet {
 public:
  ByteAlphabet() {
    byte_of_.fill(-1);
    int next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      byte_of_[static_cast<size_t>(printable ? byte : next++)] = static_cast<int16_t>(byte);
    }
  }

  // The bytes that a vocabulary's entry stands for. An entry outside of the alphabet means itself.
  std::string Bytes(const std::string& entry) const {
    std::string bytes;
    std::string_view rest = entry;
    while (!rest.empty()) {
      const Utf8Char c = ReadUtf8(rest);
      if (c.code >= byte_of_.size() || byte_of_[c.code] < 0) return entry;
      bytes += static_cast<char>(byte_of_[c.code]);
      rest.remove_prefix(c.bytes);
    }
    return bytes;
  }

 private:
  std::array<int16_t, 324> byte_of_;
};

// Reads one tokenizer.json. The methods return what is wrong; `name_: ` is put in front.
class Reader {
 public:
  Reader(const Json& root, TokenizerFile& file) : root_(root), file_(file) {}

  absl::Status Read() {
    if (!root_.is_object()) return InvalidArgument("is not an object");
    for (auto step : {&Reader::ReadNormalizer, &Reader::ReadPreTokenizers,
                      &Reader::CheckPostProcessor, &Reader::CheckDecoder, &Reader::ReadModel}) {
      if (absl::Status status = (this->*step)(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  static std::string TypeOf(const Json& node) { return TextMember(node, "type", "(no type)"); }

  // Calls visit(node) for a node, or for each member of a Sequence of them.
  template <typename Visit>
  static absl::Status ForEachIn(const Json& node, const char* members, Visit visit) {
    if (node.is_null()) return absl::OkStatus();
    if (TypeOf(node) != "Sequence") return visit(node);
    for (const Json& member : Member(node, members)) {
      if (absl::Status status = ForEachIn(member, members, visit); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::Status ReadNormalizer() {
    return ForEachIn(Member(root_, "normalizer"), "normalizers", [&](const Json& node) {
      if (TypeOf(node) != "NFC") {
        return Unimplemented("normalizer: {} is not supported; NFC is", TypeOf(node));
      }
      file_.nfc = true;
      return absl::OkStatus();
    });
  }

  absl::Status AddSplit(const std::string& pattern, SplitPattern::Options options) {
    absl::StatusOr<SplitPattern> compiled = SplitPattern::Compile(pattern, options);
    if (!compiled.ok()) return Annotate(compiled.status(), "pre_tokenizer");
    file_.splits.push_back({*std::move(compiled)});
    return absl::OkStatus();
  }

  absl::Status ReadSplit(const Json& node) {
    const std::string behavior = TextMember(node, "behavior");
    SplitPattern::Options options;
    options.invert = FlagMember(node, "invert");
    if (behavior == "Removed") {
      options.behavior = SplitPattern::Behavior::kRemoved;
    } else if (behavior != "Isolated") {
      return Unimplemented("pre_tokenizer: Split with behavior '{}' is not supported", behavior);
    }
    const Json& pattern = Member(node, "pattern");
    options.literal = Member(pattern, "String").is_string();
    const std::string text = TextMember(pattern, options.literal ? "String" : "Regex");
    if (text.empty()) return InvalidArgument("pre_tokenizer: Split lacks its pattern");
    return AddSplit(text, options);
  }

  absl::Status ReadPreTokenizers() {
    bool byte_level = false;
    absl::Status status =
        ForEachIn(Member(root_, "pre_tokenizer"), "pretokenizers", [&](const Json& node) {
          const std::string type = TypeOf(node);
          if (byte_level) return Unimplemented("pre_tokenizer: {} after ByteLevel", type);
          if (type == "Split") return ReadSplit(node);
          if (type == "Digits") {
            return AddSplit(FlagMember(node, "individual_digits") ? "\\p{N}" : "\\p{N}+", {});
          }
          if (type != "ByteLevel") return Unimplemented("pre_tokenizer: {} is not supported", type);
          byte_level = true;
          file_.prefix_space = FlagMember(node, "add_prefix_space");
          if (file_.prefix_space && !file_.splits.empty()) {
            return Unimplemented("pre_tokenizer: ByteLevel with add_prefix_space after a Split");
          }
          const Json& use_regex = Member(node, "use_regex");
          const bool splits = !use_regex.is_boolean() || use_regex.get<bool>();
          return splits ? AddSplit(kGpt2Pattern, {}) : absl::OkStatus();
        });
    if (status.ok() && !byte_level) {
      return Unimplemented("pre_tokenizer: only byte-level ones are supported, with ByteLevel");
    }
    return status;
  }

  // Prompts are written whole by the chat template, which puts its own tokens in front: a post
  // processor's are not wanted. Its kind is checked so that nothing else is overlooked.
  absl::Status CheckPostProcessor() {
    return ForEachIn(Member(root_, "post_processor"), "processors", [&](const Json& node) {
      const std::string type = TypeOf(node);
      if (type == "ByteLevel" || type == "TemplateProcessing") return absl::OkStatus();
      return Unimplemented("post_processor: {} is not supported", type);
    });
  }

  absl::Status CheckDecoder() {
    return ForEachIn(Member(root_, "decoder"), "decoders", [&](const Json& node) {
      if (TypeOf(node) == "ByteLevel") return absl::OkStatus();
      return Unimplemented("decoder: {} is not supported; ByteLevel is", TypeOf(node));
    });
  }

  absl::Status ReadModel() {
    const Json& model = Member(root_, "model");
    const std::string type = TextMember(model, "type", "BPE");
    if (type != "BPE") return Unimplemented("model.type: {} is not supported; BPE is", type);
    if (FlagMember(model, "byte_fallback")) {
      return Unimplemented("model.byte_fallback is not supported");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!TextMember(model, key).empty()) return Unimplemented("model.{} is not supported", key);
    }
    if (Member(model, "dropout").is_number() && Member(model, "dropout").get<double>() != 0) {
      return Unimplemented("model.dropout is not supported");
    }
    if (absl::Status status = ReadVocabulary(Member(model, "vocab")); !status.ok()) return status;
    if (absl::Status status = ReadMerges(Member(model, "merges")); !status.ok()) return status;
    file_.bpe.set_whole_words_first(FlagMember(model, "ignore_merges"));
    return absl::OkStatus();
  }

  // The added tokens, and their place in `bytes`: what they say is their content.
  absl::Status ReadAdded(std::vector<std::string>& bytes) {
    const Json& list = Member(root_, "added_tokens");
    if (!list.is_array() && !list.is_null()) return InvalidArgument("added_tokens: is not a list");
    for (const Json& entry : list) {
      AddedToken token;
      token.content = TextMember(entry, "content");
      const Json& id = Member(entry, "id");
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kMaxTokenId) {
        return InvalidArgument("added_tokens: '{}' has no valid id", token.content);
      }
      token.id = id.get<TokenId>();
      if (token.content.empty() || token.content.size() > kMaxAddedBytes) {
        return InvalidArgument("added_tokens: content of id {} has {} bytes; allowed are 1 to {}",
                               token.id, token.content.size(), kMaxAddedBytes);
      }
      token.special = FlagMember(entry, "special");
      token.single_word = FlagMember(entry, "single_word");
      token.lstrip = FlagMember(entry, "lstrip");
      token.rstrip = FlagMember(entry, "rstrip");
      token.normalized = FlagMember(entry, "normalized");
      const auto index = static_cast<size_t>(token.id);
      if (index >= bytes.size()) bytes.resize(index + 1);
      bytes[index] = token.content;
      file_.added.push_back(std::move(token));
    }
    return absl::OkStatus();
  }

  absl::Status ReadVocabulary(const Json& vocab) {
    if (!vocab.is_object() || vocab.empty()) return InvalidArgument("model.vocab: is missing");
    const ByteAlphabet alphabet;
    std::vector<std::string> bytes(vocab.size());
    ids_.reserve(vocab.size());
    for (const auto& [entry, id] : vocab.items()) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= kMaxTokenId) {
        return InvalidArgument("model.vocab: '{}' has no valid id", entry);
      }
      const auto index = id.get<size_t>();
      if (index >= bytes.size()) bytes.resize(index + 1);
      if (!bytes[index].empty()) return InvalidArgument("model.vocab: id {} is there twice", index);
      bytes[index] = alphabet.Bytes(entry);
      ids_.emplace(entry, static_cast<TokenId>(index));
    }
    if (absl::Status status = ReadAdded(bytes); !status.ok()) return status;
    int missing = 0;
    if (!file_.bpe.SetVocabulary(std::move(bytes), missing)) {
      return Unimplemented(
          "model.vocab: has no token for the byte {:#04x}, so it is not byte-level", missing);
    }
    for (const AddedToken& token : file_.added) {
      if (token.content.size() > 1) file_.bpe.Withhold(token.id);
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
      if (!halves) return InvalidArgument("model.merges[{}]: is not a pair of tokens", i);
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
  absl::StatusOr<nlohmann::json> root = ParseJson(json, name);
  if (!root.ok()) return root.status();
  TokenizerFile file;
  if (absl::Status status = Reader(*root, file).Read(); !status.ok()) {
    return Annotate(status, name);
  }
  return file;
}

}  // namespace conclave::worker
