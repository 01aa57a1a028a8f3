#include "worker/model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/status.h"
#include "tests/unit/worker/model/checkpoint.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

std::string Entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
}

// A file of one tensor "a", with so many bytes of data.
std::string One(const std::string& entry, size_t data = 16) {
  return SafetensorsBytes("{\"a\":" + entry + "}", data);
}

std::string Length(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[static_cast<size_t>(i)] = static_cast<char>(length >> 8 * i);
  return bytes + rest;
}

struct Bad {
  const char* name;
  std::string bytes;
  std::string says;
};

std::vector<Bad> BadFiles() {
  return {
      {"Empty", "", "no safetensors file: it has 0 bytes"},
      {"SevenBytes", "1234567", "no safetensors file"},
      {"HeaderLongerThanTheFile", Length(100, "{}"), "the header has 100 bytes; the file has 10"},
      {"HeaderOfAllBytes", Length(~uint64_t{0}, "{}"), "the header has 18446744073709551615 bytes"},
      {"HeaderAboveTheLimit", Length(uint64_t{101} << 20, "{}"), "the limit is 104857600"},
      {"NoHeader", Length(0, "{}"), "the header: is not valid JSON at byte 1"},
      {"NoJson", SafetensorsBytes("{\"a\":", 4), "the header: is not valid JSON at byte 6"},
      {"AList", SafetensorsBytes("[1]", 4), "no JSON object"},
      {"DeepJson", SafetensorsBytes("{\"a\":" + std::string(5000, '['), 4),
       "the header: is nested deeper than 8"},
      {"ManyValues", SafetensorsBytes("{\"a\":[0" + std::string(4'000'000, ',') + "]}", 4),
       "the header: has 4000004 values; the limit is 4000000"},
      {"TensorTwice",
       SafetensorsBytes("{\"a\":" + Entry("F32", "[1]", "[0,4]") +
                            ",\"a\":" + Entry("F32", "[1]", "[4,8]") + "}",
                        8),
       "the header: the key \"a\" is there twice"},
      {"LongName", SafetensorsBytes("{\"" + std::string(1025, 'a') + "\":1}", 4),
       "a tensor's name has 1025 bytes; the limit is 1024"},
      {"NoUtf8", SafetensorsBytes("{\"\xff\":1}", 4), "the header: is not valid JSON at byte 3"},
      {"EntryIsNumber", One("5"), "tensor a lacks dtype, shape or data_offsets"},
      {"NoDtype", One(R"({"shape":[4],"data_offsets":[0,16]})"), "lacks dtype"},
      {"DtypeIsNumber", One(R"({"dtype":4,"shape":[4],"data_offsets":[0,16]})"), "lacks dtype"},
      {"NoShape", One(R"({"dtype":"F32","data_offsets":[0,16]})"), "lacks dtype, shape"},
      {"ShapeIsNumber", One(Entry("F32", "4", "[0,16]")), "lacks dtype, shape"},
      {"NoOffsets", One(R"({"dtype":"F32","shape":[4]})"), "data_offsets"},
      {"OneOffset", One(Entry("F32", "[4]", "[0]")), "data_offsets"},
      {"ThreeOffsets", One(Entry("F32", "[4]", "[0,16,16]")), "data_offsets"},
      {"NegativeOffset", One(Entry("F32", "[4]", "[-16,0]")), "tensor a has a wrong offset"},
      {"FractionalOffset", One(Entry("F32", "[4]", "[0,16.5]")), "tensor a has a wrong offset"},
      {"TextOffset", One(Entry("F32", "[4]", "[\"0\",16]")), "tensor a has a wrong offset"},
      {"OffsetsBackwards", One(Entry("F32", "[4]", "[16,0]")), "lies at 16..0 of 16 bytes"},
      {"BeyondTheFile", One(Entry("F32", "[4]", "[0,17]")), "lies at 0..17 of 16 bytes"},
      {"FarBeyondTheFile", One(Entry("F32", "[4]", "[18446744073709551600,18446744073709551615]")),
       "of 16 bytes"},
      {"UnknownDtype", One(Entry("I64", "[2]", "[0,16]")),
       "tensor a: dtype I64 is not supported; it can be F32, F16 or BF16"},
      {"ShapeTooSmall", One(Entry("F32", "[3]", "[0,16]")), "has 16 bytes; its shape needs 12"},
      {"ShapeTooLarge", One(Entry("BF16", "[9]", "[0,16]")), "has 16 bytes; its shape needs 18"},
      {"NegativeDimension", One(Entry("F32", "[-4]", "[0,16]")), "has the dimension -4"},
      {"FractionalDimension", One(Entry("F32", "[4.5]", "[0,16]")), "has the dimension 4.5"},
      {"HugeDimension", One(Entry("F32", "[4611686018427387904]", "[0,16]")),
       "has the dimension 4611686018427387904"},
      {"ProductOverflows", One(Entry("F32", "[16,16,16,16,16,16,16,16]", "[0,16]")),
       "its shape needs"},
      {"NineDimensions", One(Entry("F32", "[1,1,1,1,1,1,1,1,4]", "[0,16]")),
       "more than 8 dimensions"},
      {"Overlap",
       SafetensorsBytes("{\"a\":" + Entry("F32", "[3]", "[0,12]") +
                            ",\"b\":" + Entry("F32", "[3]", "[8,20]") + "}",
                        20),
       "tensors a and b overlap"},
  };
}

class BadFileTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadFileTest, IsRefusedNamingFileTensorAndNumbers) {
  const TemporaryFolder folder;
  folder.Write("model.safetensors", GetParam().bytes);

  const absl::Status status = Safetensors::Open(folder.path()).status();

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("model.safetensors"));
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(Files, BadFileTest, ::testing::ValuesIn(BadFiles()),
                         [](const auto& param) { return param.param.name; });

TEST(SafetensorsTest, TensorsAreFoundWithShapeTypeAndData) {
  const TemporaryFolder folder;
  folder.Write("model.safetensors", MakeSafetensors({{"a", {2, 3}}, {"b", {4}}}, "BF16"));
  const auto weights = Safetensors::Open(folder.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  const auto a = weights->Find("a");
  ASSERT_TRUE(a.ok());
  EXPECT_EQ((*a)->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ((*a)->dtype, DType::kBF16);
  EXPECT_EQ((*a)->elements(), 6);
  EXPECT_EQ(weights->parameters(), 10);
  EXPECT_EQ(weights->Find("c").status(), NotFound("tensor c is missing"));
}

TEST(SafetensorsTest, AHeaderOfManyEntriesIsReadWithoutQuadraticTime) {
  std::string header = "{";
  for (int i = 0; i < 200'000; ++i) header += fmt::format("{}\"t{}\":{{}}", i > 0 ? "," : "", i);
  const TemporaryFolder folder;
  folder.Write("model.safetensors", SafetensorsBytes(header + "}", 4));

  EXPECT_THAT(std::string(MessageOf(Safetensors::Open(folder.path()).status())),
              HasSubstr("lacks dtype"));
}

TEST(SafetensorsTest, MetadataAndEmptyTensorsAreNoTrouble) {
  const TemporaryFolder folder;
  folder.Write("model.safetensors",
               SafetensorsBytes(
                   "{\"__metadata__\":{\"format\":\"pt\"},\"a\":" + Entry("F32", "[0,4]", "[0,0]") +
                       ",\"s\":" + Entry("F32", "[]", "[0,4]") + "}",
                   4));
  const auto weights = Safetensors::Open(folder.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->tensors().size(), 2u);
  EXPECT_EQ(weights->parameters(), 1);
}

TEST(SafetensorsTest, ShardsAreOneCheckpoint) {
  const TemporaryFolder folder;
  folder.Write("x-1.safetensors", MakeSafetensors({{"a", {2}}}));
  folder.Write("x-2.safetensors", MakeSafetensors({{"b", {3}}}));
  folder.Write("model.safetensors.index.json",
               R"({"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}})");
  const auto weights = Safetensors::Open(folder.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  EXPECT_EQ(weights->parameters(), 5);
  EXPECT_EQ(weights->Hash("")->size(), 64u);
  EXPECT_NE(*weights->Hash("theta 1"), *weights->Hash("theta 2"));
}

struct BadIndex {
  const char* name;
  const char* index;
  const char* says;
};

class BadIndexTest : public ::testing::TestWithParam<BadIndex> {};

TEST_P(BadIndexTest, IsRefused) {
  const TemporaryFolder folder;
  folder.Write("x.safetensors", MakeSafetensors({{"a", {2}}}));
  folder.Write("y.safetensors", MakeSafetensors({{"a", {2}}}));
  folder.Write("model.safetensors.index.json", GetParam().index);
  const absl::Status status = Safetensors::Open(folder.path()).status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Index, BadIndexTest,
    ::testing::Values(
        BadIndex{"NoJson", "{", "index.json: is not valid JSON at byte 2"},
        BadIndex{"NoMap", "{}", "no weight_map"},
        BadIndex{"MapIsList", R"({"weight_map":[]})", "no weight_map"},
        BadIndex{"FileIsNumber", R"({"weight_map":{"a":5}})", "a lies in the file ''"},
        BadIndex{"FileElsewhere", R"({"weight_map":{"a":"../secret"}})", "'../secret'"},
        BadIndex{"AbsoluteFile", R"({"weight_map":{"a":"/etc/passwd"}})", "'/etc/passwd'"},
        BadIndex{"FileIsMissing", R"({"weight_map":{"a":"z.safetensors"}})", "z.safetensors"},
        BadIndex{"ParentFolder", R"({"weight_map":{"a":".."}})", "..: is a folder"},
        BadIndex{"TwiceATensor", R"({"weight_map":{"a":"x.safetensors","b":"y.safetensors"}})",
                 "tensor a is in two files"}),
    [](const auto& param) { return param.param.name; });

TEST(SafetensorsTest, WhatIsNoFileIsRefusedWithoutWaitingForIt) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    const TemporaryFolder pipe, circle, folder;
    ASSERT_EQ(mkfifo((pipe.path() / name).c_str(), 0600), 0);
    std::filesystem::create_symlink(name, circle.path() / name);
    std::filesystem::create_directory(folder.path() / name);
    EXPECT_THAT(std::string(MessageOf(Safetensors::Open(pipe.path()).status())),
                HasSubstr(std::string(name) + ": is no regular file"));
    EXPECT_THAT(std::string(MessageOf(Safetensors::Open(circle.path()).status())),
                HasSubstr(std::string(name) + ": Too many levels of symbolic links"));
    EXPECT_THAT(std::string(MessageOf(Safetensors::Open(folder.path()).status())),
                HasSubstr(std::string(name) + ": is a folder"));
  }
}

TEST(SafetensorsTest, AFolderWithoutWeightsIsNotFound) {
  const TemporaryFolder folder;
  EXPECT_EQ(Safetensors::Open(folder.path()).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace conclave::worker
