// Runs problems through the engine, without router or service, and prints what came out, for
// models/*/recipe/score.py to judge.
//
//   measure_engine MODEL_DIR [SAMPLES] [TP] [WINDOW] < problems.jsonl > completions.jsonl
//
// In, one line each: {"question": "...", "low": false}. Out, in order: {"greedy": answer,
// "samples": [answers], "confidence": [[mean probability, top20, lowest window of it] of each
// sample], "drawn": [tokens of each], "tokens": total of the samples}; an answer is null when the
// agent never ended its thinking.

#include <absl/synchronization/mutex.h>

#include <algorithm>
#include <deque>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/confidence.h"
#include "common/status.h"
#include "worker/engine/engine.h"
#include "worker/runner/local_runner.h"
#include "worker/text/text_model.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

constexpr int kGrant = 400;       // As in the model's own measurement.
constexpr int kMostFamilies = 8;  // At once.
constexpr int kSlots = 192;
constexpr uint64_t kSeed = 12345;

// Collects the answers of one problem's agents.
class Answers : public FamilySink {
 public:
  Answers(int agents, int window)
      : traces_(agents),
        texts_(agents),
        answered_(agents),
        confidence_(agents, TraceConfidence(window)) {
    for (auto& trace : traces_) trace = std::make_shared<TextTrace>();
  }
  std::shared_ptr<TextTrace> trace(int agent) { return traces_[agent]; }

  void OnAccepted(const std::vector<AgentId>&) override {}
  void OnRefused(const std::vector<AgentId>&, const absl::Status& why, int) override {
    std::cerr << "refused: " << why.ToString() << '\n';
  }
  void OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                const std::optional<AgentEnd>&) override {
    const int i = IndexOf(agent);
    for (int t = 0; t < static_cast<int>(tokens.size()); ++t) {
      const TextPiece piece = traces_[i]->Take(first + t);
      texts_[i] += piece.answer;
      answered_[i] = answered_[i] || !piece.answer.empty();
      confidence_[i].Add(tokens[t]);
    }
    if (i > 0) tokens_ += static_cast<int64_t>(tokens.size());
  }
  void OnFamilyEnd(const FamilyCounters&) override {
    absl::MutexLock lock(&mutex_);
    done_ = true;
  }

  json Wait() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
    json out = {{"greedy", Answer(0)}, {"samples", json::array()}, {"tokens", tokens_}};
    for (size_t i = 1; i < texts_.size(); ++i) {
      const TraceConfidence& sure = confidence_[i];
      out["samples"].push_back(Answer(i));
      out["confidence"].push_back(
          {sure.MeanProbability(), sure.top20().mean(), sure.top20().lowest()});
      out["drawn"].push_back(sure.chosen().count());
    }
    return out;
  }

 private:
  json Answer(size_t i) const { return answered_[i] ? json(texts_[i]) : json(nullptr); }

  std::vector<std::shared_ptr<TextTrace>> traces_;  // Shared with the agents' policies.
  std::vector<std::string> texts_;
  std::vector<bool> answered_;
  std::vector<TraceConfidence> confidence_;
  int64_t tokens_ = 0;
  absl::Mutex mutex_;
  bool done_ = false;
};

struct Running {
  std::unique_ptr<FamilyStream> stream;
  std::shared_ptr<Answers> answers;
};

absl::StatusOr<Running> Start(const TextModel& text, Engine& engine, const json& problem,
                              uint64_t number, int samples, int window) {
  const Thinking thinking = problem.value("low", false) ? Thinking::kOff : Thinking::kOn;
  const Message question{Role::kUser, {Part{problem.at("question").get<std::string>()}}};
  RenderOptions how;
  how.thinking = thinking;
  ASSIGN_OR_RETURN(const RenderedPrompt prompt, text.Render({question}, how));
  auto answers = std::make_shared<Answers>(samples + 1, window);
  ASSIGN_OR_RETURN(auto stream, engine.Open({kSeed + number, ""}, answers));
  std::vector<AgentSpec> gang(samples + 1);
  for (int i = 0; i <= samples; ++i) {
    AgentSpec& agent = gang[i];
    agent.id = MakeAgentId(kThinkStage, 0, i);
    agent.prompt = prompt.tokens;
    agent.sampling.temperature = i == 0 ? 0.0f : 1.0f;
    agent.grant = kGrant;
    OutputOptions output;
    output.opening = prompt.opening;
    agent.policy = text.MakePolicy(std::move(output), answers->trace(i));
  }
  stream->Add(std::move(gang));
  stream->Finish();
  return Running{std::move(stream), std::move(answers)};
}

absl::Status Measure(const std::string& dir, int samples, int tp, int window) {
  ASSIGN_OR_RETURN(const auto text, TextModel::Load(dir, ""));
  LocalRunnerOptions options;
  options.model_dir = dir;
  options.tp = tp;
  options.max_slots = kSlots;
  options.kv_tokens = 98304;
  ASSIGN_OR_RETURN(const auto runner, LocalRunner::Create(options));
  RealClock clock;
  Engine engine({}, *runner, clock);
  std::deque<Running> running;
  const size_t most = static_cast<size_t>(std::clamp(kSlots / (samples + 1), 1, kMostFamilies));
  uint64_t number = 0;
  const auto print_oldest = [&running] {
    std::cout << running.front().answers->Wait().dump() << '\n';
    running.pop_front();
  };
  for (std::string line; std::getline(std::cin, line);) {
    if (running.size() >= most) print_oldest();
    ASSIGN_OR_RETURN(Running next,
                     Start(*text, engine, json::parse(line), number++, samples, window));
    running.push_back(std::move(next));
  }
  while (!running.empty()) print_oldest();
  return engine.health();
}

}  // namespace
}  // namespace conclave::worker

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: measure_engine MODEL_DIR [SAMPLES] [TP] [WINDOW] < problems.jsonl\n";
    return 2;
  }
  const int samples = argc > 2 ? std::stoi(argv[2]) : 8;
  const int tp = argc > 3 ? std::stoi(argv[3]) : 1;
  const int window = argc > 4 ? std::stoi(argv[4]) : conclave::kUsualConfidenceWindow;
  const absl::Status status = conclave::worker::Measure(argv[1], samples, tp, window);
  if (!status.ok()) std::cerr << status.ToString() << '\n';
  return status.ok() ? 0 : 1;
}
