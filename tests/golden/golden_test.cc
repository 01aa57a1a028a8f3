#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "common/status.h"
#include "tests/golden/equality.h"
#include "worker/model/config.h"

namespace conclave::worker {
namespace {

namespace fs = std::filesystem;

const std::string kOwn = CONCLAVE_SOURCE_DIR "/tests/golden/data/";
const std::string kShared = CONCLAVE_SOURCE_DIR "/../shared/";

std::vector<std::string> Folders(const fs::path& parent) {
  std::vector<std::string> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    if (entry.is_directory()) folders.push_back(entry.path().filename().string());
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

// Ours, the real small models of the fixtures, and the goldens that are not among ours.
std::vector<std::string> Models() {
  std::vector<std::string> models;
  for (const std::string& name : Folders(kOwn)) models.push_back(kOwn + name);
  for (const char* name : {"stories260K/hf", "stories260K/hf-bf16", "babyllama-tok105/hf"}) {
    models.push_back(kShared + "fixtures/models/" + name);
  }
  for (const std::string& name : Folders(kShared + "muse/golden")) {
    if (!fs::exists(kOwn + name)) models.push_back(kShared + "muse/golden/" + name);
  }
  return models;
}

class GoldenTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, LogitsAreTheReferencesAndNoBitDependsOnNeighboursChunksHitsOrResumption) {
  if (!fs::exists(GetParam())) GTEST_SKIP() << GetParam() << " is not there";
  const auto config = LoadModelConfig(GetParam());
  if (!config.ok() && GetParam().find("dense_") == std::string::npos) {
    EXPECT_THAT(std::string(MessageOf(config.status())), testing::HasSubstr("model_type"));
    return;  // A family that is not built is refused by its name.
  }
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

INSTANTIATE_TEST_SUITE_P(Models, GoldenTest, testing::ValuesIn(Models()), [](const auto& each) {
  const fs::path path = each.param;
  std::string name = path.parent_path().filename().string() + path.filename().string();
  std::erase_if(name, [](char c) { return !std::isalnum(c); });
  return name;
});

}  // namespace
}  // namespace conclave::worker
