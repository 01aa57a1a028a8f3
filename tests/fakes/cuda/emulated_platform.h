#pragma once

// The second half of worker/backend/cuda/platform.h, for the emulator: the same functions, with the
// same meaning, and checks of what a device would only get wrong.

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emulated_block.h"

namespace conclave::worker::cuda {

namespace emulated {
// To the stream, or to the graph that it captures. What is wrong stays in cudaGetLastError().
void SubmitKernel(Start start, cudaStream_t stream);
// As if the kernels were not compiled for this GPU, while it lives.
class WithoutKernels {
 public:
  WithoutKernels();
  ~WithoutKernels();
};
// Something that is no kernel, in the stream's order.
void SubmitHost(std::function<void()> operation, cudaStream_t stream);

void MultiplyLanes(Lane* lanes);
void LoadMatrixLanes(Lane* lanes);
void LoadMatrixLanesTransposed(Lane* lanes);
}  // namespace emulated

template <typename... Parameters, typename... Arguments>
void Launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
  std::tuple<std::remove_cv_t<Parameters>...> bound(
      Parameters(std::forward<Arguments>(arguments))...);
  emulated::SubmitKernel({shape.grid, shape.block, shape.shared_bytes, shape.early, shape.together,
                          [kernel, bound] { std::apply(kernel, bound); }},
                         shape.stream);
}

template <typename T>
inline T* DynamicShared() {
  return static_cast<T*>(emulated::DynamicSharedMemory());
}

inline void GridDependencyWait() { emulated::MarkDependencyWait(); }
inline void GridDependencyLaunch() {}

inline void Mma16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     emulated::Where where = emulated::Where::current()) {
  emulated::Lane& lane = emulated::Lanes()[emulated::LaneIndex()];
  lane.first = a;
  lane.second = b;
  lane.result = d;
  emulated::Meet(emulated::MultiplyLanes, where);
}

inline void LoadMatrixX4(uint32_t (&r)[4], const void* row,
                         emulated::Where where = emulated::Where::current()) {
  emulated::CheckMatrixRow(row, where);
  emulated::Lane& lane = emulated::Lanes()[emulated::LaneIndex()];
  lane.first = row;
  lane.result = r;
  emulated::Meet(emulated::LoadMatrixLanes, where);
}
inline void LoadMatrixX4Transposed(uint32_t (&r)[4], const void* row,
                                   emulated::Where where = emulated::Where::current()) {
  emulated::CheckMatrixRow(row, where);
  emulated::Lane& lane = emulated::Lanes()[emulated::LaneIndex()];
  lane.first = row;
  lane.result = r;
  emulated::Meet(emulated::LoadMatrixLanesTransposed, where);
}

inline float Exp2(float x) { return std::exp2(x); }

inline void CopyAsync16(void* shared, const void* from, bool valid = true,
                        emulated::Where where = emulated::Where::current()) {
  emulated::CheckShared(shared, 16, where);
  if (valid) emulated::CheckGlobal(from, 16, where);
  emulated::AddCopy(shared, from, valid);
}
inline void CommitCopies() { emulated::CommitCopies(); }
template <int kPending>
inline void WaitCopies() {
  emulated::WaitCopies(kPending);
}

inline uint4 LoadOnce16(const void* from, emulated::Where where = emulated::Where::current()) {
  emulated::CheckGlobal(from, 16, where);
  uint4 v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline uint32_t SelectBytes(uint32_t word, uint32_t selector) {
  return __byte_perm(word, 0, selector);
}
inline void PrefetchL2(const void*) {}

}  // namespace conclave::worker::cuda
