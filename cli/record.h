#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <istream>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "conclave/v1/conclave.pb.h"
#include "conclave/v1/record.pb.h"

namespace conclave::cli {

inline constexpr size_t kMostRecordBytes = size_t{256} << 20;

// A record as JSON, and back; one agent a line. Back: also a receipt alone, as earlier versions
// wrote it, which gives a record without a request. kInvalidArgument for anything else.
std::string RecordToJson(const v1::Record& record);
absl::StatusOr<v1::Record> RecordFromJson(const std::string& json);

// Reads a file, or a stream that is called `name`, of at most `most` bytes. kNotFound and
// kInvalidArgument name it.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t most = kMostRecordBytes);
absl::StatusOr<std::string> ReadAll(std::istream& stream, const std::string& name, size_t most);

// What runs a receipt's request again.
v1::Replay ReplayOf(const v1::Receipt& receipt);

// What the agents of a request write: the sum of its events, which have to include thinking,
// answers and tokens. One thread.
class Transcript {
 public:
  void On(const v1::GenerateResponse& event);

  // By id. Tokens go on behind a cut.
  const std::map<uint32_t, v1::AgentRecord>& agents() const { return agents_; }
  // True when the agent's end was told, or everybody's.
  bool HasEnded(uint32_t agent) const { return complete_ || ended_.contains(agent); }
  bool complete() const { return complete_; }
  const std::string& answer() const { return answer_; }

  // What is kept of the request. REQUIRES: its receipt.
  v1::Record ToRecord(const v1::GenerateRequest& request, const v1::Receipt& receipt) const;

 private:
  std::map<uint32_t, v1::AgentRecord> agents_;
  std::set<uint32_t> ended_;
  std::string answer_;
  bool complete_ = false;
};

// Where two runs of one request part.
struct Difference {
  uint32_t agent = 0;
  int64_t token = 0;          // Counts from 1. 0: not an agent's token, but the whole answer.
  std::string recorded, now;  // The texts around it, on one line; harmless to a terminal.
};

// The earliest token that differs from the record's, of the lesser agent when there are several;
// then the answer. nullopt: as far as `now` goes, nothing does.
std::optional<Difference> FirstDifference(const v1::Record& record, const Transcript& now);

}  // namespace conclave::cli
