#pragma once

#include "common/confidence.h"
#include "router/contemplation/request.h"

namespace conclave::router {

// What the vote of an agent weighs: 1 with kOne; otherwise a number in (0, 1] from its own drawn
// tokens, fixed when its end is counted.
//   kMeanProbability: the geometric mean of the chosen tokens' probabilities, which is in (0, 1]
//     by itself.
//   kTop20Mean, kTop20LowestWindow: DeepConf's confidence c, its mean or its lowest window, as
//     min(1, c / 32). DeepConf adds up c as it is, so the mapping is a constant factor: it changes
//     no vote. (1 - e^-c or c / (1 + c) would: c is about 5 to 20, where they give nearly the same
//     to all.) 32 is beyond what models say: the 20 likeliest tokens then have a geometric mean of
//     e^-32. The default is the lowest window, with which the authors weigh: a trace is as good
//     as its worst passage.
//   kTraceProbability: the probability of 512 tokens that are as likely as the agent's on average.
//     In the manner of importance sampling: agents draw from p, and one that weighs p^(b - 1) is
//     counted as often as if it had been drawn from p^b, which is the steadier the greater b,
//     without the loss of variety that a lower temperature brings. By length, since a long trace is
//     no worse for that. 512: of the votes of a few agents one answer then has nearly all the
//     weight, which is the likeliest's; more changes nothing (256 and 1024 were tried).
// At least 2^-1000, so that every vote counts; of 24 significant bits, so that sums of weights of
// like size are exact in a double whatever their order, and what is equal ties.
double WeightOf(const TraceConfidence& trace, VoteWeight weight);

}  // namespace conclave::router
