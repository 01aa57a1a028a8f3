#include "worker/text/token_decoder.h"

#include <array>
#include <charconv>

#include "common/status.h"
#include "worker/text/tokenizer_json.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Json = nlohmann::json;

constexpr int kMostStripped = 16;

// Byte-level vocabularies write bytes as printable characters: Latin-1's printable ones stand for
// themselves, the others for U+0100 and up, in order.
constexpr std::array<int16_t, 324> MakeAlphabet() {
  std::array<int16_t, 324> byte_of{};
  for (int16_t& byte : byte_of) byte = -1;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    byte_of[static_cast<size_t>(printable ? byte : next++)] = static_cast<int16_t>(byte);
  }
  return byte_of;
}
constexpr std::array<int16_t, 324> kByteOf = MakeAlphabet();

std::string SpelledBytes(const std::string& entry) {
  std::string bytes;
  std::string_view rest = entry;
  while (!rest.empty()) {
    const Utf8Char c = ReadUtf8(rest);
    if (c.code >= kByteOf.size() || kByteOf[c.code] < 0) return entry;
    bytes += static_cast<char>(kByteOf[c.code]);
    rest.remove_prefix(c.bytes);
  }
  return bytes;
}

std::string Replaced(const std::string& text, const std::string& from, const std::string& to) {
  std::string result;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string::npos; begin = at + from.size()) {
    result.append(text, begin, at - begin).append(to);
  }
  return result.append(text, begin);
}

// The byte that "<0x0A>" names, or -1.
int NamedByte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = -1;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  return error == std::errc() && end == token.data() + 5 ? byte : -1;
}

}  // namespace

// Steps must come in this order: Replace and Metaspace, ByteFallback, Fuse, Strip. Any other would
// mean something that is not done token by token.
struct TokenDecoder::Reader {
  TokenDecoder& out;
  int stage = 0;
  bool fused = false;

  absl::Status Enter(int next, const std::string& path, const std::string& type) {
    if (next < stage) return Unimplemented("{}: {} this late is not supported", path, type);
    stage = next;
    return absl::OkStatus();
  }

  absl::Status Read(const Json& node, const std::string& path) {
    const std::string type = TypeOf(node);
    if (out.byte_level_) {
      if (type == "ByteLevel" || type == "Fuse") return absl::OkStatus();
      return Unimplemented("{}: {} is not supported for a byte-level vocabulary", path, type);
    }
    if (type == "Replace") return ReadReplace(node, path);
    if (type == "Metaspace") return ReadMetaspace(node, path);
    if (type == "ByteFallback") {
      out.byte_fallback_ = true;
      return Enter(1, path, type);
    }
    if (type == "Fuse") {
      fused = true;
      return Enter(2, path, type);
    }
    if (type == "Strip") return ReadStrip(node, path);
    return Unimplemented("{}: {} is not supported", path, type);
  }

  absl::Status ReadReplace(const Json& node, const std::string& path) {
    RETURN_IF_ERROR(Enter(0, path, "Replace"));
    const Json& pattern = Member(node, "pattern");
    if (!Member(pattern, "String").is_string()) {
      return Unimplemented("{}.pattern: only a String is supported here", path);
    }
    ASSIGN_OR_RETURN(const std::string from, InsertedText(pattern, path + ".pattern", "String"));
    ASSIGN_OR_RETURN(const std::string to, InsertedText(node, path, "content"));
    if (from.empty()) return InvalidArgument("{}.pattern: is empty", path);
    out.replaced_.emplace_back(from, to);
    return absl::OkStatus();
  }

  absl::Status ReadMetaspace(const Json& node, const std::string& path) {
    RETURN_IF_ERROR(Enter(0, path, "Metaspace"));
    ASSIGN_OR_RETURN(const std::string mark, InsertedText(node, path, "replacement"));
    if (mark.empty()) return InvalidArgument("{}.replacement: is empty", path);
    if (!out.replaced_.empty()) return Unimplemented("{}: Metaspace after another step", path);
    const Json& prefix = Member(node, "add_prefix_space");
    const bool marked = !prefix.is_boolean() || prefix.get<bool>();
    if (TextMember(node, "prepend_scheme", marked ? "always" : "never") != "never") {
      out.first_mark_ = mark;
    }
    out.replaced_.emplace_back(mark, " ");
    return absl::OkStatus();
  }

  absl::Status ReadStrip(const Json& node, const std::string& path) {
    RETURN_IF_ERROR(Enter(3, path, "Strip"));
    const Json &start = Member(node, "start"), &stop = Member(node, "stop");
    const std::string content = TextMember(node, "content");
    if (!fused) return Unimplemented("{}: Strip without Fuse is not supported", path);
    if (content.size() != 1 || (content[0] & 0x80) != 0) {
      return Unimplemented("{}.content: '{}' is no ASCII character", path, content);
    }
    if (!start.is_number_integer() || start.get<int64_t>() < 0 ||
        start.get<int64_t>() > kMostStripped) {
      return InvalidArgument("{}.start: is {}; it can be 0 to {}", path, start.dump(),
                             kMostStripped);
    }
    if (!stop.is_number_integer() || stop.get<int64_t>() != 0) {
      return Unimplemented("{}.stop: is {}; only 0 is supported, as text is streamed", path,
                           stop.dump());
    }
    if (out.strip_count_ > 0) return Unimplemented("{}: a second Strip", path);
    out.strip_count_ = start.get<int>();
    out.strip_character_ = content[0];
    return absl::OkStatus();
  }
};

absl::StatusOr<TokenDecoder> TokenDecoder::Parse(const Json& node, bool byte_level) {
  TokenDecoder decoder;
  decoder.byte_level_ = byte_level;
  if (node.is_null()) {
    return Unimplemented("decoder: is missing, so that tokens would be joined with spaces");
  }
  Reader reader{decoder};
  int count = 0;
  RETURN_IF_ERROR(ForEachStep(
      node, "decoder", "decoders", count,
      [&](const Json& each, const std::string& path) { return reader.Read(each, path); }));
  return decoder;
}

std::string TokenDecoder::BytesOf(const std::string& entry) const {
  if (byte_level_) return SpelledBytes(entry);
  std::string bytes = entry;
  for (const auto& [from, to] : replaced_) bytes = Replaced(bytes, from, to);
  if (byte_fallback_) {
    if (const int byte = NamedByte(bytes); byte >= 0)
      return std::string(1, static_cast<char>(byte));
  }
  return bytes;
}

std::string TokenDecoder::FirstBytesOf(const std::string& entry) const {
  return first_mark_.empty() ? BytesOf(entry) : BytesOf(Replaced(entry, first_mark_, ""));
}

}  // namespace conclave::worker
