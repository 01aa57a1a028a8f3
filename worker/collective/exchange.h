#pragma once

#include <absl/status/statusor.h>

#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "common/status.h"
#include "worker/collective/collective.h"

namespace conclave::worker {

// What each rank has, by rank: every rank calls this with its own at the same time. It travels as
// floats, whose bits nobody looks at. As the collective's AllGather says.
template <typename T>
absl::StatusOr<std::vector<T>> Exchange(const T& mine, Collective& ranks) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(float) == 0);
  constexpr size_t kFloats = sizeof(T) / sizeof(float);
  std::array<float, kFloats> part;
  std::memcpy(part.data(), &mine, sizeof(T));
  std::vector<float> all(kFloats * static_cast<size_t>(ranks.size()));
  RETURN_IF_ERROR(ranks.AllGather(part.data(), kFloats, all.data()));
  std::vector<T> everyone(static_cast<size_t>(ranks.size()));
  std::memcpy(static_cast<void*>(everyone.data()), all.data(), all.size() * sizeof(float));
  return everyone;
}

}  // namespace conclave::worker
