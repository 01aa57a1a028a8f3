#include "worker/text/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

GenerationConfig Parsed(std::string_view json) {
  const auto config = ParseGenerationConfig(json, "generation_config.json");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : GenerationConfig{};
}

std::string WhyNot(std::string_view json) {
  const auto config = ParseGenerationConfig(json, "g.json");
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << json;
  return std::string(MessageOf(config.status()));
}

TEST(GenerationConfigTest, GivesEndsAndSampling) {
  const GenerationConfig config = Parsed(R"({
    "eos_token_id": [151645, 151643, 151645], "do_sample": true, "temperature": 0.6, "top_k": 20,
    "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.05, "transformers_version": "4.51.0"})");

  EXPECT_THAT(config.end_tokens, ElementsAre(151643, 151645));
  EXPECT_FLOAT_EQ(config.sampling.temperature, 0.6f);
  EXPECT_EQ(config.sampling.top_k, 20);
  EXPECT_FLOAT_EQ(config.sampling.top_p, 0.95f);
  EXPECT_FLOAT_EQ(config.sampling.min_p, 0.05f);
  EXPECT_FLOAT_EQ(config.sampling.repetition_penalty, 1.05f);
}

TEST(GenerationConfigTest, LeavesOpenWhatItDoesNotSay) {
  const GenerationConfig config = Parsed(R"({"eos_token_id": null, "top_k": null})");

  EXPECT_THAT(config.end_tokens, IsEmpty());
  EXPECT_EQ(config.sampling, Sampling{});
  EXPECT_EQ(Parsed(R"({"top_k": -1})").sampling.top_k, 0);
}

TEST(GenerationConfigTest, IsGreedyWithoutSampling) {
  EXPECT_EQ(Parsed(R"({"do_sample": false, "temperature": 0.7})").sampling.temperature, 0);
}

TEST(GenerationConfigTest, NamesFileKeyValueAndLimits) {
  EXPECT_EQ(WhyNot(R"({"temperature": -0.5})"),
            "g.json: temperature is -0.5; it can be at least 0, at most 100");
  EXPECT_EQ(WhyNot(R"({"top_p": 0})"), "g.json: top_p is 0; it can be above 0, at most 1");
  EXPECT_EQ(WhyNot(R"({"top_p": 1e-60})"), "g.json: top_p is 1e-60; it can be above 0, at most 1");
  EXPECT_EQ(WhyNot(R"({"min_p": 1})"), "g.json: min_p is 1; it can be at least 0, below 1");
  EXPECT_EQ(WhyNot(R"({"temperature": "warm"})"),
            "g.json: temperature is \"warm\"; it can be at least 0, at most 100");
  EXPECT_EQ(WhyNot(R"({"repetition_penalty": 1e300})"),
            "g.json: repetition_penalty is 1e+300; it can be above 0, at most 10");
  EXPECT_EQ(WhyNot(R"({"top_k": 50.5})"),
            "g.json: top_k is 50.5; it can be a whole number, 0 to 1024");
  EXPECT_EQ(WhyNot(R"({"top_k": 4096})"),
            "g.json: top_k is 4096; it can be a whole number, 0 to 1024");
  EXPECT_EQ(WhyNot(R"({"do_sample": 1})"), "g.json: do_sample is 1; it can be true or false");
  EXPECT_EQ(WhyNot("[]"), "g.json: is no object");
}

// 4294967298 is 2 where 32 bits are all that is kept.
TEST(GenerationConfigTest, RefusesEndsThatAreNoTokenIds) {
  for (const char* id : {"4294967298", "2147483648", "-1", "18446744073709551615", "2.0", "\"2\"",
                         "true", "[[2]]", "1e99"}) {
    const std::string why = WhyNot(std::string(R"({"eos_token_id": )") + id + "}");
    EXPECT_THAT(why, testing::StartsWith("g.json: eos_token_id is "));
    EXPECT_THAT(why, testing::EndsWith("; it can be token ids, 0 to 2147483647"));
  }
  EXPECT_THAT(Parsed(R"({"eos_token_id": 2147483647})").end_tokens, ElementsAre(2147483647));
  std::string many = R"({"eos_token_id": [0)";
  for (int i = 1; i < 257; ++i) many += "," + std::to_string(i);
  EXPECT_EQ(WhyNot(many + "]}"), "g.json: eos_token_id has 257 entries; the limit is 256");
}

}  // namespace
}  // namespace conclave::worker
