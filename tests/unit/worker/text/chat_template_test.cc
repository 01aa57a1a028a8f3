#include "worker/text/chat_template.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace conclave::worker {
namespace {

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

TEST(ChatTemplateTest, RunsTheLanguagesStatements) {
  EXPECT_EQ(Render("{% for x in [3, 1, 2] | sort %}{% if x == 2 %}{% continue %}{% endif %}"
                   "{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %},{% endif %}"
                   "{% else %}none{% endfor %}"),
            "1/3:1,3/3:3");
  EXPECT_EQ(Render("{% macro m(a, b=a ~ '!') %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}"
                   "{{ m('x') }}{% call m('y', b='?') %}z{% endcall %}"),
            "xx!y?z");
  EXPECT_EQ(Render("{% set x %}a{{ 1 }}{% endset %}{% filter upper %}{{ x }}b{% endfilter %}"
                   "{% set y | upper %}c{% endset %}{{ y }}"),
            "A1BC");
  EXPECT_EQ(Render("{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}"), "3False");
  EXPECT_EQ(Render("{% raw %}{{ x }}{% endraw %}{% generation %}g{% endgeneration %}"), "{{ x }}g");
  EXPECT_EQ(Render("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is sequence else x }}"
                   "{% endfor %}"),
            "123");
}

TEST(ChatTemplateTest, KeepsVariablesInTheirBlocks) {
  EXPECT_EQ(Render("{% set a = 1 %}{% for i in [1, 2] %}{{ a }}{% set a = a + i %}{{ a }}"
                   "{% endfor %}{{ a }}"),
            "12131");
  EXPECT_EQ(Render("{% macro m() %}{{ a }}{% endmacro %}{% set a = 1 %}"
                   "{% for a in [5] %}{{ m() }}{% endfor %}"),
            "1");
  EXPECT_EQ(Render("{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}"
                   "{% endfor %}{{ ns.n }}"),
            "6");
}

TEST(ChatTemplateTest, KeepsACallersMarksInEverythingThatCanPrintThem) {
  // Each prints the caller's "<s>" somehow; none of its bytes may become the template's.
  for (const std::string expression : {"x",
                                       "x ~ ''",
                                       "[x] | string",
                                       "{x: x} | tojson",
                                       "x | tojson(ensure_ascii=true)",
                                       "x | upper | lower",
                                       "x.title().lower()",
                                       "x[0:3]",
                                       "x[::-1][::-1]",
                                       "x | list | join",
                                       "x.split('q')[0]",
                                       "'%s' % x",
                                       "'%s' | format(x)",
                                       "'{}'.format(x)",
                                       "x * 1",
                                       "x | replace('q', '')",
                                       "'q' | replace('q', x)",
                                       "x.replace('<s>', x)",
                                       "x | indent",
                                       "'q' | indent(x, true)",
                                       "x | trim",
                                       "'q'.join([x, x])",
                                       "[x] | map('upper') | map('lower') | first",
                                       "[x] | sort | first",
                                       "[x] | unique | first",
                                       "{x: 1} | dictsort | first | first",
                                       "({x: 1} | items | first)[0]",
                                       "{x: 1}.keys() | first",
                                       "dict({x: 1}) | string",
                                       "namespace(a=x).a",
                                       "x.ljust(9, x[0])",
                                       "x.partition('q')[0]",
                                       "x.splitlines()[0]",
                                       "(x ~ '\n') | from_json | string if false else x",
                                       "('\"' ~ x ~ '\"') | from_json",
                                       "strftime_now(x)",
                                       "[{'a': x}] | groupby('a') | first | first",
                                       "x | batch(3) | first | join",
                                       "x | default('')",
                                       "x or ''",
                                       "(x, ) | string",
                                       "x | safe",
                                       "x | reverse | reverse"}) {
    TemplateInput input;
    input.messages = {User("<s>")};
    const MarkedString text =
        RenderMarked("{% set x = messages[0].content %}{{ " + expression + " }}", input);
    const size_t at = text.text().find("<s>");
    ASSERT_NE(at, std::string::npos) << expression << ": " << text.text();
    for (size_t i = at; i < at + 3; ++i) {
      EXPECT_EQ(text.author_at(i), Author::kCaller) << expression;
    }
  }
}

TEST(ChatTemplateTest, RefusesACallersNameAsAKeyword) {
  TemplateInput input;
  input.messages = {User("<s>")};
  auto parsed = ChatTemplate::Parse("{{ dict(**{messages[0].content: 1}) }}", "t");

  EXPECT_FALSE(parsed->Render(input).ok());
}

TEST(ChatTemplateTest, SaysWhatIsWrongAsThePersonWhoWroteItWouldLookForIt) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{{ 'a' + 1 }}", "can only concatenate str (not \"int\") to str"},
      {"{{ nothing.x }}", "'nothing' is undefined"},
      {"{{ {}.x.y }}", "'dict object' has no attribute 'x'"},
      {"{{ [].append(1) }}", "access to attribute 'append' of 'list' object is unsafe"},
      {"{{ [1] | select | length }}", "object of type 'generator' has no len()"},
      {"{{ 'a' | frobnicate }}", "the filter 'frobnicate' is not interpreted"},
      {"{{ 'a' is frobnicate }}", "the test 'frobnicate' is not interpreted"},
      {"{% include 'x' %}", "the block 'include' is not interpreted"},
      {"{% break %}", "outside of every loop"},
      {"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "macro 'm' takes not more than 1"},
      {"{{ 1 // 0 }}", "'//' by 0"},
      {"{{ 9223372036854775807 + 1 }}", "too large"}};
  for (const auto& [source, reason] : cases) {
    const absl::Status status = Failure("\n" + source);
    EXPECT_THAT(std::string(status.message()),
                testing::AllOf(testing::HasSubstr("t: line 2"), testing::HasSubstr(reason)))
        << source;
  }
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

TEST(ChatTemplateTest, EndsRecursionAndGrowthWithinItsLimits) {
  for (const std::string source :
       {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{% for i in [1, 2] %}{{ m(n) }}{% endfor %}{% endmacro %}{{ m(1) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{{ 'x' * 99999999 }}",
        "{{ [1] * 99999999 }}", "{{ '%999999999d' % 1 }}", "{{ 'x'.ljust(999999999) }}",
        "{{ range(999999999) }}", "{{ ('x' * 4000000) | replace('x', 'y' * 4000000) }}",
        "{{ 'x' | indent(999999999) }}", "{{ strftime_now('%999999999d') }}",
        // Sharing that would be walked 2^60 times.
        "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}"
        "{% endfor %}{{ ns.l == 1 }}{{ ns.l | tojson }}"}) {
    EXPECT_FALSE(Failure(source).ok()) << source;
  }
}

// Each goes through more than it has steps for, and would need seconds to hours if that were free.
TEST(ChatTemplateTest, PaysForEverythingThatItGoesThrough) {
  const std::string begin =
      "{% set a = 'aaaaaaaaaa' * 10000 %}{% set b = a ~ 'b' %}{% set h = a ~ a %}"
      "{% set l = ['x'] * 10000 %}{% set m = [a] * 20 %}{% set d = {a: 1, 2: 2, 3: 3} %}";
  std::string many;  // Keywords.
  for (int i = 0; i < 480; ++i) many += fmt::format(", a{}=0", i);
  std::vector<std::string> sources;
  // A part that may be tried at every place.
  for (const char* search :
       {"b in h", "h.find(b)", "h.rfind(b)", "h.count(b)", "h.split(b)", "h.rsplit(b)",
        "h.partition(b)", "h.rpartition(b)", "h.replace(b, 'x')", "('c' ~ h).strip(b)"}) {
    sources.push_back(fmt::format("{}{{{{ ({}) and 1 }}}}", begin, search));
  }
  // What is looked at again and again.
  for (const char* look :
       {"a | length", "a | int", "a | float", "loop.changed(a)", "'y'.startswith(l)",
        "m | max(case_sensitive=true)", "m | sort(case_sensitive=true)",
        "m | map(attribute=a, default=0) | list", "d[a]", "d.get(a)"}) {
    sources.push_back(fmt::format(
        "{}{{% for i in range(600) %}}{{% if {} %}}{{% endif %}}{{% endfor %}}", begin, look));
  }
  sources.push_back("{% set ns = namespace(x=1" + many +
                    ") %}{% for i in range(20000) %}{% if ns.y %}{% endif %}{% endfor %}");
  sources.push_back("{{ ('{x}' * 5000).format(x=1" + many + ") }}");
  sources.push_back("{{ ('%(x)s' * 5000) | format(x=1" + many + ") }}");
  // Parts that become values.
  for (const char* parts : {"('a,' * 20000).split(',')", "('a ' * 20000).split()",
                            "('a\\n' * 20000).splitlines()", "('a\\n' * 20000) | indent"}) {
    sources.push_back(fmt::format("{{{{ {} | length }}}}", parts));
  }
  for (const std::string& source : sources) {
    EXPECT_EQ(Failure(source, {.steps = 200'000}).code(), absl::StatusCode::kResourceExhausted)
        << source.substr(0, 300);
  }
}

TEST(ChatTemplateTest, ReadsObjectsOfABoundedNumberOfKeys) {
  const auto parsed = ChatTemplate::Parse("{{ messages[0].content | from_json | length }}", "t");
  const auto with = [&](size_t keys) {
    std::string json = "{";
    for (size_t i = 0; i < keys; ++i) json += fmt::format("{}\"k{}\": {{}}", i > 0 ? "," : "", i);
    TemplateInput input;
    input.messages = {User(json + "}")};
    return parsed->Render(input);
  };

  EXPECT_EQ(with(1024)->text(), "1024");
  EXPECT_EQ(with(1025).status().code(), absl::StatusCode::kInvalidArgument);
  // Two that are compared cost the square of their keys.
  const auto compares = ChatTemplate::Parse(
      "{% set x = messages[0].content | from_json %}{% set y = messages[0].content | from_json %}"
      "{% for i in range(70) %}{% if x == y %}{% endif %}{% endfor %}",
      "t");
  std::string json = "{\"k\": 0";
  for (size_t i = 1; i < 1000; ++i) json += fmt::format(",\"k{}\":0", i);
  TemplateInput input;
  input.messages = {User(json + "}")};
  EXPECT_EQ(compares->Render(input, {.steps = 200'000}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ChatTemplateTest, LetsAKeywordGoBeforeTheDictionarys) {
  EXPECT_EQ(Render("{% set d = dict({'a': 1, 'b': 2}, a=3) %}{{ d.a }}{{ d.b }}{{ d | length }}"),
            "322");
  EXPECT_EQ(Render("{{ namespace({'a': 1}, a=3).a }}"), "3");
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
      "{%",      "%}",        "{{",       "}}",          "{#",       "#}",          "-",
      " if ",    " for ",     " in ",     " set ",       "x",        "=",           "'",
      "[",       "]",         "(",        ")",           "{",        "}",           ".",
      "|",       "trim",      " is ",     "1",           ":",        ",",           "\n",
      " endif ", " endfor ",  "~",        "messages",    " else ",   " macro m(",   " endmacro ",
      " call ",  " endcall ", " filter ", " endfilter ", " endset ", "*",           "loop",
      ".split",  "tojson",    " break ",  "**",          "%",        " recursive ", " raw ",
      " endraw "};
  std::mt19937 random(5);
  for (int round = 0; round < 5'000; ++round) {
    std::string source;
    for (size_t n = random() % 30; n > 0; --n) source += kPieces[random() % std::size(kPieces)];
    (void)Failure(source, {.steps = 10'000});
  }
}

}  // namespace
}  // namespace conclave::worker
