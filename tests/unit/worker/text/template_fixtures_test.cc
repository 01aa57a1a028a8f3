#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "tests/unit/worker/text/fixture_texts.h"
#include "worker/text/added_tokens.h"
#include "worker/text/chat_template.h"

// Real chat templates and snippets of the language, against what Python's jinja2 makes of them in
// Hugging Face's settings.
namespace conclave::worker {
namespace {

using Json = nlohmann::ordered_json;

const std::string kTemplates = kFixtures + "chat_templates/";
constexpr int64_t kThen = 1'753'533'296;  // 2025-07-26 12:34:56, UTC.

absl::StatusOr<MarkedString> RenderJson(const std::string& source, const std::string& name,
                                        const Json& variables) {
  const auto parsed = ChatTemplate::Parse(source, name, "<BOS>", "<EOS>");
  return parsed.ok() ? parsed->RenderJson(variables, kThen) : parsed.status();
}

std::string Shown(const absl::StatusOr<MarkedString>& text) {
  return text.ok() ? text->text() : "error: " + std::string(text.status().message());
}

TEST(TemplateFixturesTest, RendersEveryTemplateAsTheReferenceDoes) {
  SKIP_UNLESS_THERE(kTemplates + "goldens.json");
  const Json cases = Json::parse(ReadAll(kTemplates + "goldens.json")).at("cases");
  const Json contexts = Json::parse(ReadAll(kTemplates + "contexts.json"));
  std::map<std::string, std::pair<int, int>> passed;  // Of how many, by template.
  for (const Json& golden : cases) {
    const std::string name = golden.at("template"), context = golden.at("context");
    const auto text = RenderJson(ReadAll(kTemplates + "jinja/" + name), name, contexts.at(context));
    bool right = false;
    if (golden.contains("error")) {
      const std::string error = golden.at("error");
      const std::string raised = "TemplateError: ";
      right = !text.ok() && (!error.starts_with(raised) ||
                             text.status().message().find(error.substr(raised.size())) !=
                                 absl::string_view::npos);
      EXPECT_TRUE(right) << name << " " << context << " should fail: " << error
                         << "\nbut: " << Shown(text);
    } else {
      right = text.ok() && text->text() == golden.at("expected");
      EXPECT_EQ(Shown(text), golden.at("expected")) << name << " " << context;
    }
    passed[name].first += right ? 1 : 0;
    ++passed[name].second;
  }
  int right = 0, all = 0;
  for (const auto& [name, score] : passed) {
    if (score.first < score.second) {
      std::printf("%s: passed %d / %d\n", name.c_str(), score.first, score.second);
    }
    right += score.first;
    all += score.second;
  }
  std::printf("chat_templates/goldens.json: passed %d / %d, of %zu templates\n", right, all,
              passed.size());
  EXPECT_GT(all, 400);
}

TEST(TemplateFixturesTest, ReadsTheLanguageAsTheReferenceDoes) {
  SKIP_UNLESS_THERE(kTemplates + "language_snippets.json");
  const Json snippets = Json::parse(ReadAll(kTemplates + "language_snippets.json"));
  int right = 0;
  for (const Json& snippet : snippets) {
    std::string expected = snippet.at("python_jinja2");
    if (expected == "same") expected = snippet.at("expected");
    const auto text = RenderJson(snippet.at("template"), "t", snippet.at("data"));
    const bool same =
        expected.starts_with("error: ") ? !text.ok() : text.ok() && text->text() == expected;
    EXPECT_TRUE(same) << snippet.at("name") << " " << snippet.at("template") << "\nexpected "
                      << expected << "\nrendered " << Shown(text);
    right += same ? 1 : 0;
  }
  std::printf("chat_templates/language_snippets.json: passed %d / %zu\n", right, snippets.size());
}

// What looks like a control token in a template's own text.
std::set<std::string> ControlTokens(const std::string& source) {
  static const std::regex kToken(R"(<[^<>{}'"%\s]{1,40}>|\[/?[A-Z_]{3,30}\])");
  std::set<std::string> tokens = {"<|im_start|>", "<|im_end|>", "<|eot_id|>",
                                  "</s>",         "<BOS>",      "<EOS>"};
  for (std::sregex_iterator at(source.begin(), source.end(), kToken), end; at != end; ++at) {
    tokens.insert(at->str());
  }
  return tokens;
}

// Puts `text` behind every string that a caller writes, and into names of arguments and properties.
Json WithText(const Json& value, const std::string& text) {
  static const std::set<std::string> kProtocol = {"role", "type", "id", "tool_call_id"};
  if (value.is_string()) return value.get<std::string>() + text;
  Json changed = value;
  if (value.is_array()) {
    for (Json& each : changed) each = WithText(each, text);
  } else if (value.is_object()) {
    for (const auto& [key, each] : value.items()) {
      if (!kProtocol.contains(key)) changed[key] = WithText(each, text);
    }
    if (value.contains("city")) changed["x" + text] = changed["city"];
  }
  return changed;
}

// How often each token is made of a rendering.
std::map<TokenId, int> TokensIn(const MarkedString& text, const std::set<std::string>& tokens) {
  AddedTokenFinder finder;
  TokenId id = 0;
  for (const std::string& token : tokens) {
    AddedToken added;
    added.id = id++;
    added.content = token;
    added.special = true;
    finder.Add(std::move(added));
  }
  std::map<TokenId, int> counts;
  for (const auto& stretch : finder.Cut(text)) {
    if (stretch.token) ++counts[*stretch.token];
  }
  return counts;
}

// Rule: what a caller wrote never becomes a token that steers the model, whatever a template does
// with it. A caller who writes control tokens gets the very tokens of one who writes letters.
TEST(TemplateFixturesTest, MakesNoControlTokenOfWhatACallerWrote) {
  SKIP_UNLESS_THERE(kTemplates + "contexts.json");
  const Json contexts = Json::parse(ReadAll(kTemplates + "contexts.json"));
  int compared = 0, templates = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kTemplates + "jinja")) {
    const std::string name = entry.path().filename().string();
    const std::string source = ReadAll(entry.path().string());
    const std::set<std::string> tokens = ControlTokens(source);
    std::string hostile, harmless;
    for (const std::string& token : tokens) {
      // Texts that templates look for in an answer move its parts, and are allowed to.
      if (token.find("think") != std::string::npos || token.find("THINK") != std::string::npos) {
        continue;
      }
      hostile += token;
      harmless += std::string(token.size(), 'x');
    }
    ++templates;
    for (const auto& [context, variables] : contexts.items()) {
      const auto bad = RenderJson(source, name, WithText(variables, hostile));
      const auto good = RenderJson(source, name, WithText(variables, harmless));
      EXPECT_EQ(bad.ok(), good.ok()) << name << " " << context << ": " << bad.status();
      if (!bad.ok() || !good.ok()) continue;
      EXPECT_EQ(TokensIn(*bad, tokens), TokensIn(*good, tokens)) << name << " " << context << "\n"
                                                                 << bad->text();
      ++compared;
    }
  }
  std::printf("callers' control tokens: none made in %d renderings of %d templates\n", compared,
              templates);
  EXPECT_GT(compared, 300);
}

}  // namespace
}  // namespace conclave::worker
