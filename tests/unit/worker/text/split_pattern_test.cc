#include "worker/text/split_pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <random>
#include <string>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/text/small_tokenizer.h"
#include "worker/text/tokenizer.h"

namespace conclave::worker {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What models that are in use split with.
constexpr char kGpt2[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr char kLlama3[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kLlama4[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|)"
    R"(\s+(?!\S)|\s+)";

SplitPattern Compiled(const std::string& pattern) {
  auto compiled = SplitPattern::Compile(pattern, {});
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return *std::move(compiled);
}

absl::Status WhyNot(const std::string& pattern) {
  return SplitPattern::Compile(pattern, {}).status();
}

std::vector<std::string> Pieces(const SplitPattern& pattern, const std::string& text) {
  std::vector<SplitPattern::Piece> pieces;
  MatchBudget budget(text.size());
  const absl::Status status = pattern.Cut(text, budget, pieces);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> texts;
  for (const auto& piece : pieces)
    texts.push_back((piece.matched ? "+" : "-") + std::string(piece.text));
  return texts;
}

// The same by one search after another through the whole text, without any limit.
std::vector<std::string> PlainPieces(const std::string& pattern, const std::string& text) {
  int error = 0;
  size_t at = 0, done = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  std::vector<std::string> texts;
  for (size_t from = 0; from < text.size();) {
    if (pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, 0, data,
                    nullptr) < 0) {
      break;
    }
    const size_t begin = pcre2_get_ovector_pointer(data)[0],
                 end = pcre2_get_ovector_pointer(data)[1];
    from = end;
    if (begin == end) {
      if (end < text.size()) from += ReadUtf8(std::string_view(text).substr(end)).bytes;
      continue;
    }
    if (done < begin) texts.push_back("-" + text.substr(done, begin - done));
    texts.push_back("+" + text.substr(begin, end - begin));
    done = end;
  }
  if (done < text.size()) texts.push_back("-" + text.substr(done));
  pcre2_match_data_free(data);
  pcre2_code_free(code);
  return texts;
}

std::string Times(size_t count, const std::string& text) {
  std::string all;
  while (count-- > 0) all += text;
  return all;
}

TEST(SplitPatternTest, LongAndShortMatchesAreThoseOfOnePlainSearch) {
  // Looks ahead and behind, borders, ends, and what matches nothing among them.
  const std::vector<std::string> patterns = {kGpt2,
                                             kLlama3,
                                             kLlama4,
                                             "a*",
                                             "(?<=a)b+|\\n$",
                                             "\\bab\\b",
                                             "a{1,5}(?=[^a]{0,90}b)",
                                             "(?:a|ab)(?:c|)",
                                             "[^a ]{2,90}",
                                             "(ab)+?c|\\p{Lu}",
                                             "x",
                                             "\\s$|a{3,70}",
                                             "(?!a)\\w+",
                                             "b|$",
                                             "\\R|a{1,9}+b"};
  const std::vector<std::string> words = {"a",  "b", "ab", "c",  " ", "\n", "\r\n", "'re",
                                          "AB", "7", "é",  "中", "😀", ".",  "x\t"};
  std::mt19937 random(11);
  for (int round = 0; round < 600; ++round) {
    const std::string& pattern = patterns[static_cast<size_t>(round) % patterns.size()];
    std::string text;
    for (int i = static_cast<int>(random() % 12); i >= 0; --i) {
      const size_t count = random() % 3 == 0 ? random() % 150 : random() % 4;
      text += Times(count, words[random() % words.size()]);
    }
    ASSERT_EQ(Pieces(Compiled(pattern), text), PlainPieces(pattern, text))
        << pattern << " in '" << text << "'";
  }
}

TEST(SplitPatternTest, RealPatternsSplitTheTextsThatSuitThemLeast) {
  constexpr size_t kBytes = size_t{1} << 14;
  for (const char* pattern : {kGpt2, kLlama3, kLlama4}) {
    for (const char* unit : {"A", "a", " ", "7", "!", "中", " \n", "'re", "   x", "Aa", "\n\r "}) {
      EXPECT_FALSE(Pieces(Compiled(pattern), Times(kBytes / 2, unit) + ".").empty()) << unit;
    }
  }
}

TEST(SplitPatternTest, PatternsMadeToBeSlowEndWithAnErrorThatNamesThem) {
  // Exponential, quadratic without going back, by calls, and without any repetition.
  const std::vector<std::string> patterns = {
      "(a+)+[xy]|a",
      "(?:a|a?)+[xy]|a",
      "a*+[xy]|a",
      "a*[xy]|a",
      "(?:(?=a)|(?=a)){25}[xy]|a",
      "(?:a|a)(?:a|a)(?:a|a)(?:a|a)(?:a|a)(?:a|a)(?:a|a)(?:a|a)(?:a|a)[xy]|a",
      "(?(DEFINE)(?<a>a|a)(?<b>(?&a)(?&a))(?<c>(?&b)(?&b))(?<d>(?&c)(?&c)))(?&d)(?&d)[xy]|a",
      "(?=.*[xy])a|a"};
  const std::string text(1 << 16, 'a');
  for (const std::string& pattern : patterns) {
    std::vector<std::string_view> pieces;
    MatchBudget budget(text.size());
    const absl::Status status = Compiled(pattern).Split(text, budget, pieces);
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << pattern;
    EXPECT_THAT(std::string(MessageOf(status)),
                AllOf(StartsWith("pattern '" + pattern.substr(0, 50)),
                      HasSubstr("takes too long: more than 65536 steps and 100 for each byte")));
  }
}

TEST(SplitPatternTest, WhatCannotBeCountedIsRefusedWithTheLimit) {
  EXPECT_EQ(MessageOf(WhyNot("(a*)\\1")),
            "pattern '(a*)\\1' refers back to a group, which is not supported");
  EXPECT_EQ(WhyNot("(a*)\\1").code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(MessageOf(WhyNot("a{3,101}")),
            "pattern 'a{3,101}' repeats 101 times; the limit is 100");
  EXPECT_EQ(MessageOf(WhyNot("(?<=a{65})b")),
            "pattern '(?<=a{65})b' looks behind 65 characters; the limit is 64");
  EXPECT_THAT(std::string(MessageOf(WhyNot("(?:(?:abc){100}){100}"))),
              HasSubstr("' is not valid: regular expression is too large"));
  EXPECT_THAT(std::string(MessageOf(WhyNot("(" + std::string(200, 'a')))),
              HasSubstr("pattern '(" + std::string(79, 'a') + "...' is not valid: "));
  EXPECT_TRUE(WhyNot("\\x{10FFFF}|a{100}").ok());
}

TEST(SplitPatternTest, PiecesShareTheBudgetOfTheirText) {
  const std::string text = Times(4000, "ab ");
  const SplitPattern slow = Compiled("(?:(?=a)|(?=a)){17}[xy]|.");
  std::vector<std::string_view> pieces;

  MatchBudget one(3);
  EXPECT_FALSE(slow.Split("ab ", one, pieces).ok());

  MatchBudget all(text.size());
  absl::Status status;
  size_t split = 0;
  for (size_t at = 0; status.ok() && at < text.size(); at += 3, ++split) {
    status = slow.Split(std::string_view(text).substr(at, 3), all, pieces);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_LT(split, 4000u);
  EXPECT_EQ(all.left(), 0u);
}

TEST(SplitPatternTest, ATokenizersErrorNamesItsFileToo) {
  nlohmann::json file = SmallFile();
  const nlohmann::json slow = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a+)+[xy]|a"}}}, {"behavior", "Isolated"}};
  file["pre_tokenizer"] = {{"type", "Sequence"},
                           {"pretokenizers", {slow, {{"type", "ByteLevel"}}}}};
  const auto tokenizer = Tokenizer::Parse(file.dump(), "/models/x/tokenizer.json");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();

  const auto ids = (*tokenizer)->Encode(std::string(1000, 'a'));

  EXPECT_EQ(ids.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(ids.status())),
              StartsWith("tokenizer.json: pattern '(a+)+[xy]|a' takes too long"));
}

}  // namespace
}  // namespace conclave::worker
