#include "tests/unit/worker/engine/engine_fixture.h"

#include <algorithm>
#include <deque>
#include <numeric>
#include <set>
#include <utility>

#include "common/check.h"

namespace conclave::worker {

Verdict RulePolicy::OnToken(const TokenEvent& token) {
  ++count_;
  Verdict verdict;
  if (count_ == rules_.stop_at || (rules_.stop_every > 0 && token.id % rules_.stop_every == 0)) {
    verdict.kind = Verdict::Kind::kStop;
    verdict.trailing = 1;
  } else if (token.kind == TokenKind::kSampled || count_ == rules_.force_at) {
    if (count_ == rules_.force_at ||
        (rules_.force_every > 0 && token.id % rules_.force_every == 0)) {
      verdict.kind = Verdict::Kind::kForce;
      verdict.force = rules_.force;
    }
  }
  verdict.thinks = verdict.kind == Verdict::Kind::kContinue && count_ < rules_.thinks_for;
  return verdict;
}

AgentSpec AgentPlan::Spec() const {
  AgentSpec spec;
  spec.id = id;
  spec.prompt = prompt;
  spec.grant = grant;
  spec.run_to = run_to;
  if (penalty) spec.sampling.frequency_penalty = 0.5f;
  spec.policy = std::make_unique<RulePolicy>(rules);
  spec.produced = produced;
  spec.bar = bar;
  spec.probes = {.every = probe_every,
                 .tokens = probe_tokens,
                 .force = probe_force,
                 .policy = [like = probe_rules] { return std::make_unique<RulePolicy>(like); }};
  return spec;
}

std::vector<TokenId> Prompt(int length, TokenId first) {
  std::vector<TokenId> prompt(length);
  std::iota(prompt.begin(), prompt.end(), first);
  return prompt;
}

std::vector<AgentPlan> MakeGang(int width, const AgentPlan& like) {
  std::vector<AgentPlan> gang(width, like);
  for (int i = 0; i < width; ++i) gang[i].id = MakeAgentId(kThinkStage, 0, i);
  return gang;
}

std::vector<AgentSpec> Specs(const std::vector<AgentPlan>& plans) {
  std::vector<AgentSpec> specs;
  for (const AgentPlan& plan : plans) specs.push_back(plan.Spec());
  return specs;
}

namespace {

// By the definition, looked at anew after each token.
bool BelowBar(const ConfidenceBar& bar, const std::vector<TokenEvent>& tokens) {
  if (bar.bar == 0 || tokens.back().kind == TokenKind::kForced) return false;
  double sum = 0;  // Exact: FakeDraw gives multiples of 1/16.
  int drawn = 0;
  for (auto token = tokens.rbegin(); token != tokens.rend() && drawn < bar.window; ++token) {
    if (token->kind == TokenKind::kForced) continue;
    sum -= double{token->top_logprob_mean};
    ++drawn;
  }
  return drawn == bar.window && sum < bar.bar * bar.window;
}

}  // namespace

namespace {

// A copy of an agent whose prompt and tokens are `all`, `at` of them behind the prompt.
RecordingSink::Probe AskAlone(const AgentPlan& plan, uint64_t seed, int vocab_size,
                              std::vector<TokenId> all, int at) {
  RulePolicy policy(plan.probe_rules);
  RecordingSink::Probe probe{.at = at, .tokens = {}, .count = 0};
  const AgentId id{static_cast<uint32_t>(plan.id) | 1u << 31};
  std::deque<TokenId> forced(plan.probe_force.begin(), plan.probe_force.end());
  for (int drawn = 0, index = at; drawn < plan.probe_tokens && index < plan.grant; ++index) {
    TokenEvent event;
    if (forced.empty()) {
      event = FakeDraw(seed, id, index, all, vocab_size);
      ++drawn;
    } else {
      event.id = forced.front();
      event.kind = TokenKind::kForced;
      forced.pop_front();
    }
    all.push_back(event.id);
    probe.tokens.push_back(event);
    const Verdict verdict = policy.OnToken(event);
    if (verdict.kind == Verdict::Kind::kStop) break;
    CHECK(verdict.kind == Verdict::Kind::kContinue);
  }
  return probe;
}

}  // namespace

Expected RunAlone(const AgentPlan& plan, uint64_t seed, int vocab_size) {
  RulePolicy policy(plan.rules);
  Expected expected;
  std::vector<TokenId> all = plan.prompt;
  std::vector<TokenId> forced;
  while (true) {
    const int index = static_cast<int>(expected.tokens.size());
    TokenEvent event;
    if (forced.empty()) {
      event = FakeDraw(seed, plan.id, index, all, vocab_size);
      ++expected.end.sampled;
    } else {
      event.id = forced.front();
      event.kind = TokenKind::kForced;
      forced.erase(forced.begin());
      ++expected.end.forced;
    }
    all.push_back(event.id);
    expected.tokens.push_back(event);
    const Verdict verdict = policy.OnToken(event);
    if (verdict.kind == Verdict::Kind::kStop) {
      expected.end.finish = verdict.finish;
      expected.end.trailing = verdict.trailing;
      return expected;
    }
    if (index + 1 == plan.grant) {
      expected.end.finish = Finish::kLength;
      return expected;
    }
    if (BelowBar(plan.bar, expected.tokens)) {
      expected.end.finish = Finish::kBar;
      return expected;
    }
    if (verdict.kind == Verdict::Kind::kForce) {
      forced.insert(forced.begin(), verdict.force.begin(), verdict.force.end());
    }
    const int count = index + 1;
    if (verdict.thinks && forced.empty() && event.kind == TokenKind::kSampled &&
        plan.probe_every > 0 && expected.end.sampled % plan.probe_every == 0 &&
        count + static_cast<int>(plan.probe_force.size()) < plan.grant) {
      expected.probes.push_back(AskAlone(plan, seed, vocab_size, all, count));
    }
  }
}

int WidthThatFits(const std::vector<AgentPlan>& gang, const GroupShape& shape) {
  const auto fits_positions = [&](const AgentPlan& agent) {
    return static_cast<int>(agent.prompt.size()) + agent.grant <= shape.max_positions;
  };
  if (!std::all_of(gang.begin(), gang.end(), fits_positions)) return 0;
  int blocks = INT32_MAX;
  for (const KvPoolShape& pool : shape.pools) blocks = std::min(blocks, pool.num_blocks);
  std::set<std::vector<TokenId>> shared;  // Prompts' starts that end at a block's border.
  int together = 0, width = 0;
  for (const AgentPlan& agent : gang) {
    const int positions = static_cast<int>(agent.prompt.size()) + agent.grant - 1;
    int needed = (positions + kBlockTokens - 1) / kBlockTokens;
    if (agent.produced.empty()) {
      for (size_t end = kBlockTokens; end <= agent.prompt.size(); end += kBlockTokens) {
        const auto begin = agent.prompt.begin();
        const bool first = shared.insert({begin, begin + static_cast<ptrdiff_t>(end)}).second;
        needed -= first ? 0 : 1;
      }
      needed = together += needed;
    }
    if (needed > blocks || width == shape.max_slots) break;
    ++width;
  }
  return width;
}

EngineFixture::EngineFixture(const GroupShape& shape, EngineOptions options)
    : runner(shape), core(std::make_shared<Engine::Core>(options, runner, clock)) {}

EngineFixture::Opened EngineFixture::Open(uint64_t seed, const std::string& salt) {
  Opened opened;
  opened.sink = std::make_shared<RecordingSink>();
  const auto key = core->Open({seed, salt}, opened.sink);
  CHECK(key.ok());
  opened.stream = std::make_unique<FamilyStream>(core, *key);
  return opened;
}

bool EngineFixture::Turn() {
  const bool stepped = core->Turn();
  if (core->scheduler() != nullptr) core->scheduler()->CheckConsistent();
  return stepped;
}

void EngineFixture::RunDry() {
  while (Turn()) {
  }
}

}  // namespace conclave::worker
