#pragma once

#include <memory>
#include <string>
#include <vector>

#include "worker/collective/collective.h"
#include "worker/collective/rows.h"

namespace conclave::worker {

// The ranks of several hosts, as many on each: rank = host * ranks of a host + place on it. A part
// crosses the network once and is shared there: the ranks that have the same place on their hosts
// exchange their parts first, then each host's ranks what they hold. The bits are those of any
// other collective of as many ranks. A failure lasts: those of the two collectives do.
class HostsCollective : public Collective {
 public:
  // `across` joins the ranks that have this one's place on all hosts, in order of host; `local`
  // this host's, in order of place.
  HostsCollective(std::unique_ptr<Collective> across, std::unique_ptr<Collective> local);

  int rank() const override { return across_->rank() * local_->size() + local_->rank(); }
  int size() const override { return across_->size() * local_->size(); }
  std::string name() const override { return across_->name() + ", " + local_->name(); }
  absl::Status AllReduceSum(Tensor x) override;
  absl::Status AllGather(const float* part, int64_t count, float* out) override;

 private:
  // x = the ranks' sum: every rank adds all parts.
  absl::Status Gather(float* x, int64_t count);
  // The same for as many shares of x as a host has ranks: each adds one, of all parts.
  absl::Status Share(float* x, int64_t share);
  // all_[place][host] = that rank's `count` floats.
  absl::Status Exchange(const float* part, int64_t count);
  const float* part_of(int rank, int64_t count) const;

  const std::unique_ptr<Collective> across_, local_;
  std::vector<float> column_;  // [host]: what the ranks in this one's place sent.
  std::vector<float> all_;
  DenseRows dense_;
};

}  // namespace conclave::worker
