#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "tests/unit/worker/text/small_tokenizer.h"
#include "worker/text/bpe.h"
#include "worker/text/tokenizer.h"

// Vocabularies of characters, as SentencePiece makes them.
namespace conclave::worker {
namespace {

using Ids = std::vector<TokenId>;

std::unique_ptr<Tokenizer> Make(const nlohmann::json& file) {
  auto tokenizer = Tokenizer::Parse(file.dump(), "t.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(SentencePieceTest, PutsItsMarkInFrontAndTakesItOffAgain) {
  const auto tokenizer = Make(CharacterFile());

  EXPECT_EQ(*tokenizer->Encode("ab b"), (Ids{264, 259, 262}));
  EXPECT_EQ(tokenizer->Decode({264, 259, 262}), "ab b");
  EXPECT_EQ(tokenizer->Decode({259, 259, 261}), " a");
  EXPECT_EQ(tokenizer->front(), Ids{1});
}

TEST(SentencePieceTest, FallsBackToBytes) {
  const auto tokenizer = Make(CharacterFile());

  EXPECT_EQ(*tokenizer->Encode("\xC3\xA9"), (Ids{259, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer->Decode({3 + 0xC3, 3 + 0xA9}), "\xC3\xA9");
  EXPECT_EQ(tokenizer->Decode({3 + 0xC3, 261}),
            "\xEF\xBF\xBD"
            "a");
}

TEST(SentencePieceTest, FusesUnknownCharactersWhereTheFileSaysSo) {
  nlohmann::json file = CharacterFile();
  file["model"]["byte_fallback"] = false;
  EXPECT_EQ(*Make(file)->Encode("axxyb"), (Ids{263, 0, 262}));
  file["model"]["fuse_unk"] = false;
  EXPECT_EQ(*Make(file)->Encode("axxyb"), (Ids{263, 0, 0, 0, 262}));
  file["model"]["unk_token"] = nullptr;  // Left out before anything merges.
  EXPECT_EQ(*Make(file)->Encode("axxyb"), Ids{264});
}

TEST(SentencePieceTest, MakesNoSpecialTokenOfACallersCharacters) {
  nlohmann::json file = CharacterFile();
  file["model"]["vocab"]["\xE2\x98\x83"] = 265;
  file["added_tokens"].push_back({{"id", 265}, {"content", "\xE2\x98\x83"}, {"special", true}});
  const auto tokenizer = Make(file);

  EXPECT_EQ(*tokenizer->EncodeWithSpecials("\xE2\x98\x83"), Ids{265});
  EXPECT_EQ(*tokenizer->Encode("\xE2\x98\x83"), (Ids{259, 3 + 0xE2, 3 + 0x98, 3 + 0x83}));
}

TEST(SentencePieceTest, LooksForNormalizedTokensInTheNormalizedText) {
  nlohmann::json file = CharacterFile();
  file["added_tokens"][1]["normalized"] = true;
  const auto tokenizer = Make(file);

  // "<s>" is "\xE2\x96\x81<s>" there: it is found at the start and behind spaces only.
  EXPECT_EQ(*tokenizer->EncodeWithSpecials("<s>a"), (Ids{1, 261}));
  EXPECT_EQ(*tokenizer->EncodeWithSpecials("a <s>"), (Ids{263, 1}));
  EXPECT_THAT(*tokenizer->EncodeWithSpecials("a<s>"), testing::Not(testing::Contains(1)));
  MarkedString text = MarkedString::Template("a ");
  text.Append("<s>", Author::kCaller);
  EXPECT_THAT(*tokenizer->Encode(text), testing::Not(testing::Contains(1)));
}

TEST(SentencePieceTest, RefusesAddedTokensThatGrowBeyondBoundsWhenNormalized) {
  nlohmann::json file = CharacterFile();
  file["added_tokens"][1]["normalized"] = true;
  const nlohmann::json grow = {
      {"type", "Replace"}, {"pattern", {{"String", "s"}}}, {"content", std::string(256, 's')}};
  file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {grow, grow}}};

  const absl::Status status = Tokenizer::Parse(file.dump(), "t.json").status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::HasSubstr("'<s>', normalised, has 65538 bytes; the limit is 16384"));
}

TEST(SentencePieceTest, MarksWordsInMetaspacesThreeSchemes) {
  nlohmann::json file = CharacterFile();
  file["normalizer"] = nullptr;
  file["decoder"] = {{"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}};
  const auto with = [&](const char* scheme) {
    file["pre_tokenizer"] = {{"type", "Metaspace"},
                             {"replacement", "\xE2\x96\x81"},
                             {"prepend_scheme", scheme},
                             {"split", true}};
    return Make(file);
  };

  EXPECT_EQ(*with("always")->EncodeWithSpecials("a<s>a a"), (Ids{263, 1, 263, 263}));
  EXPECT_EQ(*with("first")->EncodeWithSpecials("a<s>a a"), (Ids{263, 1, 261, 263}));
  EXPECT_EQ(*with("never")->EncodeWithSpecials("a<s>a a"), (Ids{261, 1, 261, 263}));
  EXPECT_EQ(with("always")->Decode({1, 263, 263}), "a a");
}

TEST(SentencePieceTest, RefusesTextsThatMarksMakeTooLong) {
  const auto with = [](const nlohmann::json& steps) {
    nlohmann::json file = CharacterFile();
    file["normalizer"] = nullptr;
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
    return Make(file);
  };
  // Each makes 256 spaces of one.
  const nlohmann::json grow = {{"type", "Metaspace"},
                               {"replacement", std::string(256, ' ')},
                               {"prepend_scheme", "never"},
                               {"split", false}};
  const nlohmann::json words = {{"type", "WhitespaceSplit"}};
  const nlohmann::json front = {{"type", "Metaspace"},
                                {"replacement", std::string(256, 'a')},
                                {"prepend_scheme", "always"},
                                {"split", false}};
  std::string many;
  for (int i = 0; i < 300'000; ++i) many += "b ";

  EXPECT_EQ(with({grow, grow, grow, grow, grow})->Encode("a b").status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(with({words, front})->Encode(many).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(with({words, front})->Encode("b b b").ok());
}

TEST(SentencePieceTest, ReleasesTheSameTextPieceByPiece) {
  const auto tokenizer = Make(CharacterFile());
  std::mt19937 random(3);
  for (int round = 0; round < 2'000; ++round) {
    IncrementalDecoder stream(*tokenizer);
    Ids ids;
    std::string released;
    for (int i = 0; i < 12; ++i) {
      IncrementalDecoder here = stream;
      EXPECT_EQ(released + here.Flush(), tokenizer->Decode(ids));
      ids.push_back(static_cast<TokenId>(random() % 8 == 0 ? random() % 259 : 259 + random() % 6));
      released += stream.Feed(ids.back());
    }
  }
}

// Cost is counted, not timed: three merges a byte are the most that may be tried.
TEST(BpeTest, TriesFewMergesInAWordOfAMegabyte) {
  Bpe bpe;
  std::vector<std::string> tokens;
  for (int c = 'a'; c <= 'z'; ++c) tokens.emplace_back(1, static_cast<char>(c));
  for (size_t size = 2; size <= 1024; size *= 2) tokens.emplace_back(size, 'a');
  bpe.SetVocabulary(tokens, Bpe::Symbols::kCharacters);
  TokenId left = 0;
  for (TokenId id = 26; id < static_cast<TokenId>(tokens.size()); ++id) {
    bpe.AddMerge(left, left, id);
    left = id;
  }
  const size_t n = size_t{1} << 20;
  Ids ids;

  const size_t tried = bpe.Encode(std::string(n, 'a'), ids);

  EXPECT_EQ(ids.size(), n / 1024);
  EXPECT_GE(tried, n - n / 1024);
  EXPECT_LE(tried, 3 * n);
}

}  // namespace
}  // namespace conclave::worker
