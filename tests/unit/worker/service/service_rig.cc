#include "tests/unit/worker/service/service_rig.h"

#include <gtest/gtest.h>

#include <utility>

#include "common/status.h"
#include "worker/service/description.h"

namespace conclave::worker {
namespace {

constexpr char kModel[] = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
constexpr char kFallback[] = CONCLAVE_SOURCE_DIR "/configs/prompts/default.yaml";

}  // namespace

ServiceRig::ServiceRig(Options options) : text_(*TextModel::Load(kModel, kFallback)) {
  GroupShape shape = SmallShape();
  shape.vocab_size = text_->tokenizer().vocab_size();
  shape.max_positions = 1024;
  shape.max_slots = shape.max_samples = options.max_slots;
  shape.pools = {{.num_blocks = 256}};
  runner_ = std::make_unique<FakeStepRunner>(shape);
  const auto speech = [&](const std::string& answer) {
    std::string thought;
    for (int i = 0; i < options.thoughts; ++i) thought += kThought;
    std::vector<TokenId> ids = *text_->tokenizer().EncodeWithSpecials(
        fmt::format("<think>\n{}\n</think>\n\n{}", thought, answer));
    ids.push_back(text_->end_tokens().front());
    return ids;
  };
  std::vector<std::vector<TokenId>> speeches;
  for (int i = 0; i < 64; ++i) {
    std::string answer = std::to_string(i);
    for (int k = 0; k < options.answer_tokens; ++k) answer += "\n";
    speeches.push_back(speech(answer));
  }
  std::vector<TokenId> digits;
  for (int i = 0; i < 10; ++i) {
    digits.push_back(text_->tokenizer().EncodeWithSpecials(std::to_string(i))->front());
  }
  runner_->set_script([speeches, digits](AgentId agent, int index) {
    const bool asked = static_cast<uint32_t>(agent) >> 31 != 0;
    if (asked) return digits[static_cast<size_t>(index % 10)];
    const auto& ids = speeches[static_cast<size_t>(IndexOf(agent) % 64)];
    return ids[std::min(static_cast<size_t>(index), ids.size() - 1)];
  });
  if (options.hold) runner_->HoldSteps();

  model_ = Describe("demo", "llama", 1, shape, *text_);
  options.service.vocab_size = shape.vocab_size;
  options.service.pulse = absl::Milliseconds(2);
  EngineOptions engine;
  engine.max_batched_tokens = shape.max_rows;
  engine_ = std::make_unique<Engine>(engine, *runner_, clock_);
  service_ = std::make_unique<WorkerService>(
      options.service, model_, *engine_, *text_, metrics_, Logger(),
      ServiceHooks{
          .on_pulse = nullptr, .launcher_silent = nullptr, .on_lost = [this](const absl::Status&) {
            absl::MutexLock lock(&mutex_);
            lost_ = true;
          }});
  EXPECT_TRUE(server_.Start({}, service_->rpc()).ok());
  channel_ = grpc::CreateChannel(fmt::format("127.0.0.1:{}", server_.port()),
                                 grpc::InsecureChannelCredentials());
  stub_ = v1::WorkerService::NewStub(channel_);
}

ServiceRig::~ServiceRig() {
  runner_->ReleaseAllSteps();
  server_.Shutdown(absl::Now());
}

std::string ServiceRig::answer(int index) const { return std::to_string(index); }

bool ServiceRig::AwaitLost() {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&lost_), absl::Seconds(60));
}

FamilyOpening Opening() {
  FamilyOpening opening;
  opening.request_id = "r";
  opening.seed = 5;
  opening.messages = {{Role::kUser, {{"How many apples?"}}}};
  return opening;
}

AgentRecipe Recipe(int index) {
  AgentRecipe recipe;
  recipe.id = MakeAgentId(0, 0, index);
  recipe.thinking = Thinking::kOn;
  recipe.grant = 400;
  recipe.budget = {.thinking_tokens = 300, .answer_tokens = 300};
  return recipe;
}

std::vector<AgentRecipe> Recipes(int count) {
  std::vector<AgentRecipe> recipes;
  for (int i = 0; i < count; ++i) recipes.push_back(Recipe(i));
  return recipes;
}

bool RouterStream::Next() {
  v1::RunResponse response;
  if (!stream_->Read(&response)) return false;
  EXPECT_FALSE(totals.has_value()) << "an event after the family's end";
  auto read = FromWire(response);
  EXPECT_TRUE(read.ok()) << read.status();
  event = *std::move(read);
  if (const auto* accepted = std::get_if<GangAccepted>(&event)) {
    answers.push_back(fmt::format("accepted {}", accepted->agents.size()));
  } else if (const auto* refused = std::get_if<GangRefused>(&event)) {
    answers.push_back(
        fmt::format("refused {}: {}", refused->agents.size(), MessageOf(refused->why)));
  } else if (const auto* family = std::get_if<FamilyTotals>(&event)) {
    totals = *family;
  } else if (const auto* probe = std::get_if<ProbeResult>(&event)) {
    Agent& agent = agents[probe->agent];
    EXPECT_FALSE(agent.end.has_value()) << "a copy's answer after its agent's end";
    agent.probes.emplace_back(*probe, static_cast<int>(agent.tokens.size()));
  } else {
    const auto& delta = std::get<FamilyDelta>(event);
    Agent& agent = agents[delta.agent];
    EXPECT_FALSE(agent.end.has_value()) << "tokens after the end";
    if (agent.tokens.empty()) agent.first = delta.first;
    EXPECT_EQ(delta.first, agent.first + static_cast<int>(agent.tokens.size()));
    agent.tokens.insert(agent.tokens.end(), delta.tokens.begin(), delta.tokens.end());
    agent.thinking += delta.thinking;
    agent.answer += delta.answer;
    agent.end = delta.end;
    if (delta.end && delta.end->cause != Finish::kCancelled) {
      EXPECT_FALSE(delta.tokens.empty()) << "an end without its last token";
    }
  }
  return true;
}

grpc::Status RouterStream::Finish() {
  while (Next()) {
  }
  return stream_->Finish();
}

}  // namespace conclave::worker
