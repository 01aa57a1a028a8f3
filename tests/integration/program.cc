#include "tests/integration/program.h"

#include <absl/time/clock.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "common/check.h"

extern char** environ;

namespace conclave {

namespace {

std::vector<std::string> CommandOf(const std::string& name, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), Program::PathOf(name));
  return arguments;
}

}  // namespace

std::string Program::PathOf(const std::string& name) {
  return (std::filesystem::path(CONCLAVE_BINARY_DIR) / name).string();
}

Program::Program(const std::string& name, std::vector<std::string> arguments, std::string log)
    : Program(CommandOf(name, std::move(arguments)), std::move(log)) {}

Program::Program(std::vector<std::string> command, std::string log) : log_(std::move(log)) {
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  CHECK(posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
}

Program::~Program() {
  if (exit_code_ >= 0) return;
  Signal(SIGTERM);
  if (Wait(absl::Seconds(10)) >= 0) return;
  Signal(SIGKILL);
  Wait(absl::Seconds(10));
}

void Program::Signal(int signal) { kill(pid_, signal); }

int Program::Wait(absl::Duration timeout) {
  Eventually(timeout, [this] {
    if (exit_code_ >= 0) return true;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
  });
  return exit_code_;
}

std::string Program::Output() const { return FileText(log_); }

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::string FreshFolder() {
  std::string name = std::filesystem::temp_directory_path() / "conclave-test-XXXXXX";
  CHECK(mkdtemp(name.data()) != nullptr);
  return name;
}

bool IsAlive(pid_t pid) {
  const std::string stat = FileText("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = stat.rfind(") ");
  return name_end != std::string::npos && stat[name_end + 2] != 'Z' && stat[name_end + 2] != 'X';
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> children;
  const std::string tasks = "/proc/" + std::to_string(parent) + "/task";
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator(tasks, gone)) {
    std::ifstream list(task.path() / "children");
    for (pid_t child = 0; list >> child;) children.push_back(child);
  }
  return children;
}

}  // namespace conclave
