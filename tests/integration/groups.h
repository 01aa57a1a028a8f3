#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/integration/program.h"

namespace conclave {

// Worker groups by name, with the model that ships, and one router over all of them, on free
// loopback ports. Groups that are started again take the ports that they had.
class Groups {
 public:
  Groups();
  ~Groups();
  Groups(const Groups&) = delete;
  Groups& operator=(const Groups&) = delete;

  // Each waits until the program has written its ports. `settings` as in --set.
  void Start(const std::string& group, const std::vector<std::string>& settings = {});
  void StartRouter(const std::vector<std::string>& settings = {});
  // SIGKILL for the launcher and all ranks at once; returns when the launcher is gone.
  void Kill(const std::string& group);

  // Where it listens as "server", "health" or "metrics".
  std::string AddressOf(const std::string& program, const std::string& which = "server") const;
  std::string PortOf(const std::string& program, const std::string& which = "server") const;
  const Program& program(const std::string& name) const { return *programs_.at(name); }

 private:
  void StartProgram(const std::string& kind, const std::string& name,
                    std::vector<std::string> settings);

  const std::string folder_;
  std::map<std::string, std::unique_ptr<Program>> programs_;  // "router", and the groups.
};

}  // namespace conclave
