#include "cli/live_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <sstream>
#include <utility>

#include "cli/line_maker.h"
#include "cli/receipt_text.h"
#include "cli/terminal_text.h"
#include "common/types.h"

namespace conclave::cli {
namespace {

using State = AgentRow::State;

constexpr int kMaxBar = 24;             // Columns of the vote's bars.
constexpr int kMaxLiveVotes = 4;        // Answers of a vote that a live view shows.
constexpr int kMaxVotes = 8;            // And that stay: the receipt has them all.
constexpr int kMaxLiveNotices = 3;      // The last things that happened.
constexpr int kMaxProbed = 12;          // Columns of what an agent would answer now.
constexpr int kMaxMoreRows = 11;        // Of what one of one or two agents writes.
constexpr size_t kMaxShown = 32 << 10;  // Bytes of the answer that a screen is cut from.

template <typename T>
int SizeOf(const std::vector<T>& items) {
  return static_cast<int>(items.size());
}

struct StateLook {
  const char* word;
  const char* brief;
  const char* sign;
  Tone tone;
};

StateLook LookOf(State state) {
  switch (state) {
    case State::kWaiting:
      return {"waiting", "wait", ".", Tone::kFaint};
    case State::kThinking:
      return {"thinking", "think", "~", Tone::kBusy};
    case State::kAnswering:
      return {"answering", "answr", ">", Tone::kStrong};
    case State::kDone:
      return {"done", "done", "=", Tone::kGood};
    case State::kCut:
      return {"cut", "cut", "x", Tone::kFaint};
    case State::kLeftOut:
      return {"left out", "out", "-", Tone::kFaint};
  }
  return {"", "", "", Tone::kPlain};
}

bool Runs(const AgentRow& agent) {
  return agent.state == State::kThinking || agent.state == State::kAnswering;
}

std::string NameOf(uint32_t id, int columns) {
  const std::string name = BriefName(id);
  if (columns >= kWide) return name;
  if (name.starts_with("agent ")) return name.substr(6);
  return StageOf(AgentId{id}) == kSplitStage ? "split" : "merge";
}

// "3 of 8 agents run": how many run, while not all do.
std::string AgentsText(const Round& round, int columns) {
  const int planned = round.admitted().agents();
  const int running = round.Count(State::kThinking) + round.Count(State::kAnswering);
  const char* plural = planned == 1 ? "" : "s";
  if (running == 0 || running >= planned) return fmt::format("{} agent{}", planned, plural);
  if (columns < kWide) return fmt::format("{}/{} agent{}", running, planned, plural);
  return fmt::format("{} of {} agent{} run", running, planned, plural);
}

Line TitleLine(const Round& round, const ViewTitle& title, int columns) {
  constexpr char kSpinner[] = {'|', '/', '-', '\\'};
  LineMaker line(columns);
  if (title.frame >= 0) {
    line.Add(fmt::format("{} ", kSpinner[title.frame % 4]), Tone::kBusy);
  }
  if (round.is_stopping()) line.Add("stopping  ", Tone::kBad);
  const v1::Admitted& admitted = round.admitted();
  if (admitted.request_id().empty()) {
    line.Add("waiting for the router", Tone::kStrong);
  } else {
    line.Add(Fit(OneLine(admitted.model()), std::max(columns / 3, 1)), Tone::kStrong);
    line.Add("  " + AgentsText(round, columns));
  }
  // The first that does not fit whole is left out with all behind it.
  bool fits = true;
  const auto add = [&line, &fits](const std::string& text, Tone tone = Tone::kPlain) {
    fits = fits && Columns(text) <= line.left();
    if (fits) line.Add(text, tone);
  };
  add(fmt::format("  {:.1f} s", title.seconds));
  add(fmt::format("  {} tokens", round.Tokens()));
  if (title.tokens_per_second > 0) add(fmt::format("  {:.0f}/s", title.tokens_per_second));
  if (admitted.agents() > 0) add(fmt::format("  seed {}", admitted.seed()), Tone::kFaint);
  return line.Take();
}

const char* WhyEnded(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_LENGTH:
      return "  out of tokens";
    case v1::FINISH_REASON_BAR:
      return "  below its bar";
    default:
      return "";
  }
}

void AddEnded(uint32_t id, const AgentRow& agent, LineMaker& line) {
  if (agent.state == State::kCut) {
    line.Add(CutText(agent.cut), Tone::kFaint);
    return;
  }
  // A synthesiser's answer is the request's, a splitter's is a list: neither is compared.
  const int stage = StageOf(AgentId{id});
  const bool merges = stage == kAggregateStage || stage == kSplitStage;
  const v1::AgentFinished& finished = agent.finished;
  std::string behind = finished.probes_agreed() ? "  probes agreed" : WhyEnded(finished.reason());
  if (agent.accepted) behind += *agent.accepted ? "  accepted" : "  rejected";
  if (finished.has_answer()) behind += fmt::format("  confidence {:.2f}", finished.confidence());
  if (finished.has_answer() || merges) {
    const std::string answer = OneLine(merges ? agent.text : finished.answer());
    const int room = line.left() - Columns(behind);
    line.Add(Fit(answer, room >= std::min(Columns(answer), 8) ? room : line.left()));
  } else {
    line.Add("no answer", Tone::kBad);
  }
  if (Columns(behind) <= line.left()) line.Add(behind, Tone::kFaint);
}

// What an agent writes now: its last line that is not empty.
std::string LastLine(const std::string& text) {
  const size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return "";
  const size_t before = text.rfind('\n', end);
  return OneLine(text.substr(before == std::string::npos ? 0 : before + 1));
}

// Its name, state and tokens.
LineMaker AgentColumns(uint32_t id, const AgentRow& agent, int columns) {
  const bool wide = columns >= kWide, narrow = columns < kNarrow;
  const StateLook look = LookOf(agent.state);
  const char* state = wide ? look.word : narrow ? look.sign : look.brief;
  const int width = wide ? 9 : narrow ? 1 : 5;
  LineMaker line = Labelled(NameOf(id, columns), columns);
  line.Column(state, width, look.tone);
  const bool grant = wide && Runs(agent) && agent.grant > 0;
  const std::string tokens =
      grant ? fmt::format("{}/{}", agent.tokens, agent.grant) : fmt::format("{}", agent.tokens);
  line.Add(fmt::format("{:>{}}  ", tokens, wide ? 9 : 4));
  if (wide && Runs(agent) && !agent.probed.empty()) {
    line.Add(fmt::format("[{}] ", Fit(OneLine(agent.probed), kMaxProbed)), Tone::kStrong);
  }
  return line;
}

// What a running agent wrote last, in at most `rows` lines of `columns` columns.
std::vector<std::string> LastLines(const std::string& text, int columns, int rows) {
  if (rows == 1 || columns < 10) return {FitEnd(LastLine(text), columns)};
  std::vector<std::string> lines;
  std::istringstream paragraphs(text);
  for (std::string each; std::getline(paragraphs, each);) {
    if (each = OneLine(each); each.empty()) continue;
    for (std::string& line : Wrap(each, columns)) lines.push_back(std::move(line));
  }
  const auto surplus = SizeOf(lines) - std::min(SizeOf(lines), rows);
  lines.erase(lines.begin(), lines.begin() + surplus);
  if (lines.empty()) lines.emplace_back();
  return lines;
}

// An agent in at most `rows` lines.
void AddAgent(uint32_t id, const AgentRow& agent, int columns, int rows, std::vector<Line>& lines) {
  LineMaker line = AgentColumns(id, agent, columns);
  if (!Runs(agent)) {
    if (agent.state == State::kDone || agent.state == State::kCut) AddEnded(id, agent, line);
    return lines.push_back(line.Take());
  }
  const Tone tone = agent.state == State::kThinking ? Tone::kFaint : Tone::kPlain;
  const int room = std::max(line.left(), 0);
  bool is_first = true;
  for (const std::string& text : LastLines(agent.text, room, rows)) {
    if (!is_first) {
      line = LineMaker(columns);
      line.Add(std::string(static_cast<size_t>(std::max(columns - 1 - room, 0)), ' '));
    }
    line.Add(text, tone);
    lines.push_back(line.Take());
    is_first = false;
  }
}

// The agents that `shown` does not take, in one line.
Line RestLine(const std::vector<std::pair<uint32_t, const AgentRow*>>& rest, int columns) {
  LineMaker line = Labelled(fmt::format("+ {}", rest.size()), columns, Tone::kFaint);
  int64_t tokens = 0;
  std::map<State, int> counts;
  for (const auto& [id, agent] : rest) {
    tokens += agent->tokens;
    ++counts[agent->state];
  }
  const char* separator = "more: ";
  for (const auto& [state, count] : counts) {
    line.Add(fmt::format("{}{} {}", separator, count, LookOf(state).word), Tone::kFaint);
    separator = ", ";
  }
  line.Add(fmt::format(", {} tokens", tokens), Tone::kFaint);
  return line.Take();
}

// At most `rows` (at least 1) lines for the agents: the running ones, then those that ended, in
// order of id.
void AddAgents(const Round& round, int columns, int rows, std::vector<Line>& lines) {
  std::vector<std::pair<uint32_t, const AgentRow*>> shown, rest;
  for (const auto& [id, agent] : round.agents()) shown.emplace_back(id, &agent);
  if (static_cast<int>(shown.size()) > rows) {
    const auto urgency = [](const AgentRow& agent) {
      return Runs(agent) ? 0 : agent.state == State::kWaiting ? 2 : 1;
    };
    std::stable_sort(shown.begin(), shown.end(), [urgency](const auto& a, const auto& b) {
      return urgency(*a.second) < urgency(*b.second);
    });
    const auto cut = shown.begin() + (rows - 1);
    rest.assign(cut, shown.end());
    shown.erase(cut, shown.end());
    std::sort(shown.begin(), shown.end());
  }
  // Rows that are left show more of what the running ones write.
  const int running = round.Count(State::kThinking) + round.Count(State::kAnswering);
  const int spare = rest.empty() ? rows - static_cast<int>(shown.size()) : 0;
  const int more = std::min(spare / std::max(running, 1), shown.size() <= 2 ? kMaxMoreRows : 1);
  for (const auto& [id, agent] : shown) AddAgent(id, *agent, columns, 1 + more, lines);
  if (!rest.empty()) lines.push_back(RestLine(rest, columns));
}

// `weight`: of all votes; `cast`: the part of all votes that is cast, 0 to 1.
Line VoteLine(const v1::Vote& vote, bool leads, double weight, double cast, int columns) {
  LineMaker line = Labelled(leads ? "vote" : "", columns);
  const int width = std::min(kMaxBar, columns / 4);
  const double share = weight > 0 ? std::clamp(vote.weight() / weight, 0.0, 1.0) : 0.0;
  const int filled = static_cast<int>(cast * share * width + 0.5);
  line.Add(std::string(static_cast<size_t>(filled), '#'), leads ? Tone::kGood : Tone::kPlain);
  line.Add(std::string(static_cast<size_t>(width - filled), '.'), Tone::kFaint);
  line.Add(vote.weight() == vote.count()
               ? fmt::format(" {:>3}", vote.count())
               : fmt::format(" {:>3} ({:.3g})", vote.count(), vote.weight()));
  if (columns >= kWide) line.Add(fmt::format("  {:>3.0f}%", 100 * share));
  line.Add("  " + OneLine(vote.answer()), leads ? Tone::kStrong : Tone::kPlain);
  return line.Take();
}

// Where the stop rule stands, and where it stops.
std::string StopText(const StopGoal& stop, double value, int agents) {
  const auto at = [&stop](double otherwise) { return stop.at > 0 ? stop.at : otherwise; };
  if (stop.rule == "none") return "no stop rule: every agent runs to its end";
  if (stop.rule == "settled") return fmt::format("settled {:+g}, stops above 0", value);
  if (stop.rule == "beta" && stop.at < 0) return fmt::format("beta {:.3f}", value);
  if (stop.rule == "beta") return fmt::format("beta {:.3f}, stops at {:g}", value, at(0.95));
  if (stop.rule == "window") return fmt::format("window {:g} of {:g} agree", value, at(4));
  if (stop.rule == "first") return fmt::format("first {:g} of {:g}", value, at((agents + 1) / 2));
  if (stop.rule == "quorum") return fmt::format("quorum {:g} of {:g}", value, at(agents / 2 + 1));
  return fmt::format("{} {:.3g}", stop.rule, value);
}

bool HasVote(const Round& round) { return round.vote().counted() > 0; }

// The vote's bars, at most `most` of them, and the stop rule.
void AddVote(const Round& round, const ViewTitle& title, int columns, int most,
             std::vector<Line>& lines) {
  if (!HasVote(round)) return;
  const v1::VoteUpdate& vote = round.vote();
  double weight = 0;
  int voters = 0;
  for (const v1::Vote& one : vote.votes()) weight += one.weight(), voters += one.count();
  const double cast = voters > 0 ? static_cast<double>(voters) / (voters + vote.to_come()) : 0;
  const int shown = std::min(vote.votes_size(), most);
  for (int i = 0; i < shown; ++i) {
    lines.push_back(VoteLine(vote.votes(i), i == 0, weight, cast, columns));
  }
  if (shown < vote.votes_size()) {
    LineMaker line = Labelled("", columns);
    line.Add(fmt::format("+ {} more answer{}", vote.votes_size() - shown,
                         vote.votes_size() - shown == 1 ? "" : "s"),
             Tone::kFaint);
    lines.push_back(line.Take());
  }
  LineMaker line = Labelled("", columns);
  line.Add(fmt::format("{} counted, {} to come; ", vote.counted(), vote.to_come()));
  line.Add(StopText(title.stop, vote.stop_value(), round.admitted().agents()), Tone::kFaint);
  lines.push_back(line.Take());
}

std::vector<Line> AnswerLines(const Round& round, int columns) {
  std::vector<Line> lines;
  if (round.answer().empty()) return lines;
  const std::string& answer = round.answer();
  size_t begin = answer.size() > kMaxShown ? answer.size() - kMaxShown : 0;
  while (begin > 0 && begin < answer.size() &&
         (static_cast<unsigned char>(answer[begin]) & 0xc0u) == 0x80u) {
    ++begin;
  }
  const int label = LabelWidth(columns) + 1;
  for (const std::string& text :
       Wrap(std::string_view(answer).substr(begin), columns - 1 - label)) {
    LineMaker line = Labelled(lines.empty() ? "answer" : "", columns, Tone::kStrong);
    line.Add(text);
    lines.push_back(line.Take());
  }
  return lines;
}

// The last `most` things that happened, in one line each, or wrapped.
void AddNotices(const Round& round, int columns, size_t most, bool wrap, std::vector<Line>& lines) {
  const std::vector<Notice>& notices = round.notices();
  for (size_t i = notices.size() - std::min(notices.size(), most); i < notices.size(); ++i) {
    const Notice& notice = notices[i];
    const Tone tone = notice.is_bad ? Tone::kBad : Tone::kPlain;
    std::vector<std::string> texts = {OneLine(notice.text)};
    if (wrap) texts = Wrap(texts[0], columns - 2 - LabelWidth(columns));
    for (size_t part = 0; part < texts.size(); ++part) {
      LineMaker line = Labelled(part == 0 ? "notice" : "", columns, Tone::kFaint);
      line.Add(texts[part], tone);
      lines.push_back(line.Take());
    }
  }
}

void Append(std::vector<Line>& lines, std::vector<Line> more, int most) {
  const int from = std::max(SizeOf(more) - std::max(most, 0), 0);
  lines.insert(lines.end(), std::make_move_iterator(more.begin() + from),
               std::make_move_iterator(more.end()));
}

}  // namespace

std::vector<Line> LiveLines(const Round& round, const ViewTitle& title, const ViewSize& size) {
  std::vector<Line> lines = {TitleLine(round, title, size.columns)};
  std::vector<Line> below;
  const int notices = std::clamp(size.rows / 8, 1, kMaxLiveNotices);
  AddNotices(round, size.columns, static_cast<size_t>(notices), /*wrap=*/false, below);
  AddVote(round, title, size.columns, std::clamp(size.rows / 6, 1, kMaxLiveVotes), below);
  std::vector<Line> answer = AnswerLines(round, size.columns);
  const int least_answer = std::min(SizeOf(answer), std::max(size.rows / 6, 1));
  if (!round.agents().empty()) {
    int room = size.rows - 1 - SizeOf(below) - least_answer;
    if (!answer.empty()) room = std::min(room, static_cast<int>(round.agents().size()));
    AddAgents(round, size.columns, std::max(room, 1), lines);
  }
  Append(lines, std::move(below), size.rows - SizeOf(lines));
  Append(lines, std::move(answer), size.rows - SizeOf(lines));
  if (SizeOf(lines) > size.rows) lines.resize(static_cast<size_t>(std::max(size.rows, 1)));
  return lines;
}

std::vector<Line> FinalLines(const Round& round, const ViewTitle& title, int columns) {
  std::vector<Line> lines = {TitleLine(round, title, columns)};
  const int all = static_cast<int>(round.agents().size());
  if (all > 0) AddAgents(round, columns, all, lines);
  AddNotices(round, columns, round.notices().size(), /*wrap=*/true, lines);
  AddVote(round, title, columns, kMaxVotes, lines);
  return lines;
}

std::string TextOf(const Line& line) {
  std::string text;
  for (const Span& span : line) text += span.text;
  return text;
}

int WidthOf(const Line& line) {
  int width = 0;
  for (const Span& span : line) width += Columns(span.text);
  return width;
}

}  // namespace conclave::cli
