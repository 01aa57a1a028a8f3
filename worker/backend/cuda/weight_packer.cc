#include "worker/backend/cuda/weight_packer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/cuda/quantise.h"
#include "worker/backend/number.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kStagingBytes = size_t{8} << 20;

bool Quantised(Stored stored) { return stored == Stored::kE4M3 || stored == Stored::kInt4; }

// What `stored` is made of.
Stored StagedAs(Stored stored) { return Quantised(stored) ? Stored::kBF16 : stored; }

int64_t BytesOfNumber(Stored stored) { return stored == Stored::kF32 ? 4 : 2; }

// Bytes, and scales, of one row.
int64_t RowBytes(const Matrix& matrix) {
  switch (matrix.stored) {
    case Stored::kE4M3:
      return matrix.stride;
    case Stored::kInt4:
      return matrix.stride / 2;
    default:
      return matrix.stride * BytesOfNumber(matrix.stored);
  }
}
int64_t RowScales(const Matrix& matrix) {
  return matrix.stored == Stored::kE4M3   ? 1
         : matrix.stored == Stored::kInt4 ? matrix.in / kInt4Group
                                          : 0;
}

// Widths that the kernels read whole.
int64_t Divisor(Stored stored) {
  return stored == Stored::kE4M3 ? 16 : stored == Stored::kInt4 ? kInt4Group : 1;
}

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
  CHECK(!sources.empty());
  auto weight = std::make_unique<CudaWeight>();
  weight->serial = NextSerial();
  Matrix& matrix = weight->matrix;
  matrix.stored = stored;
  matrix.in = sources[0]->cols();
  if (matrix.in % Divisor(stored) != 0) {
    return Unimplemented("a matrix of width {}: {} needs multiples of {}", matrix.in,
                         stored == Stored::kInt4 ? "int4" : "fp8", Divisor(stored));
  }
  matrix.stride = (matrix.in + 7) / 8 * 8;
  for (const RowSource* source : sources) {
    CHECK(source->cols() == matrix.in && source->dtype() == sources[0]->dtype());
    matrix.out += source->rows();
  }
  ASSIGN_OR_RETURN(weight->numbers,
                   AllocateDevice(static_cast<size_t>(matrix.out * RowBytes(matrix)), "weights"));
  matrix.data = weight->numbers.get();
  if (Quantised(stored)) {
    const auto scales = static_cast<size_t>(matrix.out * RowScales(matrix));
    ASSIGN_OR_RETURN(weight->scales, AllocateDevice(scales * sizeof(float), "scales of weights"));
    matrix.scales = static_cast<const float*>(weight->scales.get());
  }
  RETURN_IF_ERROR(CopyRows(sources, *weight, stream));
  return weight;
}

absl::Status WeightPacker::CopyRows(const std::vector<const RowSource*>& sources,
                                    const CudaWeight& to, cudaStream_t stream) {
  const Stored staged = StagedAs(to.matrix.stored);
  const auto row_bytes = static_cast<size_t>(to.matrix.stride * BytesOfNumber(staged));
  if (row_bytes == 0) return absl::OkStatus();
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(kStagingBytes / row_bytes));
  int64_t row = 0;
  for (const RowSource* source : sources) {
    for (int64_t first = 0; first < source->rows(); first += most) {
      const int64_t rows = std::min(most, source->rows() - first);
      ASSIGN_OR_RETURN(void* const slot, staging_.Next(static_cast<size_t>(rows) * row_bytes));
      for (int64_t i = 0; i < rows; ++i) {
        Convert(*source, first + i, staged,
                static_cast<char*>(slot) + static_cast<size_t>(i) * row_bytes);
      }
      RETURN_IF_ERROR(PutRows(row, rows, to, stream));
      row += rows;
    }
  }
  return absl::OkStatus();
}

absl::Status WeightPacker::PutRows(int64_t row, int64_t rows, const CudaWeight& to,
                                   cudaStream_t stream) {
  const Matrix& matrix = to.matrix;
  char* const device = static_cast<char*>(to.numbers.get()) + row * RowBytes(matrix);
  const auto bytes =
      static_cast<size_t>(rows * matrix.stride * BytesOfNumber(StagedAs(matrix.stored)));
  if (!Quantised(matrix.stored)) return staging_.CopyTo(device, bytes, stream);
  bool moved = false;  // Nothing that is recorded reads it.
  RETURN_IF_ERROR(unquantised_.Reserve(bytes, stream, &moved));
  RETURN_IF_ERROR(staging_.CopyTo(unquantised_.data(), bytes, stream));
  const Tensor numbers = {unquantised_.data(), DType::kBF16, rows, matrix.in, matrix.stride};
  float* const scales = static_cast<float*>(to.scales.get()) + row * RowScales(matrix);
  Quantise(numbers, matrix.stored, matrix.stride, device, scales, stream);
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
