#include <gtest/gtest.h>

#include <cstdio>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/unit/worker/text/fixture_texts.h"
#include "worker/text/tokenizer.h"

// Published tokenizers against ids and texts that other implementations computed.
namespace conclave::worker {
namespace {

using Ids = std::vector<TokenId>;

// What transformers makes of a decoded text when asked to "clean up tokenization spaces": no part
// of tokenizer.json, and off in the configuration of every model here; some vectors were made with
// it.
std::string CleanedUp(std::string text) {
  for (const char* mark : {" .", " ?", " !", " ,", " n't", " 'm", " 's", " 've", " 're"}) {
    for (size_t at; (at = text.find(mark)) != std::string::npos;) text.erase(at, 1);
  }
  return text;
}

struct Family {
  std::string name;                     // Of the test.
  std::string folder;                   // Of tokenizer.json, in the fixtures.
  std::string texts;                    // Its vectors: tokenizers/vectors/NAME.{inp,out}.
  std::vector<std::string> cases = {};  // Its names in transformersjs.json.
  bool published = false;               // It has a tokenizer_vectors.json of its own.
};

// Counts what is right, so that a run says how many of a fixture passed.
class Score {
 public:
  explicit Score(std::string what) : what_(std::move(what)) {}
  ~Score() { std::printf("%s: passed %d / %d\n", what_.c_str(), passed_, total_); }
  void Add(bool right) {
    ++total_;
    passed_ += right ? 1 : 0;
  }

 private:
  const std::string what_;
  int passed_ = 0, total_ = 0;
};

class TokenizerVectorsTest : public testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    SKIP_UNLESS_THERE(kFixtures + GetParam().folder + "/tokenizer.json");
    auto loaded = Tokenizer::Load(kFixtures + GetParam().folder);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    tokenizer_ = *std::move(loaded);
  }

  // What the published ids hold: the post processor's tokens, too.
  Ids EncodeWhole(const std::string& text) const {
    Ids ids = tokenizer_->front();
    const auto encoded = tokenizer_->EncodeWithSpecials(text);
    EXPECT_TRUE(encoded.ok()) << encoded.status();
    if (encoded.ok()) ids.insert(ids.end(), encoded->begin(), encoded->end());
    ids.insert(ids.end(), tokenizer_->back().begin(), tokenizer_->back().end());
    return ids;
  }
  // With the texts of special tokens in it.
  std::string DecodeWhole(const Ids& ids) const {
    IncrementalDecoder decoder(*tokenizer_);
    std::string text;
    for (const TokenId id : ids) {
      text += tokenizer_->is_special(id) ? decoder.FeedText(tokenizer_->token_bytes(id))
                                         : decoder.Feed(id);
    }
    return text + decoder.Flush();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerVectorsTest, EncodesHardTextsAsTheReferenceDoes) {
  const std::string base = kFixtures + "tokenizers/vectors/" + GetParam().texts;
  if (GetParam().texts.empty()) GTEST_SKIP() << "no vectors of this kind";
  const std::vector<std::string> texts = SplitTexts(ReadAll(base + ".inp"));
  std::ifstream lines(base + ".out");
  Score score(GetParam().name + " " + GetParam().texts + ".inp/.out");
  size_t i = 0;
  for (std::string line; std::getline(lines, line); ++i) {
    ASSERT_LT(i, texts.size());
    std::istringstream words(line);
    const Ids expected{std::istream_iterator<TokenId>(words), std::istream_iterator<TokenId>()};
    const Ids ids = *tokenizer_->EncodeWithSpecials(texts[i]);
    EXPECT_EQ(ids, expected) << i << ": " << texts[i];
    EXPECT_EQ(tokenizer_->Decode(ids), texts[i]);
    score.Add(ids == expected && tokenizer_->Decode(ids) == texts[i]);
  }
  EXPECT_GT(i, 40u);
}

TEST_P(TokenizerVectorsTest, EncodesAndDecodesNamedCasesAsTheReferenceDoes) {
  if (GetParam().cases.empty()) GTEST_SKIP() << "no vectors of this kind";
  const auto all =
      nlohmann::json::parse(ReadAll(kFixtures + "tokenizers/vectors/transformersjs.json"));
  for (const std::string& name : GetParam().cases) {
    Score score(GetParam().name + " transformersjs.json " + name);
    ASSERT_FALSE(all.at(name).empty());
    for (const auto& [label, vector] : all.at(name).items()) {
      Ids expected = vector.at("ids").get<Ids>();
      // Some of these were made without the post processor.
      const Ids front = tokenizer_->front();
      if (!std::equal(
              front.begin(), front.end(), expected.begin(),
              expected.begin() + static_cast<long>(std::min(front.size(), expected.size())))) {
        expected.insert(expected.begin(), front.begin(), front.end());
      }
      const Ids ids = EncodeWhole(vector.at("text"));
      const std::string decoded = DecodeWhole(vector.at("ids").get<Ids>());
      EXPECT_EQ(ids, expected) << name << " " << label;
      const bool right =
          decoded == vector.at("decoded") || CleanedUp(decoded) == vector.at("decoded");
      EXPECT_TRUE(right) << name << " " << label << ": " << decoded;
      score.Add(ids == expected && right);
    }
  }
}

TEST_P(TokenizerVectorsTest, EncodesAndDecodesTheModelsOwnVectors) {
  if (!GetParam().published) GTEST_SKIP() << "no vectors of this kind";
  const auto all =
      nlohmann::json::parse(ReadAll(kFixtures + GetParam().folder + "/tokenizer_vectors.json"));
  Score score(GetParam().name + " tokenizer_vectors.json");
  for (const auto& vector : all) {
    const Ids expected = vector.at("ids").get<Ids>();
    const Ids ids = EncodeWhole(vector.at("text"));
    EXPECT_EQ(ids, expected) << vector;
    const std::string decoded = tokenizer_->Decode(expected);
    const bool right =
        decoded == vector.at("decoded") || CleanedUp(decoded) == vector.at("decoded");
    EXPECT_TRUE(right) << vector << ": " << decoded;
    score.Add(ids == expected && right);
  }
}

// What a stream releases piece by piece is the text of the whole, wherever one looks.
TEST_P(TokenizerVectorsTest, ReleasesTheSameTextPieceByPiece) {
  for (const std::string& text : SplitTexts(ReadAll(kFixtures + "tokenizers/vectors/gpt-2.inp"))) {
    const Ids ids = *tokenizer_->EncodeWithSpecials(text);
    IncrementalDecoder stream(*tokenizer_);
    std::string released;
    for (size_t n = 0; n < ids.size(); ++n) {
      IncrementalDecoder here = stream;  // What is kept back is flushed of a copy.
      EXPECT_EQ(released + here.Flush(), tokenizer_->Decode({ids.begin(), ids.begin() + n}));
      released += stream.Feed(ids[n]);
    }
    EXPECT_EQ(released + stream.Flush(), tokenizer_->Decode(ids));
  }
}

const Family kFamilies[] = {
    {"gpt2", "tokenizers/gpt2", "gpt-2", {"Xenova/gpt2", "openai-community/gpt2"}},
    {"llama2", "tokenizers/llama2", "llama-spm", {"Xenova/llama-tokenizer"}},
    {"phi3", "tokenizers/phi-3", "llama-spm"},
    {"llama3",
     "tokenizers/llama3",
     "llama-bpe",
     {"Xenova/llama3-tokenizer", "Xenova/llama3-tokenizer-new"}},
    {"llama4", "tokenizers/llama4", ""},
    {"qwen2", "tokenizers/qwen2", "", {"Xenova/Qwen1.5-0.5B-Chat"}},
    {"stories260K", "models/stories260K/hf", "", {}, true},
    {"stories260Kbf16", "models/stories260K/hf-bf16", ""},
    {"babyllama", "models/babyllama-tok105/hf", "", {}, true},
};
void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

INSTANTIATE_TEST_SUITE_P(Fixtures, TokenizerVectorsTest, testing::ValuesIn(kFamilies),
                         [](const auto& family) { return family.param.name; });

}  // namespace
}  // namespace conclave::worker
