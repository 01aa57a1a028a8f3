#include "worker/model/lost_mapping.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>

namespace conclave::worker {
namespace {

constexpr size_t kMostMappings = 4096;  // As many as a checkpoint has shards; more have no name.
constexpr char kWhy[] = ": became shorter while it was in use, or its disk failed";

struct Place {
  std::atomic<uintptr_t> begin = 0;  // 0: free.
  std::atomic<size_t> bytes = 0;
  std::atomic<const char*> name = nullptr;
};

// Process-wide, as a signal's handler is: it finds nothing but what is here, and takes no lock.
std::array<Place, kMostMappings> places;
std::span<char> last_words;
ABSL_CONST_INIT absl::Mutex places_mutex(absl::kConstInit);  // Of those who change `places`.

const char* NameOf(uintptr_t address) {
  for (const Place& place : places) {
    const uintptr_t begin = place.begin.load(std::memory_order_acquire);
    if (begin != 0 && address >= begin && address - begin < place.bytes.load()) return place.name;
  }
  return nullptr;
}

// Only what is safe within a handler.
void OnBusError(int, siginfo_t* fault, void*) {
  const char* name = NameOf(reinterpret_cast<uintptr_t>(fault->si_addr));
  if (name == nullptr) {
    signal(SIGBUS, SIG_DFL);  // The same access ends the process when this returns.
    return;
  }
  std::array<char, 4096> line;
  const size_t length = std::min(std::strlen(name), line.size() - sizeof kWhy);
  std::copy_n(name, length, line.begin());
  std::copy_n(kWhy, sizeof kWhy, line.begin() + length);
  const size_t size = length + sizeof kWhy - 1;
  if (!last_words.empty()) {
    const size_t kept = std::min(size, last_words.size() - 1);
    std::copy_n(line.begin(), kept, last_words.begin());
    last_words[kept] = 0;
  }
  line[size] = '\n';
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), size + 1);
  _exit(1);
}

}  // namespace

NamedMapping::NamedMapping(const void* begin, size_t bytes, const std::string& name)
    : begin_(begin) {
  absl::MutexLock lock(&places_mutex);
  for (Place& place : places) {
    if (place.begin != 0) continue;
    place.bytes = bytes;
    place.name = name.c_str();
    place.begin.store(reinterpret_cast<uintptr_t>(begin), std::memory_order_release);
    return;
  }
}

NamedMapping::~NamedMapping() {
  absl::MutexLock lock(&places_mutex);
  for (Place& place : places) {
    if (place.begin == reinterpret_cast<uintptr_t>(begin_)) place.begin = 0;
  }
}

void EndOnLostMapping(std::span<char> words) {
  last_words = words;
  struct sigaction action = {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace conclave::worker
