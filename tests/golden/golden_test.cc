#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/golden/equality.h"

namespace conclave::worker {
namespace {

const std::string kOwn = CONCLAVE_SOURCE_DIR "/tests/golden/data/";
const std::string kShared = CONCLAVE_SOURCE_DIR "/../shared/fixtures/models/";

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsAreTheReferencesAndNoBitDependsOnNeighboursChunksHitsOrResumption) {
  if (!std::filesystem::exists(GetParam())) GTEST_SKIP() << GetParam() << " is not there";
  const auto golden = ReadGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();

  const auto equality = Compare(GetParam(), *golden, {});

  ASSERT_TRUE(equality.ok()) << equality.status();
  EXPECT_LT(*equality->relative_error, 1e-4);
  EXPECT_TRUE(equality->greedy_equal);
  EXPECT_TRUE(equality->tp_equal);
  EXPECT_TRUE(equality->batch_equal);
  EXPECT_TRUE(equality->chunks_equal);
  EXPECT_TRUE(equality->prefix_equal);
  EXPECT_TRUE(equality->resumed_equal);
  EXPECT_TRUE(equality->sets_equal);
}

INSTANTIATE_TEST_SUITE_P(
    Models, GoldenTest,
    testing::Values(kOwn + "dense_llama", kOwn + "dense_llama_bf16", kShared + "stories260K/hf",
                    kShared + "stories260K/hf-bf16", kShared + "babyllama-tok105/hf"),
    [](const auto& each) {
      const std::filesystem::path path = each.param;
      std::string name = path.parent_path().filename().string() + path.filename().string();
      std::erase_if(name, [](char c) { return !std::isalnum(c); });
      return name;
    });

}  // namespace
}  // namespace conclave::worker
