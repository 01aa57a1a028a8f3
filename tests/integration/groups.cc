#include "tests/integration/groups.h"

#include <fmt/format.h>
#include <signal.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

namespace conclave {
namespace {

const std::string kRoot = CONCLAVE_SOURCE_DIR;

// Of the file that a program writes when it is ready; empty before.
std::string Port(const std::string& text, const std::string& which) {
  const size_t at = text.find(which + "=");
  if (at == std::string::npos) return "";
  const size_t begin = at + which.size() + 1;
  return text.substr(begin, text.find('\n', begin) - begin);
}

}  // namespace

Groups::Groups() : folder_(FreshFolder()) {}

Groups::~Groups() {
  programs_.erase("router");
  programs_.clear();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Groups::Start(const std::string& group, const std::vector<std::string>& settings) {
  std::vector<std::string> all = {
      "model.directory=" + kRoot + "/models/conclave-demo",
      "model.fallback_profile=" + kRoot + "/configs/prompts/default.yaml"};
  all.insert(all.end(), settings.begin(), settings.end());
  StartProgram("worker", group, std::move(all));
}

void Groups::StartRouter(const std::vector<std::string>& settings) {
  StartProgram("router", "router", settings);
}

void Groups::Kill(const std::string& group) {
  Program& launcher = *programs_.at(group);
  const std::vector<pid_t> ranks = ChildrenOf(launcher.pid());
  launcher.Signal(SIGKILL);
  for (const pid_t rank : ranks) kill(rank, SIGKILL);
  launcher.Wait(absl::Seconds(10));
}

std::string Groups::PortOf(const std::string& program, const std::string& which) const {
  return Port(FileText(folder_ + "/" + program + ".ports"), which);
}

std::string Groups::AddressOf(const std::string& program, const std::string& which) const {
  return "127.0.0.1:" + PortOf(program, which);
}

void Groups::StartProgram(const std::string& kind, const std::string& name,
                          std::vector<std::string> settings) {
  programs_.erase(name);
  const std::string ports = folder_ + "/" + name + ".ports";
  const std::string before = FileText(ports);
  // Others find it where it was; who asks for the rest reads the ports anew.
  settings.push_back("server.listen=127.0.0.1:" + (before.empty() ? "0" : Port(before, "server")));
  for (const char* other : {"health", "metrics"}) {
    settings.push_back(fmt::format("{}.listen=127.0.0.1:0", other));
  }
  settings.push_back("ports_file=" + ports);
  std::vector<std::string> arguments = {"--config", kRoot + "/configs/" + kind + ".yaml"};
  for (const std::string& setting : settings) {
    arguments.push_back("--set");
    arguments.push_back(setting);
  }
  std::filesystem::remove(ports);
  auto started =
      std::make_unique<Program>("conclave-" + kind, arguments, folder_ + "/" + name + ".log");
  Eventually(absl::Seconds(120),
             [&] { return !FileText(ports).empty() || started->Wait(absl::ZeroDuration()) >= 0; });
  if (FileText(ports).empty()) {
    throw std::runtime_error(name + " did not start:\n" + started->Output());
  }
  programs_[name] = std::move(started);
}

}  // namespace conclave
