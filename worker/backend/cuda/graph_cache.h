#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <type_traits>
#include <vector>

#include "worker/backend/cuda/platform.h"

namespace conclave::worker::cuda {

// Recorded steps, by what their launches depend on. The first step of a key runs as it is (it may
// grow scratch), the second is recorded, later ones are replayed. The least recently used goes. One
// thread.
class GraphCache {
 public:
  explicit GraphCache(size_t most) : most_(most) {}

  // `key` is looked at again after `operations` ran: they may change what it refers to.
  absl::Status Repeat(const std::vector<int32_t>& key,
                      const std::function<absl::Status()>& operations, cudaStream_t stream);
  // An address that recorded steps hold has changed. Waits for those that run.
  absl::Status Clear(cudaStream_t stream);
  // Steps that were replayed.
  int64_t replays() const { return replays_; }

 private:
  struct ExecDestroy {
    void operator()(cudaGraphExec_t graph) const { (void)cudaGraphExecDestroy(graph); }
  };
  using Exec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, ExecDestroy>;
  struct Entry {
    Exec graph;  // Null: has run once.
    uint64_t used = 0;
  };

  absl::Status Touch(const std::vector<int32_t>& key, cudaStream_t stream);

  const size_t most_;
  std::map<std::vector<int32_t>, Entry> entries_;
  uint64_t clock_ = 0;
  int64_t replays_ = 0;
};

}  // namespace conclave::worker::cuda
