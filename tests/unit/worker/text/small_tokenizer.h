#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "worker/text/utf8.h"

namespace conclave::worker {

// A byte as byte-level vocabularies spell it.
inline std::string Spelled(int byte) {
  std::string text;
  int next = 256;
  for (int b = 0; b <= byte; ++b) {
    const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    const int code = printable ? b : next++;
    if (b == byte) AppendUtf8(static_cast<uint32_t>(code), text);
  }
  return text;
}

// A tokenizer of the 256 bytes, "he" (256), "ll" (257), "hell" (258), and the added tokens
// <s> (259, special), <think> (260, not special).
inline nlohmann::json SmallFile() {
  nlohmann::json vocab;
  for (int byte = 0; byte < 256; ++byte) vocab[Spelled(byte)] = byte;
  vocab["he"] = 256;
  vocab["ll"] = 257;
  vocab["hell"] = 258;
  return {
      {"added_tokens",
       {{{"id", 259}, {"content", "<s>"}, {"special", true}},
        {{"id", 260}, {"content", "<think>"}, {"special", false}}}},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"h e", "l l", "he ll"}}}},
  };
}

// A tokenizer of characters as SentencePiece makes them: <unk>, <s>, </s>, the 256 bytes (3 to
// 258), the mark of a space (259), space itself, "a", "b", mark + "a" (263), mark + "a" + "b"
// (264).
inline nlohmann::json CharacterFile() {
  const std::string mark = "\xE2\x96\x81";
  nlohmann::json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    vocab[std::string("<0x") + kHex[byte / 16] + kHex[byte % 16] + ">"] = 3 + byte;
  }
  vocab[mark] = 259;
  vocab[" "] = 260;
  vocab["a"] = 261;
  vocab["b"] = 262;
  vocab[mark + "a"] = 263;
  vocab[mark + "ab"] = 264;
  nlohmann::json file = {
      {"added_tokens",
       {{{"id", 0}, {"content", "<unk>"}, {"special", true}},
        {{"id", 1}, {"content", "<s>"}, {"special", true}},
        {{"id", 2}, {"content", "</s>"}, {"special", true}}}},
      {"normalizer",
       {{"type", "Sequence"},
        {"normalizers",
         {{{"type", "Prepend"}, {"prepend", mark}},
          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", mark}}}}}},
      {"pre_tokenizer", nullptr},
      {"post_processor",
       {{"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {1}}, {"tokens", {"<s>"}}}}}}}},
      {"model",
       {{"type", "BPE"},
        {"unk_token", "<unk>"},
        {"fuse_unk", true},
        {"byte_fallback", true},
        {"vocab", vocab},
        {"merges", {mark + " a", mark + "a b"}}}}};
  file["decoder"] = {{"type", "Sequence"},
                     {"decoders",
                      {{{"type", "Replace"}, {"pattern", {{"String", mark}}}, {"content", " "}},
                       {{"type", "ByteFallback"}},
                       {{"type", "Fuse"}},
                       {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  return file;
}

}  // namespace conclave::worker
