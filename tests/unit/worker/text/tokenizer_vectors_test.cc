#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "worker/text/tokenizer.h"

// Published tokenizers against ids that other implementations computed.
namespace conclave::worker {
namespace {

const std::string kFixtures = CONCLAVE_SOURCE_DIR "/../shared/fixtures/tokenizers/";

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

bool Missing(const std::string& path) { return !std::ifstream(path).good(); }

#define SKIP_UNLESS_THERE(path) \
  if (Missing(path)) GTEST_SKIP() << path << " is not there"

std::vector<std::string> SplitTexts(const std::string& all) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  for (size_t at = 0; at <= all.size();) {
    const size_t end = std::min(all.find(separator, at), all.size());
    texts.push_back(all.substr(at, end - at));
    at = end + separator.size();
  }
  return texts;
}

std::vector<std::vector<TokenId>> ReadIds(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::vector<TokenId>> lines;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    lines.emplace_back(std::istream_iterator<TokenId>(words), std::istream_iterator<TokenId>());
  }
  return lines;
}

std::unique_ptr<Tokenizer> LoadFamily(const std::string& family) {
  auto tokenizer = Tokenizer::Load(kFixtures + family);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

void ExpectTexts(const Tokenizer& tokenizer, const std::string& vectors) {
  const std::vector<std::string> texts = SplitTexts(ReadAll(kFixtures + vectors + ".inp"));
  const auto ids = ReadIds(kFixtures + vectors + ".out");
  ASSERT_LE(ids.size(), texts.size());
  ASSERT_GT(ids.size(), 40u);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(*tokenizer.EncodeWithSpecials(texts[i]), ids[i]) << i << ": " << texts[i];
  }
}

// Cases of a named tokenizer in transformersjs.json; `prefix`: what its post processor puts first.
void ExpectCases(const Tokenizer& tokenizer, const std::string& name, TokenId prefix = -1) {
  const auto all = nlohmann::json::parse(ReadAll(kFixtures + "vectors/transformersjs.json"));
  ASSERT_FALSE(all.at(name).empty());
  for (const auto& [label, vector] : all.at(name).items()) {
    auto expected = vector.at("ids").get<std::vector<TokenId>>();
    if (!expected.empty() && expected.front() == prefix) expected.erase(expected.begin());
    const auto text = vector.at("text").get<std::string>();
    EXPECT_EQ(*tokenizer.EncodeWithSpecials(text), expected) << name << " " << label;
  }
}

void ExpectRoundTrips(const Tokenizer& tokenizer) {
  for (const std::string& text : SplitTexts(ReadAll(kFixtures + "vectors/gpt-2.inp"))) {
    EXPECT_EQ(tokenizer.Decode(*tokenizer.Encode(text)), text);
  }
}

TEST(TokenizerVectorsTest, EncodesAsGpt2) {
  SKIP_UNLESS_THERE(kFixtures + "gpt2/tokenizer.json");
  const auto tokenizer = LoadFamily("gpt2");

  ExpectTexts(*tokenizer, "vectors/gpt-2");
  ExpectCases(*tokenizer, "Xenova/gpt2");
  ExpectCases(*tokenizer, "openai-community/gpt2");
  ExpectRoundTrips(*tokenizer);
}

TEST(TokenizerVectorsTest, EncodesAsLlama3) {
  SKIP_UNLESS_THERE(kFixtures + "llama3/tokenizer.json");
  const auto tokenizer = LoadFamily("llama3");

  ExpectTexts(*tokenizer, "vectors/llama-bpe");
  ExpectCases(*tokenizer, "Xenova/llama3-tokenizer", 128000);
  ExpectCases(*tokenizer, "Xenova/llama3-tokenizer-new", 128000);
  ExpectRoundTrips(*tokenizer);
}

TEST(TokenizerVectorsTest, EncodesAsQwen) {
  SKIP_UNLESS_THERE(kFixtures + "qwen2/tokenizer.json");
  const auto tokenizer = LoadFamily("qwen2");

  ExpectCases(*tokenizer, "Xenova/Qwen1.5-0.5B-Chat");
  EXPECT_EQ(*tokenizer->EncodeWithSpecials("<|im_start|>user\n"),
            (std::vector<TokenId>{151644, 872, 198}));
}

TEST(TokenizerVectorsTest, RoundTripsTextsThroughLlama4) {
  SKIP_UNLESS_THERE(kFixtures + "llama4/tokenizer.json");

  ExpectRoundTrips(*LoadFamily("llama4"));
}

TEST(TokenizerVectorsTest, NamesWhatItDoesNotSupport) {
  SKIP_UNLESS_THERE(kFixtures + "llama2/tokenizer.json");
  const absl::Status status = Tokenizer::Load(kFixtures + "llama2").status();

  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("Prepend"));
}

}  // namespace
}  // namespace conclave::worker
