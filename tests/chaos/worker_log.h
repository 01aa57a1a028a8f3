#pragma once

#include <absl/time/time.h>
#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace conclave {

// Follows what the launchers of a worker's log say, as somebody on call would.
class WorkerLog {
 public:
  explicit WorkerLog(std::string path) : path_(std::move(path)) {}

  // Reads what is new.
  void Update();

  // Of the epoch that was begun last: its ranks, leader first; empty when it ended. And whether all
  // of them have loaded.
  const std::vector<pid_t>& ranks() const { return ranks_; }
  bool ready() const { return ready_; }
  // Losses that a launcher told of, and when the last of them was read here.
  int losses() const { return losses_; }
  absl::Time last_loss_at() const { return last_loss_at_; }
  const std::string& last_loss() const { return last_loss_; }

  // A launcher was killed: nothing of its epoch is there any more.
  void Forget();

 private:
  void Read(std::string_view line);

  const std::string path_;
  size_t read_ = 0;
  std::string rest_;  // Of a line whose end was not there yet.
  std::vector<pid_t> ranks_;
  bool ready_ = false;
  int losses_ = 0;
  absl::Time last_loss_at_ = absl::InfinitePast();
  std::string last_loss_;
};

}  // namespace conclave
