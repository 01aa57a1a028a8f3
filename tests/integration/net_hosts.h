#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/integration/program.h"

namespace conclave {

// A network of this process alone: hosts are network namespaces, joined by a bridge. Nothing of it
// is seen outside, and it goes with the process. Addresses are 10.77.0.1 for host 0, and so on.
class NetHosts {
 public:
  // Why there can be none here; empty: there can. Looks for root's rights and for the tools.
  static std::string WhyNot();

  // Moves this process into a new network. Call it before any thread is started.
  explicit NetHosts(int hosts);
  ~NetHosts();
  NetHosts(const NetHosts&) = delete;
  NetHosts& operator=(const NetHosts&) = delete;

  static std::string AddressOf(int host) { return "10.77.0." + std::to_string(host + 1); }

  // Starts bin/NAME there. `variables`: "NAME=VALUE", besides this process's own.
  std::unique_ptr<Program> Start(int host, const std::string& name,
                                 const std::vector<std::string>& arguments, const std::string& log,
                                 const std::vector<std::string>& variables = {});

  // This thread is there from now on, and the threads that it starts.
  void Enter(int host) const;

  // Packets between this host and all others are dropped in silence, from now on or no more.
  void Cut(int host);
  void Mend(int host);

 private:
  std::vector<std::string> Inside(int host) const;  // What a command there begins with.
  void Firewall(int host, const std::string& verb);

  std::vector<pid_t> holders_;  // Of the namespaces.
};

}  // namespace conclave
