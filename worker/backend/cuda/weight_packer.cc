#include "worker/backend/cuda/weight_packer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/number.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kStagingBytes = size_t{8} << 20;

int64_t BytesOfNumber(Stored stored) { return stored == Stored::kF32 ? 4 : 2; }

uint16_t ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);  // NaN.
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

uint64_t NextSerial() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaWeight>> WeightPacker::Pack(
    const std::vector<const RowSource*>& sources, Stored stored, cudaStream_t stream) {
  CHECK(!sources.empty() && (stored == Stored::kF32 || stored == Stored::kBF16));
  auto weight = std::make_unique<CudaWeight>();
  weight->serial = NextSerial();
  Matrix& matrix = weight->matrix;
  matrix.stored = stored;
  matrix.in = sources[0]->cols();
  matrix.stride = (matrix.in + 7) / 8 * 8;
  for (const RowSource* source : sources) {
    CHECK(source->cols() == matrix.in && source->dtype() == sources[0]->dtype());
    matrix.out += source->rows();
  }
  const int64_t bytes = matrix.out * matrix.stride * BytesOfNumber(stored);
  ASSIGN_OR_RETURN(weight->numbers, AllocateDevice(static_cast<size_t>(bytes), "weights"));
  matrix.data = weight->numbers.get();
  RETURN_IF_ERROR(CopyRows(sources, matrix, stream));
  return weight;
}

absl::Status WeightPacker::CopyRows(const std::vector<const RowSource*>& sources, const Matrix& to,
                                    cudaStream_t stream) {
  const size_t row_bytes = static_cast<size_t>(to.stride * BytesOfNumber(to.stored));
  if (row_bytes == 0) return absl::OkStatus();
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(kStagingBytes / row_bytes));
  auto* device = static_cast<char*>(const_cast<void*>(to.data));
  for (const RowSource* source : sources) {
    for (int64_t first = 0; first < source->rows(); first += most) {
      const int64_t rows = std::min(most, source->rows() - first);
      const size_t bytes = static_cast<size_t>(rows) * row_bytes;
      ASSIGN_OR_RETURN(void* const slot, staging_.Next(bytes));
      for (int64_t i = 0; i < rows; ++i) {
        Convert(*source, first + i, to.stored,
                static_cast<char*>(slot) + static_cast<size_t>(i) * row_bytes);
      }
      RETURN_IF_ERROR(staging_.CopyTo(device, bytes, stream));
      device += bytes;
    }
  }
  return absl::OkStatus();
}

void WeightPacker::Convert(const RowSource& source, int64_t row, Stored stored, void* to) {
  const DType dtype = source.dtype();
  const int64_t cols = source.cols(), stride = (cols + 7) / 8 * 8;
  const int64_t width = BytesOfNumber(stored);
  std::memset(static_cast<char*>(to) + cols * width, 0,
              static_cast<size_t>((stride - cols) * width));
  if ((dtype == DType::kF32 && stored == Stored::kF32) ||
      (dtype == DType::kBF16 && stored == Stored::kBF16)) {
    return source.Read(row, to);
  }
  row_.resize(static_cast<size_t>(cols) * BytesOf(dtype));
  source.Read(row, row_.data());
  if (stored == Stored::kF32) {
    for (int64_t k = 0; k < cols; ++k) static_cast<float*>(to)[k] = NumberAt(row_.data(), dtype, k);
    return;
  }
  auto* numbers = static_cast<uint16_t*>(to);
  if (dtype == DType::kF32) {
    const auto* from = reinterpret_cast<const float*>(row_.data());
    for (int64_t k = 0; k < cols; ++k) numbers[k] = ToBf16(from[k]);
    return;
  }
  if (f16_.empty()) {
    for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
      f16_.push_back(ToBf16(FromF16(static_cast<uint16_t>(bits))));
    }
  }
  const auto* from = reinterpret_cast<const uint16_t*>(row_.data());
  for (int64_t k = 0; k < cols; ++k) numbers[k] = f16_[from[k]];
}

}  // namespace conclave::worker::cuda
