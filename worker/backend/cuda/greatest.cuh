#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"
#include "worker/backend/cuda/warp.h"

// The greatest k of many numbers, exactly, by one block. A number's key orders by value, then by
// the lower position, so that keys are distinct and what is found does not depend on the order in
// which threads came.
namespace conclave::worker::cuda {

inline constexpr int kMostWanted = 1024;
inline constexpr int kListed = 4096;  // Keys that are sorted without being counted first.

// Rises with the value; -0 is 0. REQUIRES: not NaN. Never 0.
__device__ inline uint32_t OrderOf(float value) {
  const uint32_t bits = __float_as_uint(value + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline uint64_t KeyOf(float value, int position) {
  return static_cast<uint64_t>(OrderOf(value)) << 32 | ~static_cast<uint32_t>(position);
}
__device__ inline float ValueOf(uint64_t key) {
  const uint32_t order = static_cast<uint32_t>(key >> 32);
  return __uint_as_float((order & 0x80000000u) != 0 ? order & 0x7fffffffu : ~order);
}
__device__ inline int PositionOf(uint64_t key) {
  return static_cast<int>(~static_cast<uint32_t>(key));
}

// A block's room for one choice, in shared memory.
struct GreatestRoom {
  uint64_t list[kListed];
  int32_t groups[kMostWanted];
  int num_groups, listed;
  // Of one digit: how many keys have each value; then the digit at the cut, how many keys have it,
  // and how many are above it.
  int bins[256];
  int digit, in_bin, above;
  uint64_t cut;
};

// One warp, after the count of a digit: where, from above, `left` keys are reached.
// REQUIRES: left > 0, and the bins hold as many.
__device__ inline void FindDigit(GreatestRoom& room, int left) {
  constexpr int kBins = 256 / kWarp;  // Of one lane; lane 0 has the greatest.
  const int lane = static_cast<int>(threadIdx.x) % kWarp, top = 255 - lane * kBins;
  int mine = 0;
  for (int b = 0; b < kBins; ++b) mine += room.bins[top - b];
  int upto = mine;  // With all greater lanes.
  for (int apart = 1; apart < kWarp; apart *= 2) {
    const int other = __shfl_sync(kAllLanes, upto, lane - apart < 0 ? lane : lane - apart);
    if (lane >= apart) upto += other;
  }
  int above = upto - mine;
  if (above >= left || upto < left) return;
  for (int b = top;; --b) {
    if (above + room.bins[b] >= left) {
      room.digit = b, room.in_bin = room.bins[b], room.above = above;
      return;
    }
    above += room.bins[b];
  }
}

// The greatest cut that exactly `wanted` keys reach. keys.Each(f) calls f(key) for every key, each
// once, by the threads of the block. Digit by digit from the top, until a digit's keys are wanted
// whole. REQUIRES: wanted > 0, and there are as many keys.
template <typename Keys>
__device__ uint64_t CutOf(const Keys& keys, int wanted, GreatestRoom& room) {
  uint64_t cut = 0;
  for (int shift = 56; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += static_cast<int>(blockDim.x)) {
      room.bins[i] = 0;
    }
    __syncthreads();
    keys.Each([&](uint64_t key) {
      if (((key ^ cut) >> shift) < 256) atomicAdd(&room.bins[key >> shift & 255], 1);
    });
    __syncthreads();
    if (threadIdx.x < kWarp) FindDigit(room, wanted);
    __syncthreads();
    cut |= static_cast<uint64_t>(room.digit) << shift;
    wanted -= room.above;
    if (room.in_bin == wanted) break;
  }
  return cut;
}

// How many of the list's first `count` keys are greater.
__device__ inline int RankOf(const GreatestRoom& room, int count, uint64_t key) {
  int rank = 0;
#pragma unroll 8
  for (int i = 0; i < count; ++i) rank += room.list[i] > key ? 1 : 0;
  return rank;
}

// Sorts the first `count` of the list, falling. count <= kListed. Few are put where they belong at
// once, many merged step by step.
__device__ inline void SortList(GreatestRoom& room, int count) {
  constexpr int kFew = 256;
  if (count <= kFew && count <= static_cast<int>(blockDim.x)) {
    const int i = static_cast<int>(threadIdx.x);
    const uint64_t key = i < count ? room.list[i] : 0;
    const int rank = i < count ? RankOf(room, count, key) : 0;
    __syncthreads();
    if (i < count) room.list[rank] = key;
    __syncthreads();
    return;
  }
  int size = 2;
  while (size < count) size *= 2;
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  for (int i = count + thread; i < size; i += threads) room.list[i] = 0;
  __syncthreads();
  for (int run = 2; run <= size; run *= 2) {  // Bitonic: runs of this length become sorted.
    for (int apart = run / 2; apart > 0; apart /= 2) {
      for (int i = thread; i < size / 2; i += threads) {
        const int low = (i & ~(apart - 1)) * 2 + (i & (apart - 1)), high = low + apart;
        const bool falling = (low & run) == 0;
        const uint64_t a = room.list[low], b = room.list[high];
        if ((a < b) == falling) room.list[low] = b, room.list[high] = a;
      }
      __syncthreads();
    }
  }
}

// f(key_at(i)) for every i below `count` whose key is not 0, each once, by the threads of the
// block. Some keys' loads are under way at once: f's atomics would part them.
template <typename KeyAt, typename F>
__device__ void EachKey(int count, const KeyAt& key_at, const F& f) {
  constexpr int kAtOnce = 4;
  const int threads = static_cast<int>(blockDim.x);
  for (int base = static_cast<int>(threadIdx.x); base < count; base += kAtOnce * threads) {
    uint64_t keys[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int i = base + j * threads;
      keys[j] = i < count ? key_at(i) : 0;
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      if (keys[j] != 0) f(keys[j]);
    }
  }
}

// The greatest of each group of kGroup neighbours. REQUIRES: no group is empty.
struct GroupKeys {
  const float* greatest;
  int num_groups;

  template <typename F>
  __device__ void Each(const F& f) const {
    EachKey(
        num_groups, [&](int g) { return KeyOf(greatest[g], g); }, f);
  }
};

inline constexpr int kFewWanted = 64;      // So many are found by RoughCutOf.
inline constexpr int kLeastBuckets = 128;  // The fewer, the sooner they are ranked.

// A cut that `wanted` groups reach, and not many more: the wanted-th greatest of the greatest of
// each of `buckets` buckets of groups. At most `wanted` buckets have any that reach it.
// REQUIRES: 0 < wanted <= kFewWanted, there are as many groups, and at least `buckets` threads.
__device__ inline uint64_t RoughCutOf(const GroupKeys& groups, int wanted, int buckets,
                                      GreatestRoom& room) {
  const int bucket = static_cast<int>(threadIdx.x);
  uint64_t greatest = 0;
  if (bucket < buckets) {
#pragma unroll 8
    for (int g = bucket; g < groups.num_groups; g += buckets) {
      const uint64_t key = KeyOf(groups.greatest[g], g);
      greatest = key > greatest ? key : greatest;
    }
    room.list[bucket] = greatest;
  }
  __syncthreads();
  if (greatest != 0 && RankOf(room, buckets, greatest) == wanted - 1) room.cut = greatest;
  __syncthreads();
  return room.cut;
}

// The members of the chosen groups that reach `least`. values(position): the number there.
template <int kGroup, typename Values>
struct MemberKeys {
  const Values& values;
  const GreatestRoom& room;
  int width;
  uint64_t least;

  template <typename F>
  __device__ void Each(const F& f) const {
    const auto key_at = [&](int i) {
      const int position = room.groups[i / kGroup] * kGroup + i % kGroup;
      const uint64_t key = position < width ? KeyOf(values(position), position) : 0;
      return key >= least ? key : 0;
    };
    EachKey(room.num_groups * kGroup, key_at, f);
  }
};

template <typename Keys>
__device__ void List(const Keys& keys, GreatestRoom& room) {
  if (threadIdx.x == 0) room.listed = 0;
  __syncthreads();
  keys.Each([&](uint64_t key) {
    const int at = atomicAdd(&room.listed, 1);
    if (at < kListed) room.list[at] = key;
  });
  __syncthreads();
}

// Leaves the keys of the `wanted` greatest of values(0 .. width - 1) in room.list, falling, and
// returns how many there are: fewer where the width is less. groups: the greatest of each group of
// kGroup neighbours. The `wanted` greatest groups hold as many numbers that no other group's
// numbers precede, so that only they are read.
// REQUIRES: wanted <= kMostWanted, and at least kLeastBuckets threads.
template <int kGroup, typename Values>
__device__ int Greatest(const Values& values, const GroupKeys& groups, int width, int wanted,
                        GreatestRoom& room) {
  wanted = wanted < width ? wanted : width;
  if (wanted == 0) return 0;
  uint64_t cut = 0;
  if (groups.num_groups > wanted) {
    const auto most = [&](int buckets) {
      return wanted * ((groups.num_groups + buckets - 1) / buckets);
    };
    int buckets = kLeastBuckets;
    while (most(buckets) > kMostWanted && 2 * buckets <= static_cast<int>(blockDim.x)) buckets *= 2;
    const bool quick = wanted <= kFewWanted && most(buckets) <= kMostWanted;
    cut = quick ? RoughCutOf(groups, wanted, buckets, room) : CutOf(groups, wanted, room);
  }
  if (threadIdx.x == 0) room.num_groups = 0;
  __syncthreads();
  groups.Each([&](uint64_t key) {
    if (key >= cut) room.groups[atomicAdd(&room.num_groups, 1)] = PositionOf(key);
  });
  __syncthreads();
  // What a chosen group's greatest reaches, as a value.
  MemberKeys<kGroup, Values> members{values, room, width, cut >> 32 << 32};
  List(members, room);
  if (room.listed > kListed) {
    members.least = CutOf(members, wanted, room);
    List(members, room);
  }
  SortList(room, room.listed);
  return wanted;
}

}  // namespace conclave::worker::cuda
