#pragma once

#include <string>

#include "worker/launch/flight_file.h"

namespace conclave::worker {

// What a dead group was, why it was lost, and what it did last: the steps that some rank had not
// ended (at least the last one, at most four), with their agents by the seed of their request. For
// people, some lines; a rank's last words are as they are, so PlainText() it before a terminal.
std::string DescribeFlight(const Flight& flight);

}  // namespace conclave::worker
