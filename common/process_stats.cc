#include "common/process_stats.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace conclave {
namespace {

// Field `number` (from 1, as proc(5) counts) of /proc/self/stat; -1: not there.
double StatField(int number) {
  std::ifstream file("/proc/self/stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');  // The second field may hold spaces.
  if (name_end == std::string::npos) return -1;
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= number; ++i) fields >> field;
  return fields ? std::stod(field) : -1;
}

// Seconds since 1970 at which the machine started; -1: not known.
double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("btime ")) return std::stod(line.substr(6));
  }
  return -1;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

std::map<std::string, double> ProcessStats() {
  constexpr int kStartTime = 22, kResidentPages = 24;
  std::map<std::string, double> stats;
  if (const double pages = StatField(kResidentPages); pages >= 0) {
    stats["process_resident_memory_bytes"] = pages * static_cast<double>(sysconf(_SC_PAGESIZE));
  }
  const double started = StatField(kStartTime), boot = BootTime();
  if (started >= 0 && boot >= 0) {
    stats["process_start_time_seconds"] =
        boot + started / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) == 0) {
    stats["process_cpu_seconds_total"] = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    stats["process_max_fds"] = static_cast<double>(limit.rlim_cur);
  }
  std::error_code error;
  std::filesystem::directory_iterator open("/proc/self/fd", error);
  int count = -1;  // The iterator's own is not counted.
  for (; !error && open != std::filesystem::directory_iterator(); open.increment(error)) ++count;
  if (!error) stats["process_open_fds"] = count;
  return stats;
}

}  // namespace conclave
