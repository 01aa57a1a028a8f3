#include "tests/chaos/worker_log.h"

#include <absl/time/clock.h>

#include <fstream>
#include <iterator>
#include <utility>

namespace conclave {

void WorkerLog::Update() {
  std::ifstream file(path_, std::ios::binary);
  file.seekg(static_cast<std::streamoff>(read_));
  const std::string fresh(std::istreambuf_iterator<char>(file), {});
  read_ += fresh.size();
  rest_ += fresh;
  size_t begin = 0;
  for (size_t end = 0; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    Read(std::string_view(rest_).substr(begin, end - begin));
  }
  rest_.erase(0, begin);
}

void WorkerLog::Forget() {
  Update();
  ranks_.clear();
  ready_ = false;
}

void WorkerLog::Read(std::string_view line) {
  if (const size_t at = line.find("(pids "); at != std::string_view::npos) {
    ranks_.clear();
    ready_ = false;
    const std::string pids(line.substr(at + 6));
    for (size_t from = 0; from != std::string::npos;) {
      ranks_.push_back(static_cast<pid_t>(std::stol(pids.substr(from))));
      from = pids.find(", ", from);
      if (from != std::string::npos) from += 2;
    }
  } else if (line.ends_with(" is ready")) {
    ready_ = true;
  } else if (line.find("; epoch ") != std::string_view::npos &&
             line.find(" ends") != std::string_view::npos) {
    ++losses_;
    last_loss_at_ = absl::Now();
    last_loss_ = line;
    ranks_.clear();
    ready_ = false;
  }
}

}  // namespace conclave
