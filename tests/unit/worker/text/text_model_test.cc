#include "worker/text/text_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "common/status.h"
#include "tests/unit/worker/text/fixture_texts.h"

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

constexpr char kFallback[] = CONCLAVE_SOURCE_DIR "/configs/prompts/default.yaml";

// A model without a profile of its own, with any chat template.
class TextModelFormatsTest : public TextModelFilesTest {
 protected:
  std::unique_ptr<TextModel> ModelWith(const std::string& chat_template) const {
    fs::remove(folder_ / "conclave.yaml");
    std::ofstream(folder_ / "chat_template.jinja") << chat_template;
    auto model = TextModel::Load(folder_, kFallback);
    EXPECT_TRUE(model.ok()) << model.status();
    return model.ok() ? *std::move(model) : nullptr;
  }
  static RenderedPrompt Asked(const TextModel& model, Thinking thinking) {
    RenderOptions options;
    options.thinking = thinking;
    auto prompt = model.Render({{Role::kUser, {{"Hi"}}}}, options);
    EXPECT_TRUE(prompt.ok()) << prompt.status();
    return prompt.ok() ? *std::move(prompt) : RenderedPrompt{};
  }
};

TEST_F(TextModelFormatsTest, AreKnownFromRealChatTemplates) {
  const std::string templates = kFixtures + "chat_templates/jinja/";
  SKIP_UNLESS_THERE(templates + "Qwen-Qwen3-0.6B.jinja");
  struct Expected {
    const char* name;
    const char* think_end;
    Opening on;
    const char* off_ends;  // How a prompt ends for an agent that is to answer at once.
  };
  const Expected table[] = {
      {"Qwen-Qwen3-0.6B", "</think>", Opening::kMayThink, "<think>\n\n</think>\n\n"},
      {"Qwen3.5-4B", "</think>", Opening::kThinking, "<think>\n\n</think>\n\n"},
      {"Qwen-QwQ-32B", "</think>", Opening::kThinking, "<think>\n</think>"},
      // Its template cannot be told: the end is put there.
      {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "</think>", Opening::kThinking,
       "<think>\n\n</think>\n\n"},
      {"mistralai-Ministral-3-14B-Reasoning-2512", "[/THINK]", Opening::kMayThink, "[/INST]"},
      {"meta-llama-Llama-3.1-8B-Instruct", "", Opening::kAnswer, "<|end_header_id|>\n\n"},
      {"Qwen-Qwen2.5-7B-Instruct", "", Opening::kAnswer, "assistant\n"},
      {"mistralai-Mistral-Nemo-Instruct-2407", "", Opening::kAnswer, "[/INST]"},
  };
  for (const Expected& expected : table) {
    const auto model = ModelWith(ReadAll(templates + expected.name + ".jinja"));
    ASSERT_NE(model, nullptr) << expected.name;
    EXPECT_EQ(model->profile().think_end, expected.think_end) << expected.name;
    EXPECT_EQ(model->prompt_profile().thinks, expected.think_end[0] != '\0') << expected.name;
    EXPECT_EQ(Asked(*model, Thinking::kOn).opening, expected.on) << expected.name;
    const RenderedPrompt off = Asked(*model, Thinking::kOff);
    EXPECT_THAT(off.text.text(), testing::EndsWith(expected.off_ends)) << expected.name;
    EXPECT_NE(off.opening, Opening::kThinking) << expected.name;
  }
}

TEST_F(TextModelFormatsTest, KnowMuseByItsMessages) {
  const auto model = ModelWith(
      "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|eot|>{% endfor %}"
      "{# <|start|>assistant to=self<|message|>...<|eom|> #}"
      "{% if add_generation_prompt %}<|start|>assistant{% endif %}");
  ASSERT_NE(model, nullptr);

  EXPECT_EQ(model->profile().think_start, "to=self<|message|>");
  EXPECT_EQ(model->profile().answer_start, "to=user<|message|>");
  EXPECT_EQ(Asked(*model, Thinking::kOn).opening, Opening::kMayThink);
  EXPECT_EQ(Asked(*model, Thinking::kOff).opening, Opening::kMayThink);
}

TEST_F(TextModelFormatsTest, YieldToAProfileOfTheModelsOwn) {
  const auto model = TextModel::Load(folder_, kFallback);
  ASSERT_TRUE(model.ok()) << model.status();

  EXPECT_TRUE((*model)->profile().formats.empty());
  EXPECT_EQ((*model)->profile().think_end, "</think>");
}

TEST_F(TextModelFilesTest, GiveEndsAndDefaultsToTheDescription) {
  fs::remove(folder_ / "conclave.yaml");
  std::ofstream(folder_ / "generation_config.json")
      << R"({"eos_token_id": [7, 5], "do_sample": false, "top_k": 20, "repetition_penalty": 1.1})";
  const auto model = TextModel::Load(folder_, kFallback);
  ASSERT_TRUE(model.ok()) << model.status();
  const PromptProfile profile = (*model)->prompt_profile();

  // <|im_end|> is the tokenizer's.
  EXPECT_THAT(profile.end_tokens, testing::ElementsAre(5, 7, 637));
  EXPECT_EQ(profile.sampling.temperature, 0);
  EXPECT_EQ(profile.sampling.top_k, 20);
  EXPECT_FLOAT_EQ(profile.sampling.repetition_penalty, 1.1f);
}

// What a model was not trained to be told, it is not told; one without a profile is told all.
TEST_F(TextModelFilesTest, GiveTheWordingOfEachPassToTheDescription) {
  const PromptProfile own = (*TextModel::Load(folder_, kFallback))->prompt_profile();
  EXPECT_THAT(own.split_text, testing::StartsWith("Split the question into parts"));
  EXPECT_THAT(own.join_text, testing::HasSubstr("answered parts of a question"));
  EXPECT_EQ(own.join_line, "Agent {index}: {part} {answer}");
  EXPECT_EQ(own.refine_text, "");

  fs::remove(folder_ / "conclave.yaml");
  const PromptProfile usual = (*TextModel::Load(folder_, kFallback))->prompt_profile();
  EXPECT_THAT(usual.refine_text, testing::HasSubstr("{candidates}"));
}

TEST_F(TextModelFilesTest, NameWhatTheirWordingLacks) {
  const auto with = [this](const char* wording) {
    std::ofstream(folder_ / "conclave.yaml")
        << "aggregation: {text: '{question}{candidates}', candidate_line: '{answer}'}\n"
        << wording;
    return WhyNot();
  };

  EXPECT_THAT(with("refining: {text: 'Again: {question}'}"),
              testing::HasSubstr("refining.text: lacks the placeholder {candidates}"));
  EXPECT_THAT(with("joining: {text: '{question}{candidates}'}"),
              testing::HasSubstr("joining: has only one of text and candidate_line"));
}

// One that was not trained to pick is not asked to; one without a profile is told how.
TEST_F(TextModelFilesTest, GiveTheWordsOfASelectionToTheDescription) {
  EXPECT_EQ((*TextModel::Load(folder_, kFallback))->prompt_profile().select_text, "");
  std::ofstream(folder_ / "conclave.yaml")
      << "aggregation: {text: '{question}{candidates}', candidate_line: '{answer}'}\n"
      << "selection: {text: 'Which of {candidates} is right? {question}'}";
  EXPECT_EQ((*TextModel::Load(folder_, kFallback))->prompt_profile().select_text,
            "Which of {candidates} is right? {question}");
  std::ofstream(folder_ / "conclave.yaml")
      << "aggregation: {text: '{question}{candidates}', candidate_line: '{answer}'}\n"
      << "selection: {text: 'Which? {question}'}";
  EXPECT_THAT(WhyNot(), testing::HasSubstr("selection.text: lacks the placeholder {candidates}"));
  fs::remove(folder_ / "conclave.yaml");
  EXPECT_THAT((*TextModel::Load(folder_, kFallback))->prompt_profile().select_text,
              testing::HasSubstr("number"));
}

// A replay asks for a fingerprint: with other defaults there is none that is equal.
TEST_F(TextModelFilesTest, EnterTheFingerprint) {
  const std::string before = (*TextModel::Load(folder_, kFallback))->hash();
  EXPECT_EQ((*TextModel::Load(folder_, kFallback))->hash(), before);
  std::ofstream(folder_ / "generation_config.json") << R"({"eos_token_id": 637, "top_k": 21})";

  EXPECT_NE((*TextModel::Load(folder_, kFallback))->hash(), before);
}

}  // namespace
}  // namespace conclave::worker
