#include "cli/ask.h"

#include <fstream>
#include <iostream>

#include "cli/asking.h"
#include "cli/connection.h"
#include "cli/exit_code.h"
#include "cli/record.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

// Before tokens are spent: a receipt that cannot be kept is found out now. Leaves what is there.
absl::Status CanWrite(const std::string& path) {
  if (path.empty() || std::ofstream(path, std::ios::app).is_open()) return absl::OkStatus();
  return NotFound("--receipt {} cannot be written; name a file in a folder that exists", path);
}

absl::Status WriteRecord(const std::string& path, const v1::Record& record) {
  std::ofstream file(path);
  file << RecordToJson(record);
  if (!file.flush()) return NotFound("--receipt {} cannot be written; is the disk full?", path);
  return absl::OkStatus();
}

}  // namespace

int Ask(const AskOptions& options, const v1::GenerateRequest& request, Printer& printer) {
  const absl::StatusOr<Caller> caller = MakeCaller(options);
  if (!caller.ok()) return Usage(caller.status());
  if (const absl::Status file = CanWrite(options.receipt_file); !file.ok()) return Usage(file);

  Transcript transcript;
  TranscribingPrinter both(printer, transcript);
  const bool keeps = !options.receipt_file.empty();
  const Asked asked = AskRouters(options, request, *caller, keeps ? both : printer);
  if (!asked.status.ok() && asked.interrupted) {
    std::cerr << "conclave: cancelled\n";
    return kExitInterrupted;
  }
  if (!asked.status.ok()) return Report(asked.router, asked.status);
  if (keeps) {
    const absl::Status written =
        WriteRecord(options.receipt_file, transcript.ToRecord(request, asked.receipt));
    if (!written.ok()) return Usage(written);
  }
  return asked.interrupted ? kExitInterrupted : kExitOk;
}

}  // namespace conclave::cli
