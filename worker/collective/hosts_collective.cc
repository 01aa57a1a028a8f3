#include "worker/collective/hosts_collective.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int64_t kSliceFloats = int64_t{32} << 10;  // 128 KB: what a rank exchanges at once.

}  // namespace

HostsCollective::HostsCollective(std::unique_ptr<Collective> across,
                                 std::unique_ptr<Collective> local)
    : across_(std::move(across)), local_(std::move(local)) {
  CHECK(across_ != nullptr && local_ != nullptr);
}

absl::Status HostsCollective::Exchange(const float* part, int64_t count) {
  column_.resize(static_cast<size_t>(across_->size() * count));
  all_.resize(static_cast<size_t>(size() * count));
  RETURN_IF_ERROR(across_->AllGather(part, count, column_.data()));
  return local_->AllGather(column_.data(), across_->size() * count, all_.data());
}

const float* HostsCollective::part_of(int rank, int64_t count) const {
  const int host = rank / local_->size(), place = rank % local_->size();
  return all_.data() + (place * across_->size() + host) * count;
}

absl::Status HostsCollective::AllReduceSum(Tensor x) {
  float* data = dense_.Pack(x);
  const int64_t count = x.rows * x.cols;
  for (int64_t at = 0; at < count; at += kSliceFloats) {
    const int64_t slice = std::min(kSliceFloats, count - at);
    float* out = data + at;
    RETURN_IF_ERROR(Exchange(out, slice));
    std::copy_n(part_of(0, slice), slice, out);
    for (int r = 1; r < size(); ++r) Add(out, part_of(r, slice), out, slice);
  }
  dense_.Unpack(data, x);
  return absl::OkStatus();
}

absl::Status HostsCollective::AllGather(const float* part, int64_t count, float* out) {
  for (int64_t at = 0; at < count; at += kSliceFloats) {
    const int64_t slice = std::min(kSliceFloats, count - at);
    RETURN_IF_ERROR(Exchange(part + at, slice));
    for (int r = 0; r < size(); ++r) std::copy_n(part_of(r, slice), slice, out + r * count + at);
  }
  return absl::OkStatus();
}

}  // namespace conclave::worker
