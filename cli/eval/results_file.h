#pragma once

#include <absl/status/statusor.h>

#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cli/eval/arms.h"
#include "cli/eval/outcome.h"
#include "cli/eval/report.h"

namespace conclave::cli {

// What an evaluation is made of: two with equal settings can be one.
struct EvaluationSettings {
  std::string suite;
  std::string model;
  uint64_t seed = 1;
  std::vector<Arm> arms;
};

// A file of JSON lines that an evaluation writes as it goes: its settings, then a line for each
// outcome, at the end a summary. One that exists is continued: what it has need not be asked again.
class ResultsFile {
 public:
  // An empty path: nothing is kept. kFailedPrecondition when the file is of another evaluation: it
  // names what differs. Arms may be added to it, and questions. What a torn last line held is lost.
  static absl::StatusOr<ResultsFile> Open(const std::string& path,
                                          const EvaluationSettings& settings);

  // What the file held when it was opened, errors left out: they are asked again.
  const std::vector<Outcome>& before() const { return before_; }

  void Add(const Outcome& outcome);
  // kUnavailable when something could not be written.
  absl::Status Finish(const EvalReport& report);

 private:
  void Write(const std::string& line);

  std::string path_;
  std::ofstream file_;
  std::vector<Outcome> before_;
};

}  // namespace conclave::cli
