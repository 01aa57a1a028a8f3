#include "worker/model/weight_reader.h"

#include <fmt/ranges.h>

#include <cstring>

#include "common/status.h"

namespace conclave::worker {
namespace {

// Rows and columns of a stored matrix.
class MatrixRows : public RowSource {
 public:
  MatrixRows(const StoredTensor& tensor, Span rows, Span cols)
      : tensor_(tensor), rows_(rows), cols_(cols) {}
  int64_t rows() const override { return rows_.size(); }
  int64_t cols() const override { return cols_.size(); }
  DType dtype() const override { return tensor_.dtype; }
  void Read(int64_t row, void* to) const override {
    const size_t bytes = BytesOf(tensor_.dtype);
    const int64_t at = (rows_.begin + row) * tensor_.shape[1] + cols_.begin;
    std::memcpy(to, tensor_.data + at * bytes, bytes * cols_.size());
  }

 private:
  const StoredTensor& tensor_;
  const Span rows_, cols_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Weight>> WeightReader::Matrix(const std::string& name,
                                                             std::pair<int, int> shape, Span rows,
                                                             Span cols) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name, {shape.first, shape.second}));
  return device_.Pack(MatrixRows(*tensor, rows, cols));
}

absl::StatusOr<std::vector<float>> WeightReader::Vector(const std::string& name, int size,
                                                        Span part) {
  ASSIGN_OR_RETURN(const StoredTensor* tensor, Find(name, {size}));
  std::vector<float> values(part.size());
  const StoredTensor row{name, tensor->dtype, {1, size}, tensor->data};
  ASSIGN_OR_RETURN(auto packed, device_.Pack(MatrixRows(row, {0, 1}, part)));
  device_.Embed({0}, 0, *packed, Tensor::Dense(values.data(), 1, part.size()));
  return values;
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
