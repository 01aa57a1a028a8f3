#include <absl/synchronization/mutex.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "worker/engine/engine.h"
#include "worker/runner/local_runner.h"
#include "worker/text/text_policy.h"
#include "worker/text/tokenizer.h"

// Text in, text out: what a small real model says without chance, through tokenizer, engine and
// decoder, against an independent implementation's.
namespace conclave::worker {
namespace {

const std::string kModels = CONCLAVE_SOURCE_DIR "/../shared/fixtures/models/";
constexpr int kLongest = 4096;

// The tokens of one agent.
class Collected : public FamilySink {
 public:
  void OnAccepted(const std::vector<AgentId>&) override {}
  void OnRefused(const std::vector<AgentId>&, const absl::Status& why, int) override {
    ADD_FAILURE() << why;
  }
  void OnTokens(AgentId, int, const std::vector<TokenEvent>& tokens,
                const std::optional<AgentEnd>&) override {
    for (const TokenEvent& token : tokens) ids_.push_back(token.id);
  }
  void OnFamilyEnd(const FamilyCounters&) override {
    absl::MutexLock lock(&mutex_);
    done_ = true;
  }
  std::vector<TokenId> Wait() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
    return ids_;
  }

 private:
  std::vector<TokenId> ids_;  // Written by the engine before done_.
  absl::Mutex mutex_;
  bool done_ = false;
};

// The references' maker shows <unk>, a special token, as its marked replacement (as SentencePiece
// does); Hugging Face's decoder, and ours, leaves special tokens out.
std::string WithoutUnknown(std::string text) {
  const std::string shown = " \\342\\201\\207 ";
  for (size_t at; (at = text.find(shown)) != std::string::npos;) text.erase(at, shown.size());
  return text;
}

std::vector<TokenId> Greedy(Engine& engine, const Tokenizer& tokenizer, std::vector<TokenId> prompt,
                            int tokens) {
  auto sink = std::make_shared<Collected>();
  auto stream = engine.Open({}, sink);
  if (!stream.ok()) {
    ADD_FAILURE() << stream.status();
    return {};
  }
  std::vector<AgentSpec> gang(1);
  gang[0].id = MakeAgentId(kThinkStage, 0, 0);
  gang[0].prompt = std::move(prompt);
  gang[0].sampling.temperature = 0;
  gang[0].grant = tokens;
  gang[0].policy =
      std::make_unique<TextPolicy>(tokenizer, TextPolicyOptions{}, std::make_shared<TextTrace>());
  (*stream)->Add(std::move(gang));
  (*stream)->Finish();
  return sink->Wait();
}

// Every folder with a model and what it is known to say.
std::vector<std::string> ModelsWithReferences() {
  std::vector<std::string> models;
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kModels, error)) {
    const std::filesystem::path dir = entry.path().parent_path();
    if (entry.path().filename() == "config.json" &&
        std::filesystem::exists(dir / "tokenizer.json")) {
      models.push_back(std::filesystem::relative(dir, kModels).string());
    }
  }
  std::sort(models.begin(), models.end());
  if (models.empty()) models.emplace_back("none");
  return models;
}

class GreedyTextTest : public testing::TestWithParam<std::string> {};

TEST_P(GreedyTextTest, IsTheReferences) {
  const std::filesystem::path dir = kModels + GetParam();
  if (!std::filesystem::exists(dir)) GTEST_SKIP() << dir << " is not there";
  const auto tokenizer = Tokenizer::Load(dir);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  LocalRunnerOptions options;
  options.model_dir = dir.string();
  options.max_slots = 8;
  options.kv_tokens = kLongest;
  const auto runner = LocalRunner::Create(options);
  // A family that is not served says so; everything else is a failure.
  if (absl::IsUnimplemented(runner.status())) GTEST_SKIP() << runner.status();
  ASSERT_TRUE(runner.ok()) << runner.status();
  RealClock clock;
  Engine engine({}, **runner, clock);
  int equal = 0, all = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    if (!entry.path().filename().string().starts_with("ref_")) continue;
    std::ifstream file(entry.path());
    const auto reference = nlohmann::json::parse(file);
    std::vector<TokenId> prompt = (*tokenizer)->front();
    const auto encoded =
        *(*tokenizer)->EncodeWithSpecials(reference.at("prompt").get<std::string>());
    prompt.insert(prompt.end(), encoded.begin(), encoded.end());
    const auto expected = reference.at("generated_ids").get<std::vector<TokenId>>();

    const std::vector<TokenId> said =
        Greedy(engine, **tokenizer, prompt, static_cast<int>(expected.size()));

    EXPECT_EQ(prompt, reference.at("prompt_ids").get<std::vector<TokenId>>()) << entry.path();
    EXPECT_EQ(said, expected) << entry.path();
    std::vector<TokenId> whole = prompt;
    whole.insert(whole.end(), said.begin(), said.end());
    const std::string text = WithoutUnknown(reference.at("text"));
    EXPECT_EQ((*tokenizer)->Decode(whole), text) << entry.path();
    equal += said == expected && (*tokenizer)->Decode(whole) == text ? 1 : 0;
    ++all;
  }
  std::printf("%s: greedy text equal %d / %d\n", GetParam().c_str(), equal, all);
  EXPECT_GT(all, 0);
}

INSTANTIATE_TEST_SUITE_P(Models, GreedyTextTest, testing::ValuesIn(ModelsWithReferences()),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::erase_if(name, [](char c) { return !std::isalnum(c); });
                           return name;
                         });

}  // namespace
}  // namespace conclave::worker
