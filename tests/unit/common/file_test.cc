#include "common/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "common/status.h"

namespace conclave {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string name = fs::temp_directory_path() / "conclave-file-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  ~FileTest() override { fs::remove_all(folder_); }

  // "code: message", without the folder.
  std::string WhyNot(const fs::path& path) const {
    const absl::Status status = ReadFile(path, 100).status();
    std::string message(MessageOf(status));
    if (const size_t at = message.find(folder_.string()); at == 0) {
      message = message.substr(folder_.string().size() + 1);
    }
    return absl::StatusCodeToString(status.code()) + ": " + message;
  }

  fs::path folder_;
};

TEST_F(FileTest, AFilesBytesAreReadThroughLinks) {
  const std::string bytes("a\0b\n", 4);
  std::ofstream(folder_ / "file", std::ios::binary) << bytes;
  fs::create_symlink("file", folder_ / "link");

  EXPECT_EQ(*ReadFile(folder_ / "link", 4), bytes);
  EXPECT_EQ(**ReadFileIfThere(folder_ / "file", 4), bytes);
}

TEST_F(FileTest, WhatIsNoFileIsRefusedWithoutWaiting) {
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  fs::create_symlink("circle", folder_ / "circle");
  std::ofstream(folder_ / "large") << std::string(101, 'a');

  EXPECT_EQ(WhyNot(folder_ / "nothing"), "NOT_FOUND: nothing: No such file or directory");
  EXPECT_EQ(WhyNot(folder_ / "large" / "x"), "NOT_FOUND: large/x: Not a directory");
  EXPECT_EQ(WhyNot(folder_ / "pipe"), "INVALID_ARGUMENT: pipe: is no regular file");
  EXPECT_EQ(WhyNot(folder_ / "circle"),
            "INVALID_ARGUMENT: circle: Too many levels of symbolic links");
  EXPECT_EQ(WhyNot(folder_ / "large"), "INVALID_ARGUMENT: large: has 101 bytes; the limit is 100");
  EXPECT_EQ(WhyNot("/dev/zero"), "INVALID_ARGUMENT: /dev/zero: is no regular file");
  EXPECT_EQ(WhyNot("/tmp"), "INVALID_ARGUMENT: /tmp: is a folder");
}

TEST_F(FileTest, OnlyAMissingFileIsNothing) {
  fs::create_symlink("circle", folder_ / "circle");

  EXPECT_EQ(*ReadFileIfThere(folder_ / "nothing", 4), std::nullopt);
  EXPECT_FALSE(ReadFileIfThere(folder_ / "circle", 4).ok());
}

}  // namespace
}  // namespace conclave
