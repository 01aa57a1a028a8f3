#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/program.h"

namespace conclave {

// Routers by name, and one worker group of two tensor-parallel ranks with the model that ships, on
// free loopback ports. Programs that are started again take the ports that they had.
class Cluster {
 public:
  // `worker`: the command that starts the worker, before its arguments.
  explicit Cluster(std::vector<std::string> worker = {Program::PathOf("conclave-worker")});
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Each waits until the program has written its ports. `settings` as in --set.
  void StartWorker(const std::vector<std::string>& settings = {});
  void StartRouter(const std::vector<std::string>& settings = {},
                   const std::string& name = "router");
  // Waits until the router has found the group and would send it families.
  void AwaitServed(const std::string& name = "router") const;

  Program& worker() { return *worker_; }
  Program& router(const std::string& name = "router") { return *routers_.at(name); }
  // Of the ranks, rank 0 (the leader's) first; empty while the group is being formed.
  std::vector<pid_t> Ranks() const;
  std::string RouterAddress(const std::string& name = "router") const {
    return "127.0.0.1:" + PortOf(name, "server");
  }
  // Where NAME ("worker", "router") listens as "server", "health" or "metrics".
  std::string AddressOf(const std::string& name, const std::string& which) const {
    return "127.0.0.1:" + PortOf(name, which);
  }
  const std::string& folder() const { return folder_; }

 private:
  // Starts conclave-KIND; its files are NAME's.
  std::unique_ptr<Program> Start(const std::string& kind, const std::string& name,
                                 std::vector<std::string> arguments);
  std::string PortOf(const std::string& name, const std::string& which) const;

  const std::vector<std::string> worker_command_;
  std::string folder_;
  std::unique_ptr<Program> worker_;
  std::map<std::string, std::unique_ptr<Program>> routers_;
};

}  // namespace conclave
