#include "cli/flight.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "cli/connection.h"
#include "cli/exit_code.h"
#include "common/plain_text.h"
#include "common/status.h"
#include "worker/launch/flight_file.h"
#include "worker/launch/flight_text.h"

namespace conclave::cli {
namespace {

constexpr char kWorker[] = "conclave-worker";

// The worker's program beside this one; its bare name, for PATH, where there is none.
std::string WorkerProgram() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path beside = self.parent_path() / kWorker;
  return !error && access(beside.c_str(), X_OK) == 0 ? beside.string() : kWorker;
}

}  // namespace

bool IsFlight(const std::string& path) {
  constexpr std::string_view kBegin = "FLIGHT";
  std::ifstream file(path, std::ios::binary);
  std::string begin(kBegin.size(), '\0');
  file.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return file && begin == kBegin;
}

int TellFlight(const std::string& path, std::ostream& out) {
  const absl::StatusOr<worker::Flight> flight = worker::ReadFlight(path);
  if (!flight.ok()) return Usage(flight.status());
  out << PlainText(worker::DescribeFlight(*flight))
      << "--config FILE, the group's config, runs it again\n"
      << std::flush;
  return kExitOk;
}

int RunFlight(const std::string& path, const std::string& config,
              const std::vector<std::string>& overrides) {
  const std::string program = WorkerProgram();
  std::vector<std::string> words = {program, "--replay-flight", path};
  if (!config.empty()) words.insert(words.end(), {"--config", config});
  for (const std::string& each : overrides) words.insert(words.end(), {"--set", each});
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execvp(program.c_str(), argv.data());
  return Usage(NotFound("{} cannot be started ({}); it belongs beside this program, or on PATH",
                        program, std::strerror(errno)));
}

}  // namespace conclave::cli
