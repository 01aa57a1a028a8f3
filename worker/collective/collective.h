#pragma once

#include <absl/status/status.h>

#include <memory>
#include <string>
#include <vector>

#include "worker/backend/tensor.h"

namespace conclave::worker {

// The ranks of one axis of a group. Every rank makes the same calls in the same order, each on one
// thread. A call that fails (a peer is gone, the group ends) fails on all later calls: the group is
// lost.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // How it sums, for logs.
  virtual std::string name() const = 0;
  // x = sum over ranks of x, added in rank order for every element, whatever the size: the same
  // bits on every rank, for one row and for many.
  virtual absl::Status AllReduceSum(Tensor x) = 0;
  // out = the ranks' parts, one after another: parts of `count` floats, out has size() * count.
  virtual absl::Status AllGather(const float* part, int64_t count, float* out) = 0;
};

// A group of one.
class SoloCollective : public Collective {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string name() const override { return "alone"; }
  absl::Status AllReduceSum(Tensor) override { return absl::OkStatus(); }
  absl::Status AllGather(const float* part, int64_t count, float* out) override;
};

}  // namespace conclave::worker
