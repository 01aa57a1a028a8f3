#include "worker/text/text_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/status.h"

namespace conclave::worker {
namespace {

namespace fs = std::filesystem;

// The model that ships without its weights, in a folder of its own.
class TextModelFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    for (const auto& entry : fs::directory_iterator(CONCLAVE_SOURCE_DIR "/models/conclave-demo")) {
      if (entry.path().extension() != ".safetensors") fs::copy(entry.path(), folder_);
    }
  }
  void TearDown() override { fs::remove_all(folder_); }

  // As many bytes, all of them zero.
  void Blow(const char* name, uintmax_t bytes) const {
    std::ofstream(folder_ / name, std::ios::app).close();
    fs::resize_file(folder_ / name, bytes);
  }
  std::string WhyNot() const {
    return std::string(MessageOf(TextModel::Load(folder_, "").status()));
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / "text_model_files";
};

TEST_F(TextModelFilesTest, MayLackWhatHasDefaults) {
  fs::remove(folder_ / "generation_config.json");
  EXPECT_EQ(WhyNot(), "");
}

// What is there but cannot be used has stop tokens and sampling that would be missed in silence.
TEST_F(TextModelFilesTest, AreNotPassedOverWhenTheyAreTooLarge) {
  Blow("generation_config.json", (1 << 20) + 1);
  EXPECT_THAT(WhyNot(), testing::HasSubstr("generation_config.json: has 1048577 bytes"));
  Blow("tokenizer_config.json", (16 << 20) + 1);
  EXPECT_THAT(WhyNot(), testing::HasSubstr("tokenizer_config.json: has 16777217 bytes"));
}

}  // namespace
}  // namespace conclave::worker
