#include "worker/model/weight_reader.h"

#include <fmt/ranges.h>

#include <cstring>

#include "common/status.h"
#include "worker/backend/number.h"

namespace conclave::worker {
namespace {

// Rows and columns of a stored matrix, as they are stored or as f32.
class MatrixRows : public RowSource {
 public:
  MatrixRows(const StoredTensor& tensor, Span rows, Span cols, DType dtype, bool may_be_quantised)
      : tensor_(tensor),
        rows_(rows),
        cols_(cols),
        dtype_(dtype),
        may_be_quantised_(may_be_quantised) {}
  int64_t rows() const override { return rows_.size(); }
  int64_t cols() const override { return cols_.size(); }
  DType dtype() const override { return dtype_; }
  bool may_be_quantised() const override { return may_be_quantised_; }
  void Read(int64_t row, void* to) const override {
    const int64_t at = (rows_.begin + row) * tensor_.shape[1] + cols_.begin;
    if (dtype_ == tensor_.dtype) {
      const size_t bytes = BytesOf(dtype_);
      std::memcpy(to, tensor_.data + at * bytes, bytes * cols_.size());
      return;
    }
    for (int i = 0; i < cols_.size(); ++i) {
      static_cast<float*>(to)[i] = NumberAt(tensor_.data, tensor_.dtype, at + i);
    }
  }

 private:
  const StoredTensor& tensor_;
  const Span rows_, cols_;
  const DType dtype_;
  const bool may_be_quantised_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> WeightReader::Matrix(const std::vector<Part>& parts,
                                                             Kept kept) {
  std::vector<const StoredTensor*> tensors;
  for (const Part& part : parts) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor,
                     Find(part.name, {part.shape.first, part.shape.second}));
    tensors.push_back(tensor);
  }
  dtype_ = tensors[0]->dtype;
  for (const StoredTensor* tensor : tensors) {
    if (tensor->dtype != dtype_) dtype_ = DType::kF32;
  }
  std::vector<MatrixRows> rows;
  for (size_t i = 0; i < parts.size(); ++i) {
    rows.emplace_back(*tensors[i], parts[i].rows, parts[i].cols, dtype_,
                      kept == Kept::kMayBeQuantised);
  }
  std::vector<const RowSource*> sources;
  for (const MatrixRows& each : rows) sources.push_back(&each);
  return device_.Pack(sources);
}

absl::StatusOr<std::unique_ptr<Buffer>> WeightReader::Vector(const std::vector<VectorPart>& parts) {
  std::vector<float> values;
  for (const auto& [name, size, part] : parts) {
    ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name, {size}));
    for (int i = part.begin; i < part.end; ++i) {
      values.push_back(NumberAt(tensor->data, tensor->dtype, i));
    }
  }
  return device_.Upload(values);
}

absl::Status WeightReader::CheckSurplus(const std::set<std::string>& ignored) const {
  for (const auto& [name, tensor] : files_.tensors()) {
    if (!used_.contains(name) && !ignored.contains(name) &&
        name.find("rotary_emb.inv_freq") == std::string::npos) {
      return InvalidArgument("tensor {} is not known to this architecture", name);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<const StoredTensor*> WeightReader::Find(const std::string& name,
                                                       const std::vector<int64_t>& shape) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, files_.Find(name));
  if (tensor->shape != shape) {
    return InvalidArgument("tensor {} has shape [{}]; config.json asks for [{}]", name,
                           fmt::join(tensor->shape, ", "), fmt::join(shape, ", "));
  }
  used_.insert(name);
  return tensor;
}

}  // namespace conclave::worker
