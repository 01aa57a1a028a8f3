#pragma once

#include <string>
#include <vector>

#include "cli/round.h"

namespace conclave::cli {

// How a piece of a line is shown where colours are.
enum class Tone { kPlain, kStrong, kFaint, kBusy, kGood, kBad };

// A piece of a line: harmless text without line breaks.
struct Span {
  std::string text;
  Tone tone = Tone::kPlain;
};
using Line = std::vector<Span>;

// What a view is drawn for.
struct ViewSize {
  int columns = 80;
  int rows = 24;
};

// When the command line wants the agents cut.
struct StopGoal {
  std::string rule = "settled";  // As --stop-rule names it.
  double at = 0;                 // --stop-votes or --stop-certainty; 0 = the API's default;
                                 // below 0: not known.
};

// What a view shows besides what the router told.
struct ViewTitle {
  StopGoal stop = {};
  double seconds = 0;            // Since the request was sent.
  double tokens_per_second = 0;  // Lately, or over all when it is over; 0 = not known.
  int frame = -1;                // Counts drawings, for the spinner; below 0: none.
};

// The request as it runs: a title, the agents, what happened to them, the vote with the stop rule's
// value, the end of the answer so far. Never more than size.rows lines, none wider than
// size.columns - 1. Agents that do not fit are summed up in one line; those that run are shown
// first. A pure function.
std::vector<Line> LiveLines(const Round& round, const ViewTitle& title, const ViewSize& size);

// The same for good: every agent, all that happened and the first votes, without the answer. Lines
// are at most columns - 1 wide.
std::vector<Line> FinalLines(const Round& round, const ViewTitle& title, int columns);

// A line's text without its tones, and its width.
std::string TextOf(const Line& line);
int WidthOf(const Line& line);

}  // namespace conclave::cli
