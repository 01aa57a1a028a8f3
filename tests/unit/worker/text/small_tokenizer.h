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

}  // namespace conclave::worker
