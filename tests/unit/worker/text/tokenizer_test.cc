#include "worker/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <tuple>

#include "tests/unit/worker/text/small_tokenizer.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

std::unique_ptr<Tokenizer> Make(const nlohmann::json& file) {
  auto tokenizer = Tokenizer::Parse(file.dump(), "t.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

absl::Status Refusal(const nlohmann::json& file) {
  return Tokenizer::Parse(file.dump(), "t.json").status();
}

using Ids = std::vector<TokenId>;

TEST(TokenizerTest, MergesByRank) {
  const auto tokenizer = Make(SmallFile());

  EXPECT_EQ(*tokenizer->Encode("hello"), (Ids{258, 'o'}));
  EXPECT_EQ(*tokenizer->Encode("ell"), (Ids{'e', 257}));
  EXPECT_EQ(*tokenizer->Encode(""), Ids{});
}

TEST(TokenizerTest, MakesAddedTokensOnlyFromTheTemplatesBytes) {
  const auto tokenizer = Make(SmallFile());
  MarkedString text = MarkedString::Template("<s>");
  text.Append("<s><think>", Author::kCaller);
  text.Append("<think>", Author::kTemplate);

  const Ids ids = *tokenizer->Encode(text);

  EXPECT_EQ(ids, (Ids{259, '<', 's', '>', '<', 't', 'h', 'i', 'n', 'k', '>', 260}));
}

TEST(TokenizerTest, MakesNoAddedTokenAcrossTheBorderOfTwoAuthors) {
  const auto tokenizer = Make(SmallFile());
  MarkedString text = MarkedString::Template("<");
  text.Append("s", Author::kCaller);
  text.Append(">", Author::kTemplate);

  EXPECT_EQ(*tokenizer->Encode(text), (Ids{'<', 's', '>'}));
}

TEST(TokenizerTest, WritesAMergedAddedTokenAsItsPartsForCallers) {
  nlohmann::json file = SmallFile();
  file["added_tokens"].push_back({{"id", 258}, {"content", "hell"}});
  const auto tokenizer = Make(file);

  EXPECT_EQ(*tokenizer->Encode("hell"), (Ids{256, 257}));
  EXPECT_EQ(*tokenizer->EncodeWithSpecials("hell"), (Ids{258}));
}

TEST(TokenizerTest, TakesWholeWordsFirstWhenMergesAreIgnored) {
  nlohmann::json file = SmallFile();
  file["model"]["vocab"]["xyz"] = 261;
  EXPECT_EQ(*Make(file)->Encode("xyz"), (Ids{'x', 'y', 'z'}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(*Make(file)->Encode("xyz"), (Ids{261}));
}

TEST(TokenizerTest, StripsSpaceBesideAnAddedTokenUnlessTheCallerWroteIt) {
  nlohmann::json file = SmallFile();
  file["added_tokens"][0]["lstrip"] = true;
  file["added_tokens"][0]["rstrip"] = true;
  const auto tokenizer = Make(file);
  MarkedString text = MarkedString::Template("a <s>\n ");
  text.Append(" b", Author::kCaller);

  EXPECT_EQ(*tokenizer->Encode(text), (Ids{'a', 259, ' ', 'b'}));
}

TEST(TokenizerTest, FindsASingleWordTokenOnlyBetweenWords) {
  nlohmann::json file = SmallFile();
  file["added_tokens"].push_back({{"id", 261}, {"content", "zz"}, {"single_word", true}});
  const auto tokenizer = Make(file);

  EXPECT_EQ(*tokenizer->EncodeWithSpecials("zz zza"), (Ids{261, ' ', 'z', 'z', 'a'}));
}

TEST(TokenizerTest, ComposesCharacters) {
  const auto tokenizer = Make(SmallFile());

  EXPECT_EQ(*tokenizer->Encode("e\xCC\x81"), *tokenizer->Encode("\xC3\xA9"));
}

TEST(TokenizerTest, PutsASpaceInFrontWhereTheFileSaysSo) {
  nlohmann::json file = SmallFile();
  file["pre_tokenizer"]["add_prefix_space"] = true;

  EXPECT_EQ(*Make(file)->Encode("ell"), (Ids{' ', 'e', 257}));
}

TEST(TokenizerTest, RemovesSeparatorsWhereTheFileSaysSo) {
  nlohmann::json file = SmallFile();
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"}, {"pattern", {{"String", "."}}}, {"behavior", "Removed"}},
        {{"type", "ByteLevel"}, {"use_regex", false}}}}};

  EXPECT_EQ(*Make(file)->Encode("h.ell."), (Ids{'h', 'e', 257}));
}

TEST(TokenizerTest, KnowsItsTokens) {
  const auto tokenizer = Make(SmallFile());

  EXPECT_EQ(tokenizer->vocab_size(), 261);
  EXPECT_EQ(tokenizer->token_bytes(258), "hell");
  EXPECT_EQ(tokenizer->token_bytes(0x0A), "\n");
  EXPECT_EQ(tokenizer->token_bytes(-1), "");
  EXPECT_EQ(tokenizer->token_bytes(9999), "");
  EXPECT_TRUE(tokenizer->is_special(259));
  EXPECT_FALSE(tokenizer->is_special(260));
  EXPECT_EQ(tokenizer->IdOf("<think>"), 260);
  EXPECT_EQ(tokenizer->IdOf("nothing"), std::nullopt);
}

TEST(TokenizerTest, NamesThePathOfWhatIsNotSupported) {
  const nlohmann::json sequence = {{"type", "Sequence"},
                                   {"decoders", {{{"type", "ByteLevel"}}, {{"type", "CTC"}}}}};
  const std::vector<std::tuple<std::string, nlohmann::json, std::string>> changes = {
      {"/model/type", "Unigram", "model.type: Unigram"},
      {"/model/type", "WordPiece", "model.type: WordPiece"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
      {"/model/dropout", 0.1, "model.dropout"},
      {"/normalizer", {{"type", "Precompiled"}}, "normalizer: Precompiled"},
      {"/pre_tokenizer", nullptr, "decoder: ByteLevel"},
      {"/pre_tokenizer", {{"type", "UnicodeScripts"}}, "pre_tokenizer: UnicodeScripts"},
      {"/post_processor", {{"type", "BertProcessing"}}, "post_processor: BertProcessing"},
      {"/decoder", {{"type", "WordPiece"}}, "decoder: WordPiece"},
      {"/decoder", nullptr, "decoder: is missing"},
      {"/decoder", sequence, "decoder.decoders[1]: CTC"}};
  for (const auto& [path, value, named] : changes) {
    nlohmann::json file = SmallFile();
    file[nlohmann::json::json_pointer(path)] = value;
    const absl::Status status = Refusal(file);
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << path;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith("t.json: " + named));
  }
}

TEST(TokenizerTest, NamesThePathOfWhatIsBroken) {
  const nlohmann::json open = {
      {"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}};
  const std::vector<std::tuple<std::string, nlohmann::json, std::string>> changes = {
      {"/model/merges/0", "h nothing", "model.merges[0]"},
      {"/model/merges/0", "he", "model.merges[0]"},
      {"/model/merges/0", " h", "model.merges[0]"},
      {"/model/vocab/he", -1, "model.vocab: 'he'"},
      {"/model/vocab/he", 1 << 30, "model.vocab: 'he'"},
      {"/model/vocab/he", 257, "model.vocab: id 257"},
      {"/model/vocab", nullptr, "model.vocab"},
      {"/model/unk_token", "<nothing>", "model.unk_token: '<nothing>'"},
      {"/added_tokens/0/content", "", "added_tokens[0].content"},
      {"/added_tokens/0/id", "x", "added_tokens[0].id"},
      {"/added_tokens/1/id", 1 << 20, "added_tokens[1].id"},
      {"/added_tokens", 5, "added_tokens"},
      {"/pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", {open}}},
       "pre_tokenizer.pretokenizers[0]: pattern '('"},
      {"/normalizer",
       {{"type", "Replace"}, {"content", "x"}, {"pattern", {{"String", ""}}}},
       "normalizer.pattern"},
      {"/post_processor",
       {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", {{"id", "<s>"}}}}}}},
       "post_processor.special_tokens.<s>"}};
  for (const auto& [path, value, named] : changes) {
    nlohmann::json file = SmallFile();
    file[nlohmann::json::json_pointer(path)] = value;
    const absl::Status status = Refusal(file);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << path;
    EXPECT_THAT(std::string(status.message()), testing::StartsWith("t.json: " + named));
  }
  EXPECT_FALSE(Tokenizer::Parse("{", "t.json").ok());
  EXPECT_FALSE(Tokenizer::Parse("[]", "t.json").ok());
  EXPECT_FALSE(Tokenizer::Parse(std::string(1000, '['), "t.json").ok());
}

TEST(TokenizerTest, RefusesTextsThatAreNotUtf8OrTooLong) {
  const auto tokenizer = Make(SmallFile());

  EXPECT_EQ(tokenizer->Encode("a\xFF").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(tokenizer->Encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a')).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(TokenizerTest, EncodesLongWordsWithoutQuadraticTime) {
  const auto tokenizer = Make(SmallFile());

  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, 'l'))->size(), size_t{1} << 19);
  EXPECT_EQ(tokenizer->Encode(std::string(1 << 20, ' '))->size(), size_t{1} << 20);
}

std::string RandomText(std::mt19937& random) {
  static constexpr uint32_t kCodes[] = {'h', 'e',  'l',    ' ',     '\n',     '<',    's',
                                        '>', 0xE9, 0x4E2D, 0x1F600, 0x10FFFF, 0x180E, 0x3000};
  std::string text;
  for (size_t n = random() % 40; n > 0; --n) {
    AppendUtf8(kCodes[random() % std::size(kCodes)], text);
  }
  return text;
}

TEST(TokenizerTest, DecodesWhatItEncoded) {
  nlohmann::json file = SmallFile();
  file["normalizer"] = nullptr;
  const auto tokenizer = Make(file);
  std::mt19937 random(1);
  for (int round = 0; round < 2'000; ++round) {
    const std::string text = RandomText(random);
    EXPECT_EQ(tokenizer->Decode(*tokenizer->Encode(text)), text);
  }
}

TEST(IncrementalDecoderTest, ReleasesWholeCharactersOnly) {
  const auto tokenizer = Make(SmallFile());
  IncrementalDecoder decoder(*tokenizer);

  EXPECT_EQ(decoder.Feed(0xE4), "");
  EXPECT_EQ(decoder.Feed(0xB8), "");
  EXPECT_EQ(decoder.Feed(0xAD), "\xE4\xB8\xAD");
  EXPECT_EQ(decoder.Flush(), "");
}

TEST(IncrementalDecoderTest, ReplacesInvalidBytesByMaximalPrefixes) {
  const auto tokenizer = Make(SmallFile());
  const std::string bad = "\xEF\xBF\xBD";

  EXPECT_EQ(tokenizer->Decode({0xFF, 'a'}), bad + "a");
  EXPECT_EQ(tokenizer->Decode({0xF0, 0x9F, 'a'}), bad + "a");
  EXPECT_EQ(tokenizer->Decode({0xE0, 0x80}), bad + bad);
  EXPECT_EQ(tokenizer->Decode({0xED, 0xA0, 0x80}), bad + bad + bad);
  EXPECT_EQ(tokenizer->Decode({0xF0, 0x9F}), bad);
}

TEST(IncrementalDecoderTest, GivesNoTextForSpecialTokens) {
  const auto tokenizer = Make(SmallFile());

  EXPECT_EQ(tokenizer->Decode({'a', 259, 260, 'b'}), "a<think>b");
  EXPECT_EQ(tokenizer->Decode({0xC3, 259, 0xA9}), "\xC3\xA9");
}

TEST(IncrementalDecoderTest, AlwaysReleasesValidUtf8) {
  const auto tokenizer = Make(SmallFile());
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    IncrementalDecoder decoder(*tokenizer);
    for (int i = 0; i < 40; ++i) {
      const std::string piece = decoder.Feed(static_cast<TokenId>(random() % 300));
      EXPECT_EQ(FirstInvalidUtf8(piece), piece.size());
    }
  }
}

}  // namespace
}  // namespace conclave::worker
