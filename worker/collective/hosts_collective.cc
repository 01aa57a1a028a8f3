#include "worker/collective/hosts_collective.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int64_t kSliceFloats = int64_t{32} << 10;  // 128 KB: what a rank exchanges at once.

// From here on a host's ranks share the sum out. 64 KB: below, a second meeting costs more.
constexpr int64_t kLeastShared = int64_t{16} << 10;

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
  for (int64_t at = 0; at < count;) {
    const int64_t slice = std::min(kSliceFloats, count - at);
    const bool share = local_->size() > 1 && slice >= kLeastShared;
    const int64_t summed = share ? slice / local_->size() * local_->size() : slice;
    RETURN_IF_ERROR(share ? Share(data + at, summed / local_->size()) : Gather(data + at, summed));
    at += summed;
  }
  dense_.Unpack(data, x);
  return absl::OkStatus();
}

absl::Status HostsCollective::Gather(float* x, int64_t count) {
  RETURN_IF_ERROR(Exchange(x, count));
  std::copy_n(part_of(0, count), count, x);
  for (int r = 1; r < size(); ++r) Add(x, part_of(r, count), x, count);
  return absl::OkStatus();
}

absl::Status HostsCollective::Share(float* x, int64_t share) {
  const int64_t places = local_->size(), count = share * places;
  all_.resize(static_cast<size_t>(count * places));
  RETURN_IF_ERROR(local_->AllGather(x, count, all_.data()));
  for (int64_t p = 0; p < places; ++p) {  // x is free: it is in all_.
    std::copy_n(all_.data() + p * count + local_->rank() * share, share, x + p * share);
  }
  column_.resize(static_cast<size_t>(across_->size() * count));
  RETURN_IF_ERROR(across_->AllGather(x, count, column_.data()));
  float* sum = column_.data();
  for (int r = 1; r < size(); ++r) Add(sum, column_.data() + r * share, sum, share);
  return local_->AllGather(sum, share, x);
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
