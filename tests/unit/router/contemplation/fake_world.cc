#include "tests/unit/router/contemplation/fake_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace conclave::router {
namespace {

FakeStream MakeStream(const World& world, AgentId agent) {
  Random random(world.seed * 1'000'003 + static_cast<uint32_t>(agent));
  random.Next();
  FakeStream stream;
  const int thinking = random.Below(world.longest);
  for (int i = 0; i < thinking; ++i) stream.thinking += static_cast<char>('a' + i % 26);
  stream.answer = random.Chance(50) ? "It is so.\n" : "";
  const bool mute = random.Chance(world.mute);
  if (!mute) stream.answer += "Answer: " + std::to_string(10 + random.Below(world.answers));
  if (mute && random.Chance(50)) stream.answer += "I do not know.";
  if (random.Chance(30)) stream.answer += "\n";
  if (world.picks && StageOf(agent) == kAggregateStage) {
    stream.answer = "Agent " + std::to_string(random.Below(6)) + ".";
  }
  if (StageOf(agent) == kSplitStage) {
    stream.answer.clear();
    for (int i = random.Below(6); i > 0; --i) stream.answer += "part " + std::to_string(i) + "\n";
  }
  const std::string text = stream.thinking + stream.answer;
  // Some tokens release nothing, some release more; the last is a stop token without text.
  for (size_t released = 0; released < text.size();) {
    released = std::min(text.size(), released + static_cast<size_t>(random.Below(4)));
    TextToken token;
    token.token.id = random.Below(1000);
    token.token.logprob = -0.125f * static_cast<float>(random.Below(8));
    token.text_end = static_cast<int64_t>(released);
    stream.tokens.push_back(token);
  }
  stream.tokens.push_back({.token = {.id = 1}, .text_end = static_cast<int64_t>(text.size())});
  // Numbers of their own. Multiples of 1/8 whose sums are exact in any order.
  Random sure(random.Next());
  const int usual = sure.Chance(30) ? 160 : 8;
  for (size_t i = 0; i < stream.tokens.size(); ++i) {
    TextToken& token = stream.tokens[i];
    if (sure.Chance(25) && static_cast<int>(i) >= world.forced_from) {
      token.token = {.id = token.token.id, .kind = TokenKind::kForced};
    } else {
      token.token.top_logprob_mean = -0.125f * static_cast<float>(usual + sure.Below(40));
    }
  }
  return stream;
}

}  // namespace

FamilyDelta FakeStream::Cut(AgentId agent, int from, int to) const {
  FamilyDelta delta;
  delta.agent = agent;
  delta.first = from;
  delta.tokens.assign(tokens.begin() + from, tokens.begin() + to);
  const auto end_at = [this](int count) {
    return count == 0 ? size_t{0} : static_cast<size_t>(tokens[count - 1].text_end);
  };
  const size_t begin = end_at(from), end = end_at(to), thought = thinking.size();
  if (begin < thought) delta.thinking = thinking.substr(begin, std::min(end, thought) - begin);
  if (end > thought) {
    const size_t skip = begin > thought ? begin - thought : 0;
    delta.answer = answer.substr(skip, end - thought - skip);
  }
  return delta;
}

const FakeStream& World::StreamOf(AgentId agent) const {
  const auto found = streams_.find(agent);
  if (found != streams_.end()) return found->second;
  return streams_.emplace(agent, MakeStream(*this, agent)).first->second;
}

FakeEnd World::EndOf(const AgentRecipe& recipe) const {
  const std::vector<TextToken>& tokens = StreamOf(recipe.id).tokens;
  const int whole = static_cast<int>(tokens.size());
  const bool stops = whole <= recipe.grant;
  const FakeEnd end = {.length = std::min(whole, recipe.grant),
                       .cause = stops ? Finish::kStop : Finish::kLength};
  std::vector<double> drawn;
  for (int count = 1; recipe.bar.bar > 0 && count < end.length; ++count) {
    const TokenEvent& token = tokens[static_cast<size_t>(count) - 1].token;
    if (token.kind == TokenKind::kForced) continue;
    drawn.push_back(-double{token.top_logprob_mean});
    if (static_cast<int>(drawn.size()) < recipe.bar.window) continue;
    const double sum = std::accumulate(drawn.end() - recipe.bar.window, drawn.end(), 0.0);
    if (sum < recipe.bar.bar * recipe.bar.window) return {.length = count, .cause = Finish::kBar};
  }
  return end;
}

bool World::AsksAt(const AgentRecipe& recipe, int count) const {
  if (recipe.probe_every == 0 || count % recipe.probe_every != 0) return false;
  const FakeStream& stream = StreamOf(recipe.id);
  return stream.tokens[static_cast<size_t>(count) - 1].text_end <
         static_cast<int64_t>(stream.thinking.size());
}

// Mostly what another one said.
ProbeResult World::Ask(AgentId agent, int at) const {
  Random usual(seed * 7'919 + static_cast<uint32_t>(agent));
  Random random(usual.Next() + static_cast<uint64_t>(at));
  ProbeResult probe{.agent = agent, .at = at, .sampled = 1 + random.Below(5), .forced = 2};
  int answer = usual.Below(answers);
  if (random.Chance(25)) answer = random.Below(answers + 1);
  probe.answer = answer == answers ? "hm" : fmt::format("Answer: {}", 10 + answer);
  return probe;
}

}  // namespace conclave::router
