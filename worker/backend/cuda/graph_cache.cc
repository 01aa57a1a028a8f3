#include "worker/backend/cuda/graph_cache.h"

#include <algorithm>

#include "common/status.h"
#include "worker/backend/cuda/cuda_memory.h"

namespace conclave::worker::cuda {
namespace {

// What `operations` launches, instead of doing it.
absl::Status Record(const std::function<absl::Status()>& operations, cudaStream_t stream,
                    cudaGraph_t* graph) {
  RETURN_IF_ERROR(StatusOf(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal),
                           "recording a step"));
  const absl::Status status = operations();
  const cudaError_t end = cudaStreamEndCapture(stream, graph);  // Ends it in any case.
  RETURN_IF_ERROR(status);
  return StatusOf(end, "recording a step");
}

}  // namespace

absl::Status GraphCache::Repeat(const std::vector<int32_t>& key,
                                const std::function<absl::Status()>& operations,
                                cudaStream_t stream) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) {
    RETURN_IF_ERROR(operations());
    return Touch(key, stream);
  }
  Entry& entry = found->second;
  if (!entry.graph) {
    cudaGraph_t graph = nullptr;
    absl::Status status = Record(operations, stream, &graph);
    cudaGraphExec_t exec = nullptr;
    if (status.ok()) status = StatusOf(cudaGraphInstantiate(&exec, graph, 0), "recording a step");
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    RETURN_IF_ERROR(status);
    entry.graph.reset(exec);
  } else {
    ++replays_;
  }
  entry.used = ++clock_;
  return StatusOf(cudaGraphLaunch(entry.graph.get(), stream), "a recorded step");
}

absl::Status GraphCache::Touch(const std::vector<int32_t>& key, cudaStream_t stream) {
  if (entries_.size() >= most_) {
    RETURN_IF_ERROR(StatusOf(cudaStreamSynchronize(stream), "a recorded step"));
    const auto older = [](const auto& a, const auto& b) { return a.second.used < b.second.used; };
    entries_.erase(std::min_element(entries_.begin(), entries_.end(), older));
  }
  entries_[key].used = ++clock_;
  return absl::OkStatus();
}

absl::Status GraphCache::Clear(cudaStream_t stream) {
  if (entries_.empty()) return absl::OkStatus();
  const absl::Status status = StatusOf(cudaStreamSynchronize(stream), "a recorded step");
  entries_.clear();
  return status;
}

}  // namespace conclave::worker::cuda
