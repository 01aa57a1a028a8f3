#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/fuzz/counted_memory.h"
#include "tests/fuzz/mutate.h"
#include "tests/unit/worker/text/fixture_texts.h"
#include "tests/unit/worker/text/small_tokenizer.h"
#include "worker/text/chat_template.h"
#include "worker/text/generation_config.h"
#include "worker/text/tokenizer.h"
#include "worker/text/utf8.h"

// Files of strangers, mutated and truncated from seeds: they load or are refused, and what loads
// works. No crash, no endless work, no more memory than a bound. A failure names its seed.
namespace conclave::worker {
namespace {

using Json = nlohmann::json;
Json Surprise(Random& random, Json& root) {
  const Json kSurprises[] = {nullptr,
                             true,
                             0,
                             -1,
                             7,
                             1LL << 40,
                             1 << 24,
                             0.5,
                             1e300,
                             "",
                             "\xE2\x96\x81",
                             " ",
                             "(a+)+b",
                             "\\s*\\s*\\s*",
                             "(?R)",
                             Json::array(),
                             Json::object(),
                             std::string(5000, 'a'),
                             "Sequence",
                             "Metaspace",
                             "ByteLevel",
                             "NFKD"};
  if (random() % 4 == 0) return AnyNode(random, root);
  return kSurprises[Below(random, std::size(kSurprises))];
}

std::vector<Json> TokenizerSeeds() {
  std::vector<Json> seeds = {SmallFile(), CharacterFile(), CharacterFile(), SmallFile()};
  seeds[2]["pre_tokenizer"] = {{"type", "Metaspace"},
                               {"replacement", "\xE2\x96\x81"},
                               {"prepend_scheme", "first"},
                               {"split", true}};
  seeds[2]["normalizer"] = {
      {"type", "Sequence"},
      {"normalizers",
       {{{"type", "NFKC"}},
        {{"type", "Lowercase"}},
        {{"type", "StripAccents"}},
        {{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}}}}};
  seeds[3]["pre_tokenizer"] = {{"type", "Sequence"},
                               {"pretokenizers",
                                {{{"type", "Split"},
                                  {"pattern", {{"Regex", "\\p{N}{1,3}|\\s+(?!\\S)"}}},
                                  {"behavior", "MergedWithPrevious"},
                                  {"invert", false}},
                                 {{"type", "Digits"}, {"individual_digits", true}},
                                 {{"type", "Punctuation"}, {"behavior", "Contiguous"}},
                                 {{"type", "ByteLevel"}, {"use_regex", true}}}}};
  const std::string real = ReadAll(kFixtures + "models/stories260K/hf/tokenizer.json");
  if (!real.empty()) seeds.push_back(Json::parse(real));
  return seeds;
}

// What loads must work: ids in range, whole characters, and the stream says what the whole does.
void Use(const Tokenizer& tokenizer, Random& random) {
  const std::string text = "Hello,  <s>w\xC3\xB6rld\xE2\x96\x81 123\n\n\xF0\x9F\x98\x80</s> hell " +
                           std::string(300, "a b1"[Below(random, 4)]);
  for (const auto& ids : {tokenizer.Encode(text), tokenizer.EncodeWithSpecials(text)}) {
    if (!ids.ok()) continue;  // A pattern that costs too much.
    for (const TokenId id : *ids) ASSERT_TRUE(id >= 0 && id < tokenizer.vocab_size()) << id;
  }
  std::vector<TokenId> ids;
  IncrementalDecoder stream(tokenizer);
  std::string released;
  for (int i = 0; i < 40; ++i) {
    ids.push_back(
        static_cast<TokenId>(Below(random, static_cast<size_t>(tokenizer.vocab_size()) + 2)) - 1);
    released += stream.Feed(ids.back());
  }
  released += stream.Flush();
  ASSERT_EQ(released, tokenizer.Decode(ids));
}

TEST(TextFuzzTest, LoadsOrRefusesMutatedTokenizers) {
  const std::vector<Json> seeds = TokenizerSeeds();
  const std::vector<std::string> words = {"{",  "}",        "[",       "]",       "\"",
                                          ":",  ",",        "null",    "\\u0000", "9999999999",
                                          "-1", "\"type\"", "[[[[[[[["};
  int loaded = 0;
  const int kMutants = Rounds(4'000);
  size_t peak = 0;
  for (int seed = 0; seed < kMutants; ++seed) {
    SCOPED_TRACE(seed);
    Random random(SeedOf(seed));
    Json file = seeds[Below(random, seeds.size())];
    for (size_t n = Below(random, 3) + (seed % 2 == 0 ? 1 : 0); n > 0; --n) {
      Json surprise = Surprise(random, file);
      AnyNode(random, file) = std::move(surprise);
    }
    std::string text = file.dump(-1, ' ', false, Json::error_handler_t::replace);
    for (size_t n = seed % 2 == 0 ? 0 : 1 + Below(random, 3); n > 0; --n) {
      Mutate(random, words, text);
    }
    const CountedMemory memory;
    const auto tokenizer = Tokenizer::Parse(text, "t.json");
    if (tokenizer.ok()) {
      ++loaded;
      Use(**tokenizer, random);
    } else {
      ASSERT_TRUE(tokenizer.status().message().find("t.json") == 0) << tokenizer.status();
    }
    peak = std::max(peak, memory.peak());
    ASSERT_LT(memory.peak(), size_t{64} << 20);
    if (HasFatalFailure()) return;
  }
  std::printf("tokenizers: %d of %d mutants loaded; at most %zu KiB were taken\n", loaded, kMutants,
              peak >> 10);
  EXPECT_GT(loaded, kMutants / 20);
  EXPECT_LT(loaded, kMutants);
}

TEST(TextFuzzTest, RefusesEveryTruncationOfATokenizer) {
  const std::string text = CharacterFile().dump();
  for (size_t size = 0; size < text.size(); ++size) {
    ASSERT_FALSE(Tokenizer::Parse(text.substr(0, size), "t.json").ok()) << size;
  }
}

// How a model is drawn from when nobody says: whatever is taken can be drawn with.
TEST(TextFuzzTest, AGenerationConfigThatIsTakenCanBeDrawnWith) {
  const Json seed_file = {{"eos_token_id", {2, 7}},
                          {"do_sample", true},
                          {"temperature", 0.6},
                          {"top_k", 20},
                          {"top_p", 0.95},
                          {"min_p", 0.1},
                          {"repetition_penalty", 1.1},
                          {"transformers_version", "4.51.0"}};
  const std::vector<std::string> words = {"{", "}", "[",    "]",   ":",     ",",  "null",
                                          "-", "9", "1e99", "nan", "false", "\"", "\"top_k\""};
  int taken = 0;
  const int kMutants = Rounds(20'000);
  for (int seed = 0; seed < kMutants; ++seed) {
    SCOPED_TRACE(seed);
    Random random(SeedOf(seed));
    Json file = seed_file;
    for (size_t n = Below(random, 3); n > 0; --n) {
      Json surprise = Surprise(random, file);
      AnyNode(random, file) = std::move(surprise);
    }
    std::string text = file.dump(-1, ' ', false, Json::error_handler_t::replace);
    for (size_t n = seed % 2 == 0 ? 0 : Below(random, 3); n > 0; --n) Mutate(random, words, text);
    const CountedMemory memory;
    const auto config = ParseGenerationConfig(text, "g.json");
    ASSERT_LT(memory.peak(), size_t{4} << 20);
    if (!config.ok()) {
      ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_TRUE(config.status().message().find("g.json") == 0) << config.status();
      continue;
    }
    ++taken;
    const Sampling& s = config->sampling;
    ASSERT_TRUE(s.temperature >= 0 && s.temperature <= 100) << text;
    ASSERT_TRUE(s.top_p > 0 && s.top_p <= 1 && s.min_p >= 0 && s.min_p < 1) << text;
    ASSERT_TRUE(s.top_k >= 0 && s.top_k <= 1024) << text;
    ASSERT_TRUE(s.repetition_penalty > 0 && s.repetition_penalty <= 10) << text;
    const std::vector<TokenId>& ends = config->end_tokens;
    ASSERT_TRUE(std::is_sorted(ends.begin(), ends.end()) && (ends.empty() || ends[0] >= 0)) << text;
    ASSERT_EQ(config->source, text);
  }
  std::printf("generation configs: %d of %d mutants were taken\n", taken, kMutants);
  EXPECT_GT(taken, kMutants / 20);
  EXPECT_LT(taken, kMutants);
}

std::vector<std::string> TemplateSeeds() {
  std::vector<std::string> seeds = {
      "{% macro m(a, b=1) %}{{ a ~ b }}{{ caller() if caller }}{% endmacro %}"
      "{% for x in messages recursive %}{% call m(x.role) %}{{ x | tojson(indent=2) }}{% endcall %}"
      "{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
      "{% set ns = namespace(a=[]) %}{% for k, v in tools[0] | dictsort %}{% set ns.a = ns.a + [k] "
      "%}"
      "{% endfor %}{{ ns.a | join(',') }}{{ 'x%5.2f' % 3.5 }}{{ '{}'.format(ns.a[::-1]) }}",
      "{% filter indent(2) %}{% raw %}{{{% endraw %}{% set x %}{{ messages | "
      "map(attribute='content') "
      "| list }}{% endset %}{{ x.split() | unique | sort(reverse=true) | first }}{% endfilter %}"};
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(kFixtures + "chat_templates/jinja", error)) {
    seeds.push_back(ReadAll(entry.path().string()));
  }
  const std::string snippets = ReadAll(kFixtures + "chat_templates/language_snippets.json");
  if (!snippets.empty()) {
    for (const Json& snippet : Json::parse(snippets)) seeds.push_back(snippet.at("template"));
  }
  std::sort(seeds.begin(), seeds.end());  // The folder's order is nobody's.
  return seeds;
}

const nlohmann::ordered_json& Conversation() {
  static const auto conversation = nlohmann::ordered_json::parse(R"({
    "messages": [{"role": "system", "content": "Be terse."},
                 {"role": "user", "content": "2+2?"},
                 {"role": "assistant", "content": "<think>\nhm\n</think>\n\n4",
                  "tool_calls": [{"id": "call12345", "type": "function",
                                  "function": {"name": "f", "arguments": {"a": [1, 2.5, null]}}}]},
                 {"role": "tool", "name": "f", "tool_call_id": "call12345", "content": "{}"},
                 {"role": "user", "content": [{"type": "text", "text": "again"}]}],
    "tools": [{"type": "function",
               "function": {"name": "f", "description": "d",
                            "parameters": {"type": "object", "required": ["a"],
                                           "properties": {"a": {"type": "string"}}}}}],
    "add_generation_prompt": true, "enable_thinking": false})");
  return conversation;
}

TEST(TextFuzzTest, RendersOrRefusesMutatedTemplates) {
  const std::vector<std::string> seeds = TemplateSeeds();
  const std::vector<std::string> words = {"{%",
                                          "%}",
                                          "{{",
                                          "}}",
                                          "{#",
                                          "#}",
                                          "-",
                                          "(",
                                          ")",
                                          "[",
                                          "]",
                                          "{",
                                          "}",
                                          "'",
                                          "\"",
                                          "|",
                                          ".",
                                          " * 9999999 ",
                                          " ** 99 ",
                                          "[::-1]",
                                          " | tojson",
                                          " | list",
                                          " | string",
                                          " for x in ",
                                          " if ",
                                          " else ",
                                          " in ",
                                          " not ",
                                          " is ",
                                          " ~ ",
                                          " recursive ",
                                          "{% for x in messages %}",
                                          "{% endfor %}",
                                          "{% if true %}",
                                          "{% endif %}",
                                          "{% macro m(x) %}",
                                          "{% endmacro %}",
                                          "{{ m(m) }}",
                                          "{{ loop(messages) }}",
                                          "{% set ns.x = ns %}",
                                          "messages",
                                          "namespace(x=1)",
                                          "range(99999)",
                                          "\\",
                                          "\n",
                                          " | replace('', 'xxxxxxxx')",
                                          " | map('map', 'map')"};
  const TemplateLimits limits = {.steps = 100'000, .output_bytes = size_t{1} << 20};
  int rendered = 0, parsed = 0;
  const int kMutants = Rounds(6'000);
  size_t peak = 0;
  for (int seed = 0; seed < kMutants; ++seed) {
    SCOPED_TRACE(seed);
    Random random(SeedOf(seed));
    std::string source = seeds[Below(random, seeds.size())];
    for (size_t n = 1 + Below(random, 2); n > 0; --n) Mutate(random, words, source);
    const CountedMemory memory;
    const auto chat = ChatTemplate::Parse(source, "t");
    if (chat.ok()) {
      ++parsed;
      const auto text = chat->RenderJson(Conversation(), 1'753'533'296, limits);
      if (text.ok()) {
        ++rendered;
        ASSERT_LE(text->size(), limits.output_bytes);
        ASSERT_EQ(FirstInvalidUtf8(text->text()), text->size()) << source;
      } else {
        ASSERT_TRUE(text.status().message().find("t: line ") == 0) << text.status();
      }
    }
    peak = std::max(peak, memory.peak());
    ASSERT_LT(memory.peak(), size_t{256} << 20) << source;
  }
  std::printf("templates: %d of %d mutants parsed, %d rendered; at most %zu KiB were taken\n",
              parsed, kMutants, rendered, peak >> 10);
  EXPECT_GT(rendered, kMutants / 20);
  EXPECT_LT(rendered, parsed);
}

TEST(TextFuzzTest, RefusesDeepAndLargeFilesBeforeTheyCostMemory) {
  const CountedMemory memory;
  for (const std::string piece : {"[", "{\"a\":", "{\"model\":[", "[[{\"x\":"}) {
    std::string deep;
    while (deep.size() < (1 << 20)) deep += piece;
    EXPECT_FALSE(Tokenizer::Parse(deep, "t.json").ok());
  }
  EXPECT_LT(memory.peak(), size_t{8} << 20);
  // An id costs memory up to it.
  Json file = SmallFile();
  file["model"]["vocab"]["x9"] = 1 << 23;
  EXPECT_FALSE(Tokenizer::Parse(file.dump(), "t.json").ok());
  EXPECT_LT(memory.peak(), size_t{16} << 20);
}

}  // namespace
}  // namespace conclave::worker
