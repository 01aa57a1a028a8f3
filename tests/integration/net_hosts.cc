#include "tests/integration/net_hosts.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <utility>

extern char** environ;

namespace conclave {
namespace {

// The exit code; its output goes nowhere.
int Run(std::vector<std::string> command) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error != 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

std::vector<std::string> Words(const std::string& line) {
  std::istringstream text(line);
  std::vector<std::string> words;
  for (std::string word; text >> word;) words.push_back(word);
  return words;
}

void Must(std::vector<std::string> command) {
  const int code = Run(command);
  if (code == 0) return;
  std::string line;
  for (const std::string& word : command) line += word + " ";
  throw std::runtime_error(line + "ended with " + std::to_string(code));
}

// A process that does nothing, in a network of its own.
pid_t HoldNetwork() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const bool ok = unshare(CLONE_NEWNET) == 0;
    if (write(ends[1], ok ? "y" : "n", 1) != 1) _exit(1);
    while (true) pause();
  }
  char answer = 'n';
  close(ends[1]);
  const bool told = read(ends[0], &answer, 1) == 1;
  close(ends[0]);
  if (!told || answer != 'y') throw std::runtime_error("no network namespace");
  return pid;
}

}  // namespace

std::string NetHosts::WhyNot() {
  if (geteuid() != 0) return "only root makes network namespaces";
  for (const char* tool : {"ip", "iptables", "nsenter"}) {
    if (Run({tool, "-V"}) != 0) return std::string(tool) + " is not there";
  }
  if (Run({"unshare", "--net", "iptables", "-L", "-n"}) != 0) {
    return "network namespaces or iptables are not allowed";
  }
  return "";
}

NetHosts::NetHosts(int hosts) {
  if (unshare(CLONE_NEWNET) != 0) throw std::runtime_error("no network namespace");
  Must(Words("ip link set lo up"));
  Must(Words("ip link add switch type bridge"));
  Must(Words("ip link set switch up"));
  Must(Words("ip addr add 10.77.0.254/24 dev switch"));
  for (int host = 0; host < hosts; ++host) {
    holders_.push_back(HoldNetwork());
    const std::string port = "port" + std::to_string(host);
    Must(Words("ip link add " + port + " type veth peer name wire netns " +
               std::to_string(holders_.back())));
    Must(Words("ip link set " + port + " master switch up"));
    for (const std::string& each :
         {std::string("ip link set lo up"), "ip addr add " + AddressOf(host) + "/24 dev wire",
          std::string("ip link set wire up")}) {
      std::vector<std::string> command = Inside(host);
      for (const std::string& word : Words(each)) command.push_back(word);
      Must(command);
    }
  }
}

NetHosts::~NetHosts() {
  for (const pid_t holder : holders_) {
    kill(holder, SIGKILL);
    waitpid(holder, nullptr, 0);
  }
}

std::vector<std::string> NetHosts::Inside(int host) const {
  const std::string pid = std::to_string(holders_.at(static_cast<size_t>(host)));
  return {"nsenter", "--net=/proc/" + pid + "/ns/net", "--"};
}

std::unique_ptr<Program> NetHosts::Start(int host, const std::string& name,
                                         const std::vector<std::string>& arguments,
                                         const std::string& log,
                                         const std::vector<std::string>& variables) {
  std::vector<std::string> command = Inside(host);
  command.push_back("env");  // Each replaces the one before: the process stays the same.
  command.insert(command.end(), variables.begin(), variables.end());
  command.push_back(Program::PathOf(name));
  command.insert(command.end(), arguments.begin(), arguments.end());
  return std::make_unique<Program>(std::move(command), log);
}

void NetHosts::Enter(int host) const {
  const std::string pid = std::to_string(holders_.at(static_cast<size_t>(host)));
  const int fd = open(("/proc/" + pid + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC);
  const bool entered = fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
  if (fd >= 0) close(fd);
  if (!entered)
    throw std::runtime_error("cannot enter the network of host " + std::to_string(host));
}

void NetHosts::Firewall(int host, const std::string& verb) {
  for (const char* rule : {"INPUT -i wire -j DROP", "OUTPUT -o wire -j DROP"}) {
    std::vector<std::string> command = Inside(host);
    for (const std::string& word : Words("iptables -w " + verb + " " + rule)) {
      command.push_back(word);
    }
    Must(command);
  }
}

void NetHosts::Cut(int host) { Firewall(host, "-I"); }
void NetHosts::Mend(int host) { Firewall(host, "-D"); }

}  // namespace conclave
