#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/integration/program.h"

namespace conclave {

// One router and one worker group of two tensor-parallel ranks with the model that ships, on free
// loopback ports. Programs that are started again take the ports that they had.
class Cluster {
 public:
  Cluster();
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Each waits until the program has written its ports. `settings` as in --set.
  void StartWorker(const std::vector<std::string>& settings = {});
  void StartRouter(const std::vector<std::string>& settings = {});

  Program& worker() { return *worker_; }
  Program& router() { return *router_; }
  // Of the ranks, rank 0 (the leader's) first; empty while the group is being formed.
  std::vector<pid_t> Ranks() const;
  std::string RouterAddress() const { return "127.0.0.1:" + PortOf("router", "server"); }
  const std::string& folder() const { return folder_; }

 private:
  std::unique_ptr<Program> Start(const std::string& name, std::vector<std::string> arguments);
  std::string PortOf(const std::string& name, const std::string& which) const;

  std::string folder_;
  std::unique_ptr<Program> worker_, router_;
};

}  // namespace conclave
