#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/chat.h"
#include "common/model_description.h"
#include "common/types.h"
#include "router/contemplation/ballot.h"
#include "router/contemplation/request.h"

// How the answers of a round that ended by itself become one.
//
// kVote: the answer with most votes; ties go to the one that was counted first. Its text is that of
// the earliest counted agent that gave it, without outer space. When nothing could be compared: the
// text of the earliest counted agent that has one.
// kSynthesise: a final pass of the model over the candidates; where it can't run, the vote.
// kAuto: the vote where one answer leads, that is, when it has more votes than any other, and more
// than one unless only one end was counted. Otherwise (a tie, all answers different, a single vote
// among several agents, or no answer found at all) synthesis, if there are two candidates or more.
// Where answers are checked: the accepted one that was counted first; when none is accepted, no
// vote leads, and synthesis is what may still be right.
// kCheck: as kAuto.
// kSelect: a final pass that names one of the candidates by its number; that one's text. The vote
// where there are not two different answers, where the model can't, and where it names none.
namespace conclave::router {

// An agent whose end was counted, as candidates are chosen from it.
struct CountedAnswer {
  AgentId agent{};
  std::string text;       // Its answer, without outer space. Empty: no candidate.
  bool compared = false;  // The key found an answer in it: it is in the ballot.
};

// Whether kAuto and kCheck take the vote: one answer leads, and more than one of several agents
// gave it; or votes are weighed, it leads others, most agents voted, and all answers are short
// (64 bytes): then weights tell apart what counts do not.
bool VoteIsSure(const Ballot& ballot, int counted, bool checked, VoteWeight weight);

// Texts for one aggregation pass, at most `most`: first one of each different answer, by votes,
// then those that could not be compared, in order of counting, unless one is accepted; then answers
// are repeated in proportion to their votes (the next one goes to the answer with the greatest
// votes / (times taken + 1), ties to the earlier), each time in the words of its next agent.
// `counted` is in order of counting.
std::vector<std::string> Candidates(const Ballot& ballot, const std::vector<CountedAnswer>& counted,
                                    int most);

// How many different answers there are to choose from; what could not be compared differs.
int Different(const Ballot& ballot, const std::vector<CountedAnswer>& counted);

// Whether the model has words for an aggregation pass; for one that picks; for a round behind the
// first; for splitting a question and joining what its parts came to.
bool CanSynthesise(const PromptProfile& profile);
bool CanSelect(const PromptProfile& profile);
bool CanRefine(const PromptProfile& profile);
bool CanDecompose(const PromptProfile& splitter, const PromptProfile& joiner);

// The conversation with its last turn in the words of the profile: {question} becomes the text of
// the last turn, {candidates} the candidates' lines. What callers and agents wrote is put in once
// and never looked through for placeholders.
std::vector<Message> AggregationMessages(const PromptProfile& profile,
                                         const std::vector<Message>& messages,
                                         const std::vector<std::string>& candidates);

// The same for an agent of a further round, with drafts in place of candidates.
std::vector<Message> RefineMessages(const PromptProfile& profile,
                                    const std::vector<Message>& messages,
                                    const std::vector<std::string>& drafts);

// A part of the question, and what it came to: empty when nothing was found.
struct PartAnswer {
  std::string part, answer;
};

// The conversation for the splitter; with a part in place of the question; for the pass that joins.
std::vector<Message> SplitMessages(const PromptProfile& profile,
                                   const std::vector<Message>& messages);
std::vector<Message> PartMessages(const std::vector<Message>& messages, const std::string& part);
std::vector<Message> JoinMessages(const PromptProfile& profile,
                                  const std::vector<Message>& messages,
                                  const std::vector<PartAnswer>& parts);
// The lines of that pass's {candidates}.
std::string PartLines(const PromptProfile& profile, const std::vector<PartAnswer>& parts);

// The same in the words of a pass that picks one of them.
std::vector<Message> SelectionMessages(const PromptProfile& profile,
                                       const std::vector<Message>& messages,
                                       const std::vector<std::string>& candidates);

// The candidate that an answer names, from 0: the first number in it that is one. Of a number with
// a sign or a fraction, the digits count.
std::optional<size_t> Picked(std::string_view answer, size_t candidates);

}  // namespace conclave::router
