#include "worker/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <sstream>

namespace conclave::worker {
namespace {

const std::string kFixtures = CONCLAVE_SOURCE_DIR "/../shared/fixtures/chat_templates/";

// The templates whose text conversations all come out as the reference renders them.
const std::set<std::string> kWhole = {};

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

Message User(const std::string& text) { return {Role::kUser, {{text}}}; }

MarkedString RenderMarked(const std::string& source, TemplateInput input) {
  auto parsed = ChatTemplate::Parse(source, "t", "<BOS>", "<EOS>");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  auto text = parsed->Render(input);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *std::move(text) : MarkedString();
}

std::string Render(const std::string& source, TemplateInput input = {}) {
  return RenderMarked(source, std::move(input)).text();
}

absl::Status Failure(const std::string& source, const TemplateLimits& limits = {}) {
  auto parsed = ChatTemplate::Parse(source, "t");
  if (!parsed.ok()) return parsed.status();
  return parsed->Render({}, limits).status();
}

TEST(ChatTemplateTest, WritesTheConversationOfTheModelThatShips) {
  const auto shipped = ChatTemplate::Load(CONCLAVE_SOURCE_DIR "/models/conclave-demo");
  ASSERT_TRUE(shipped.ok()) << shipped.status();
  TemplateInput input;
  input.messages = {User("Hi")};

  EXPECT_EQ(shipped->Render(input)->text(),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  input.variables["enable_thinking"] = false;
  EXPECT_EQ(shipped->Render(input)->text(),
            "<|im_start|>system\nReasoning effort: low<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

TEST(ChatTemplateTest, KeepsTheCallersMarksThroughFiltersAndConcatenation) {
  TemplateInput input;
  input.messages = {User("  a-b  ")};
  const MarkedString text = RenderMarked(
      "[{{ messages[0]['content'] | trim | replace('-', '+') | upper }}]"
      "{{ '(' + messages[0].content.strip() ~ ')' }}{{ messages[0].content.split('-')[0] }}",
      input);

  EXPECT_EQ(text.text(), "[A+B](a-b)  a");
  std::string authors;
  for (size_t i = 0; i < text.size(); ++i) {
    authors += text.author_at(i) == Author::kCaller ? 'c' : 't';
  }
  EXPECT_EQ(authors, "tctcttccctccc");
}

TEST(ChatTemplateTest, ShowsTheTimeItIsGiven) {
  TemplateInput input;
  input.time_of_day = 1'753'533'296;

  EXPECT_EQ(Render("{{ strftime_now('%d %b %Y %H:%M') }}", input), "26 Jul 2025 12:34");
}

TEST(ChatTemplateTest, GivesTheTemplateItsTokensAndVariables) {
  TemplateInput input;
  input.variables = {{"flag", true}, {"count", int64_t{3}}, {"rate", 0.5}, {"name", "x"}};

  EXPECT_EQ(
      Render("{{ bos_token }}{{ eos_token }} {{ flag }} {{ count }} {{ rate }} {{ name }}", input),
      "<BOS><EOS> True 3 0.5 x");
}

TEST(ChatTemplateTest, TrimsBlocksAndTheirIndentation) {
  EXPECT_EQ(Render("a\n  {% if true %}\n b\n  {% endif %}\nc"), "a\n b\nc");
  EXPECT_EQ(Render("a {%- if true -%} b {%- endif -%} c"), "abc");
}

TEST(ChatTemplateTest, NamesTemplateLineAndConstruct) {
  EXPECT_THAT(std::string(Failure("\n{% frobnicate %}").message()),
              testing::AllOf(testing::HasSubstr("t: line 2"), testing::HasSubstr("frobnicate")));
  EXPECT_THAT(std::string(Failure("\n\n{{ 1 | frobnicate }}").message()),
              testing::AllOf(testing::HasSubstr("t: line 3"), testing::HasSubstr("frobnicate")));
}

TEST(ChatTemplateTest, PassesOnWhatTheTemplateRefuses) {
  const absl::Status status = Failure("{{ raise_exception('no system turn') }}");

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("no system turn"));
}

TEST(ChatTemplateTest, EndsTemplatesThatDoNotEnd) {
  const std::string loops =
      "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}"
      "{% endfor %}";
  EXPECT_EQ(Failure(loops, {.steps = 100'000}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(
      Failure("{% for a in range(99999) %}xxxxxxxxxxxxxxxx{% endfor %}", {.output_bytes = 1000})
          .code(),
      absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Failure("{% set ns = namespace(s='x') %}{% for a in range(99) %}"
                    "{% set ns.s = ns.s ~ ns.s %}{% endfor %}")
                .code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ChatTemplateTest, RefusesExpressionsThatNestTooDeeply) {
  for (const std::string piece : {"(", "[", "not ", "-", "1+", "x.a|trim|", "1 if 1 else "}) {
    std::string source = "{{ ";
    for (int i = 0; i < 100'000; ++i) source += piece;
    EXPECT_FALSE(Failure(source + "1 }}").ok()) << piece;
  }
  std::string blocks;
  for (int i = 0; i < 100'000; ++i) blocks += "{% if 1 %}";
  EXPECT_FALSE(Failure(blocks).ok());
}

TEST(ChatTemplateTest, SurvivesANamespaceThatHoldsItself) {
  EXPECT_FALSE(Failure("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}").ok());
  EXPECT_FALSE(Failure("{% set ns = namespace(l=[]) %}{% for i in range(99999) %}"
                       "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l == ns.l }}")
                   .ok());
}

TEST(ChatTemplateTest, NeverFailsOnGarbage) {
  static constexpr std::string_view kPieces[] = {
      "{%",   "%}",   "{{", "}}", "{#", "#}", "-",       " if ",     " for ", " in ",     " set ",
      "x",    "=",    "'",  "[",  "]",  "(",  ")",       "{",        "}",     ".",        "|",
      "trim", " is ", "1",  ":",  ",",  "\n", " endif ", " endfor ", "~",     "messages", " else "};
  std::mt19937 random(5);
  for (int round = 0; round < 5'000; ++round) {
    std::string source;
    for (size_t n = random() % 30; n > 0; --n) source += kPieces[random() % std::size(kPieces)];
    (void)Failure(source, {.steps = 10'000});
  }
}

Role RoleOf(const std::string& name) {
  return name == "system" ? Role::kSystem : name == "user" ? Role::kUser : Role::kAssistant;
}

TemplateInput InputOf(const nlohmann::json& context) {
  TemplateInput input;
  for (const auto& message : context.at("messages")) {
    input.messages.push_back({RoleOf(message.at("role")), {{message.at("content")}}});
  }
  input.add_generation_prompt = context.at("add_generation_prompt");
  if (context.contains("enable_thinking")) input.variables["enable_thinking"] = false;
  input.time_of_day = 1'753'533'296;
  return input;
}

TEST(ChatTemplateGoldenTest, RendersTextConversationsAsTheReferenceDoes) {
  const std::string goldens = ReadAll(kFixtures + "goldens.json");
  if (goldens.empty()) GTEST_SKIP() << kFixtures << " is not there";
  const auto cases = nlohmann::json::parse(goldens).at("cases");
  const auto contexts = nlohmann::json::parse(ReadAll(kFixtures + "contexts.json"));
  std::map<std::string, std::vector<std::string>> wrong;
  for (const auto& golden : cases) {
    const std::string name = golden.at("template"), context = golden.at("context");
    if (context == "tools" || context == "toolcall" || context == "image") continue;
    const auto parsed =
        ChatTemplate::Parse(ReadAll(kFixtures + "jinja/" + name), name, "<BOS>", "<EOS>");
    const auto text = parsed.ok() ? parsed->Render(InputOf(contexts.at(context)))
                                  : absl::StatusOr<MarkedString>(parsed.status());
    const bool right =
        golden.contains("error") ? !text.ok() : text.ok() && text->text() == golden.at("expected");
    if (!right) {
      wrong[name].push_back(context + ": " +
                            (text.ok() ? text->text() : std::string(text.status().message())));
    } else {
      wrong[name];
    }
  }
  for (const auto& [name, errors] : wrong) {
    if (errors.empty())
      printf("PASS \"%s\",\n", name.c_str());
    else
      printf("WRONG %s %s\n", name.c_str(), errors[0].substr(0, 200).c_str());
  }
}

}  // namespace
}  // namespace conclave::worker
