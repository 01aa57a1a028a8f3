#include "common/json_shape.h"

#include <gtest/gtest.h>

#include <string>

namespace conclave {
namespace {

TEST(JsonShapeTest, TellsDepthAndKeysOfTheWidestObject) {
  const JsonShape shape = ShapeOfJson(R"({"a": [{"b": 1}, {"c": 1, "d": 2, "e": {}}], "f": 0})", 9);

  EXPECT_EQ(shape.depth, 4);
  EXPECT_EQ(shape.keys, 3u);
}

TEST(JsonShapeTest, LooksIntoNoString) {
  const JsonShape shape = ShapeOfJson(R"({"[{:\"[[": "\\", "b": ":::"})", 9);

  EXPECT_EQ(shape.depth, 1);
  EXPECT_EQ(shape.keys, 2u);
}

TEST(JsonShapeTest, GoesNoDeeperThanItIsTold) {
  EXPECT_EQ(ShapeOfJson(std::string(1 << 20, '['), 8).depth, 9);
}

TEST(JsonShapeTest, TakesAnyText) {
  for (const char* text : {"", "]]}}:", "\"", "\"\\", "{:", "}{", "\\"}) ShapeOfJson(text, 9);
  EXPECT_EQ(ShapeOfJson("]]]][", 9).depth, 1);
}

}  // namespace
}  // namespace conclave
