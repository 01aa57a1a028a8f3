#include "worker/backend/cuda/cuda_device.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/cuda/attend.h"
#include "worker/backend/cuda/batch_upload.h"
#include "worker/backend/cuda/cuda_memory.h"
#include "worker/backend/cuda/draw_call.h"
#include "worker/backend/cuda/graph_cache.h"
#include "worker/backend/cuda/products.h"
#include "worker/backend/cuda/row_hash.h"
#include "worker/backend/cuda/rows.h"
#include "worker/backend/cuda/weight_packer.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kMostGraphs = 64;

struct StreamDestroy {
  void operator()(cudaStream_t stream) const { (void)cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDestroy>;

int64_t BytesOfNumber(Stored stored) {
  return stored == Stored::kF32 ? 4 : stored == Stored::kBF16 ? 2 : 1;
}

// "kernel NAME, grid 3 x 1 x 1, block 128, 4096 bytes shared"
std::string NameOfFailedLaunch() {
  const auto& [kernel, shape] = failed_launch;
  const char* name = nullptr;
  if (kernel == nullptr || cudaFuncGetName(&name, kernel) != cudaSuccess) return "a kernel";
  return fmt::format("kernel {}, grid {} x {} x {}, block {}, {} bytes shared", name, shape.grid.x,
                     shape.grid.y, shape.grid.z, shape.block.x, shape.shared_bytes);
}

class Gpu : public CudaDevice {
 public:
  Gpu(const CudaOptions& options, const cudaDeviceProp& properties, Stream stream,
      std::unique_ptr<Products> products)
      : options_(options),
        capability_(properties.major * 10 + properties.minor),
        multiprocessors_(properties.multiProcessorCount),
        stream_(std::move(stream)),
        products_(std::move(products)),
        graphs_(kMostGraphs) {}
  ~Gpu() override {
    Bind();
    (void)cudaStreamSynchronize(stream_.get());
  }

  std::string name() const override;
  bool kinds_differ() const override { return !f32(); }
  DType ActivationType(DType weights) const override { return ActivationsOf(weights); }
  bool feeds_draws() const override { return true; }
  cudaStream_t stream() const override { return stream_.get(); }
  int ordinal() const override { return options_.ordinal; }
  int64_t replays() const override { return graphs_.replays(); }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(DType dtype, size_t count) override;
  absl::StatusOr<std::unique_ptr<Buffer>> Upload(std::span<const float> values) override;
  absl::Status Download(Tensor from, float* to) override;
  absl::StatusOr<std::unique_ptr<Weight>> Pack(
      const std::vector<const RowSource*>& sources) override;
  absl::StatusOr<KvPool> AllocateKv(int layers, int num_blocks, int kv_heads,
                                    int head_width) override;

  int64_t Padded(int64_t rows) const override { return options_.graphs ? RowBucket(rows) : rows; }
  BatchSize Begin(const Batch& batch) override;
  absl::Status Repeat(const std::function<absl::Status()>& operations) override;

  void Linear(Tensor x, int64_t prompt_rows, const Weight& weight, bool add, Tensor out) override {
    Note(products_->Linear(x, prompt_rows, weight, add, out));
  }
  void GateUp(Tensor x, int64_t prompt_rows, const Weight& weight, const float* bias,
              Tensor out) override {
    Note(products_->GateUp(x, prompt_rows, weight, bias, out));
  }
  void NormLinear(Tensor x, const RowNorm& norm, Tensor normed, int64_t prompt_rows,
                  const Weight& weight, Tensor out) override {
    if (!products_->NormLinear(x, norm, normed.dtype, prompt_rows, weight, out)) {
      Device::NormLinear(x, norm, normed, prompt_rows, weight, out);
    }
  }
  void NormGateUp(Tensor x, const RowNorm& norm, Tensor normed, int64_t prompt_rows,
                  const Weight& weight, const float* bias, Tensor out) override {
    if (!products_->NormGateUp(x, norm, normed.dtype, prompt_rows, weight, bias, out)) {
      Device::NormGateUp(x, norm, normed, prompt_rows, weight, bias, out);
    }
  }
  void Embed(TokenId first, const Weight& table, Tensor out) override {
    const BatchView& batch = upload_.view();
    CHECK(out.rows == batch.rows && out.cols == table.in());
    if (out.rows > 0) {
      cuda::Embed(batch, first, static_cast<const CudaWeight&>(table).matrix, out, stream());
    }
  }
  void SelectLogitsRows(Tensor x, Tensor out) override {
    CHECK(out.rows == upload_.view().logits_rows);
    if (out.rows > 0) SelectRows(upload_.view(), x, out, stream());
  }
  void RmsNorm(Tensor x, int heads, const float* gain, float eps, Tensor out) override {
    if (x.rows > 0) cuda::RmsNorm(x, heads, gain, eps, out, stream());
  }
  void Add(Tensor x, Tensor y, const float* bias) override {
    if (x.rows > 0) cuda::Add(x, y, bias, stream());
  }
  void AddBias(Tensor x, const float* bias) override {
    if (x.rows > 0) cuda::AddBias(x, bias, stream());
  }
  void MixExperts(Tensor x, Tensor scores, const std::vector<ExpertWeights>& experts,
                  const ExpertChoice& choice, Tensor out) override {
    Note(products_->MixExperts(x, scores, experts, choice, out));
  }
  void RopeStore(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool,
                 int layer) override;
  void Attend(Tensor q, KvPool& pool, int layer, float scale, int window, Tensor out) override;
  void RopeAttend(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool, int layer,
                  float scale, int window, Tensor out) override;
  void CopyBlock(KvPool& pool, int from, int to, int tokens) override;
  absl::Status BeginDraw(const std::vector<ShardDraw>& draws, int64_t width,
                         TokenId first) override;
  bool DrawIsDone() override { return !error_.ok() || draw_.IsDone(); }
  absl::StatusOr<std::vector<ShardResult>> TakeDraw() override;
  absl::Status Synchronize() override {
    Bind();
    Note(StatusOf(cudaStreamSynchronize(stream()), "a step"));
    return Error();
  }

 private:
  // The calling thread's device: each step may come from another thread.
  void Bind() const { (void)cudaSetDevice(options_.ordinal); }
  // The first error sticks.
  void Note(absl::Status status) {
    if (error_.ok() && !status.ok()) error_ = std::move(status);
  }
  absl::Status Error() {
    const cudaError_t last = cudaGetLastError();
    if (last != cudaSuccess) Note(StatusOf(last, NameOfFailedLaunch()));
    Note(products_->TakeError());
    return error_;
  }
  // Addresses that recorded steps hold may have changed.
  void ForgetGraphs() {
    if (upload_.TakeMoved() | draw_.TakeMoved() | products_->TakeMoved() |
        std::exchange(moved_, false)) {
      Note(graphs_.Clear(stream()));
    }
  }
  DType ActivationsOf(DType weights) const {
    if (options_.compute != CudaOptions::Compute::kAuto) {
      return options_.compute == CudaOptions::Compute::kF32 ? DType::kF32 : DType::kBF16;
    }
    if (options_.weights != CudaOptions::Weights::kAsStored) return DType::kBF16;
    return activations_.value_or(weights == DType::kF32 ? DType::kF32 : DType::kBF16);
  }
  bool f32() const { return ActivationsOf(DType::kBF16) == DType::kF32; }
  Stored kv_stored() const {
    if (f32()) return Stored::kF32;
    return options_.kv == CudaOptions::Kv::kFp8 ? Stored::kE4M3 : Stored::kBF16;
  }
  KvView Layer(KvPool& pool, int layer) const;
  // False where there is no room: it is noted.
  bool ArgsOf(Tensor q, KvPool& pool, int layer, float scale, int window, Tensor out,
              AttendArgs* args);
  void Attend(const AttendArgs& args);

  const CudaOptions options_;
  const int capability_;  // 90 is 9.0.
  const int multiprocessors_;
  const Stream stream_;
  absl::Status error_;
  std::optional<DType> activations_;  // With kAuto: what the first matrix decided.
  std::unique_ptr<Products> products_;
  WeightPacker packer_;
  Staging staging_;
  BatchUpload upload_;
  GraphCache graphs_;
  DrawCall draw_;
  Scratch parts_;
  int32_t scratch_block_ = 0;  // Of the pool that was allocated last.
  bool moved_ = false;
};

std::string Gpu::name() const {
  using Weights = CudaOptions::Weights;
  const char* numbers = f32()                                ? "f32"
                        : options_.weights == Weights::kFp8  ? "fp8"
                        : options_.weights == Weights::kInt4 ? "int4"
                                                             : "bf16";
  const char* kv = f32() ? "f32" : options_.kv == CudaOptions::Kv::kFp8 ? "fp8" : "bf16";
  // The library chooses its algorithms by its version and the card: prompt rows' bits hang on both.
  return fmt::format("cuda/sm_{}x{}/{}/kv-{}/lt{}", capability_, multiprocessors_, numbers, kv,
                     products_->LibraryVersion());
}

absl::StatusOr<std::unique_ptr<Buffer>> Gpu::Allocate(DType dtype, size_t count) {
  Bind();
  return MakeBuffer(count * BytesOf(dtype), "a step's rows", stream());
}

absl::StatusOr<std::unique_ptr<Buffer>> Gpu::Upload(std::span<const float> values) {
  Bind();
  ASSIGN_OR_RETURN(auto buffer, MakeBuffer(values.size_bytes(), "vectors", stream()));
  if (values.empty()) return buffer;
  RETURN_IF_ERROR(StatusOf(cudaMemcpyAsync(buffer->data(), values.data(), values.size_bytes(),
                                           cudaMemcpyHostToDevice, stream()),
                           "vectors"));
  RETURN_IF_ERROR(StatusOf(cudaStreamSynchronize(stream()), "vectors"));  // `values` may go.
  return buffer;
}

absl::Status Gpu::Download(Tensor from, float* to) {
  CHECK(from.dtype == DType::kF32);
  Bind();
  const bool dense = from.stride == from.cols;
  const int64_t copies = dense ? 1 : from.rows, width = dense ? from.rows * from.cols : from.cols;
  for (int64_t i = 0; width > 0 && i < copies; ++i) {
    const size_t bytes = static_cast<size_t>(width) * sizeof(float);
    Note(StatusOf(
        cudaMemcpyAsync(to + i * width, from.row(i), bytes, cudaMemcpyDeviceToHost, stream()),
        "a copy from the GPU"));
  }
  return Synchronize();
}

absl::StatusOr<std::unique_ptr<Weight>> Gpu::Pack(const std::vector<const RowSource*>& sources) {
  CHECK(!sources.empty());
  Bind();
  const DType dtype = sources[0]->dtype();
  if (!activations_) activations_ = ActivationsOf(dtype);
  if (!f32() && sources[0]->cols() % 8 != 0) {
    return Unimplemented("a matrix of width {}: bf16 needs multiples of 8; compute f32 does not",
                         sources[0]->cols());
  }
  using Weights = CudaOptions::Weights;
  // f16 has more digits than bf16 has: in f32 it stays exact.
  Stored stored = f32() && dtype != DType::kBF16 ? Stored::kF32 : Stored::kBF16;
  if (sources[0]->may_be_quantised() && options_.weights != Weights::kAsStored) {
    stored = options_.weights == Weights::kFp8 ? Stored::kE4M3 : Stored::kInt4;
  }
  return packer_.Pack(sources, stored, stream());
}

absl::StatusOr<KvPool> Gpu::AllocateKv(int layers, int num_blocks, int kv_heads, int head_width) {
  Bind();
  if (!f32() && (head_width % 16 != 0 || head_width > 256)) {
    return Unimplemented(
        "heads of {}: bf16 needs a multiple of 16, at most 256; compute f32 does not", head_width);
  }
  if (f32() && options_.kv == CudaOptions::Kv::kFp8) {
    return InvalidArgument("an fp8 KV cache needs bf16 activations; these are f32");
  }
  KvPool pool;
  pool.layers = layers, pool.num_blocks = num_blocks;
  pool.kv_heads = kv_heads, pool.head_width = head_width;
  scratch_block_ = num_blocks;  // One more than the sequences have: padded rows stand there.
  moved_ = true;
  const int64_t block = int64_t{kv_heads} * kKvBlock * head_width * BytesOfNumber(kv_stored());
  const auto bytes = static_cast<size_t>(layers * (int64_t{num_blocks} + 1) * block);
  ASSIGN_OR_RETURN(pool.keys, MakeBuffer(bytes, "keys of the KV cache", stream()));
  ASSIGN_OR_RETURN(pool.values, MakeBuffer(bytes, "values of the KV cache", stream()));
  return pool;
}

KvView Gpu::Layer(KvPool& pool, int layer) const {
  CHECK(pool.num_blocks == scratch_block_ && layer < pool.layers);
  KvView kv{nullptr, nullptr, kv_stored(), pool.kv_heads, pool.head_width};
  const int64_t at =
      layer * (int64_t{pool.num_blocks} + 1) * kv.block_stride() * BytesOfNumber(kv.stored);
  kv.keys = static_cast<char*>(pool.keys->data()) + at;
  kv.values = static_cast<char*>(pool.values->data()) + at;
  return kv;
}

BatchSize Gpu::Begin(const Batch& batch) {
  Bind();
  const BatchRules rules = {.pad = options_.graphs, .prompt_tiles = !f32()};
  Note(upload_.Begin(batch, rules, scratch_block_, draw_.drawn(), stream()));
  const BatchView& view = upload_.view();
  return {view.rows, view.prompt_rows, view.logits_rows};
}

absl::Status Gpu::Repeat(const std::function<absl::Status()>& operations) {
  RETURN_IF_ERROR(error_);
  ForgetGraphs();
  if (!options_.graphs || upload_.view().prompt_rows > 0 || upload_.view().rows == 0) {
    return operations();
  }
  const absl::Status status = graphs_.Repeat(upload_.key(), operations, stream());
  ForgetGraphs();
  return status;
}

void Gpu::RopeStore(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool, int layer) {
  if (q.rows == 0) return;
  cuda::RopeStore(upload_.view(), q, k, v, rope.cos, rope.sin, Layer(pool, layer), stream());
}

bool Gpu::ArgsOf(Tensor q, KvPool& pool, int layer, float scale, int window, Tensor out,
                 AttendArgs* args) {
  DecodeView plan;
  absl::Status status = upload_.PlanFor(window, stream(), &plan);
  args->batch = upload_.attend_view();
  args->q = q, args->out = out, args->kv = Layer(pool, layer);
  args->scale = scale, args->window = window;
  args->items = plan.items, args->item_rows = plan.item_rows;
  args->num_items = plan.num_items, args->max_pieces = plan.max_pieces;
  args->tiles = upload_.tiles(), args->num_tiles = upload_.num_tiles();
  const int produced = args->batch.rows - args->batch.prompt_rows;
  if (status.ok() && produced > 0) {
    const int heads = static_cast<int>(q.cols / pool.head_width);
    const int64_t floats = PartFloats(produced, heads, pool.head_width, plan.max_pieces);
    status = parts_.Reserve(static_cast<size_t>(floats) * sizeof(float), stream(), &moved_);
    args->parts = static_cast<float*>(parts_.data());
  }
  Note(status);
  return status.ok();
}

void Gpu::Attend(const AttendArgs& args) {
  if (args.batch.prompt_rows > 0) AttendPrefill(args, stream());
  AttendDecode(args, stream());
}

void Gpu::Attend(Tensor q, KvPool& pool, int layer, float scale, int window, Tensor out) {
  AttendArgs args;
  if (q.rows > 0 && ArgsOf(q, pool, layer, scale, window, out, &args)) Attend(args);
}

void Gpu::RopeAttend(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool, int layer,
                     float scale, int window, Tensor out) {
  AttendArgs args;
  if (q.rows == 0 || !ArgsOf(q, pool, layer, scale, window, out, &args)) return;
  const FewInputs few = {k, v, rope.cos, rope.sin};
  if (CanAttendFew(args, few)) return AttendFew(args, few, stream());
  RopeStore(q, k, v, rope, pool, layer);
  Attend(args);
}

void Gpu::CopyBlock(KvPool& pool, int from, int to, int tokens) {
  Bind();
  if (tokens == 0) return;
  const KvView first = Layer(pool, 0);
  const int64_t layer_stride = (int64_t{pool.num_blocks} + 1) * first.block_stride();
  cuda::CopyBlock(first, pool.layers, layer_stride, {from, to, tokens}, stream());
}

absl::Status Gpu::BeginDraw(const std::vector<ShardDraw>& draws, int64_t width, TokenId first) {
  Bind();
  RETURN_IF_ERROR(error_);
  Note(draw_.Begin(draws, width, first, stream()));
  return Error();
}

absl::StatusOr<std::vector<ShardResult>> Gpu::TakeDraw() {
  Bind();
  RETURN_IF_ERROR(error_);
  auto results = draw_.Take();
  if (!results.ok()) Note(results.status());
  RETURN_IF_ERROR(Error());
  return results;
}

// Whether the module was compiled for this GPU: a kernel tells.
absl::Status TryAKernel(const cudaDeviceProp& properties, cudaStream_t stream) {
  ASSIGN_OR_RETURN(const DeviceMemory memory, AllocateDevice(sizeof(float), "a first kernel"));
  FillRows(Tensor::Dense(memory.get(), DType::kF32, 1, 1), 0, 0, stream);
  failed_launch = {};
  const cudaError_t launched = cudaGetLastError();
  if (launched == cudaErrorNoKernelImageForDevice) {
    return FailedPrecondition(
        "{} has compute capability {}.{}, and this build has no kernels for it: add {}{}-real to "
        "CONCLAVE_CUDA_ARCHITECTURES and build again",
        properties.name, properties.major, properties.minor, properties.major, properties.minor);
  }
  RETURN_IF_ERROR(StatusOf(launched, "a first kernel"));
  return StatusOf(cudaStreamSynchronize(stream), "a first kernel");
}

}  // namespace

absl::StatusOr<std::unique_ptr<CudaDevice>> MakeCudaDevice(const CudaOptions& options) {
  if (options.weights != CudaOptions::Weights::kAsStored &&
      options.compute == CudaOptions::Compute::kF32) {
    return InvalidArgument("fp8 and int4 weights need bf16 activations; compute is f32");
  }
  RETURN_IF_ERROR(StatusOf(cudaSetDevice(options.ordinal), "choosing the GPU"));
  cudaDeviceProp properties;
  RETURN_IF_ERROR(
      StatusOf(cudaGetDeviceProperties(&properties, options.ordinal), "looking at the GPU"));
  if (properties.major < 8) {
    return FailedPrecondition("{} has compute capability {}.{}; bf16 tensor cores need 8.0",
                              properties.name, properties.major, properties.minor);
  }
  cudaStream_t made = nullptr;
  RETURN_IF_ERROR(
      StatusOf(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream"));
  Stream stream(made);
  RETURN_IF_ERROR(TryAKernel(properties, made));
  ASSIGN_OR_RETURN(auto products, Products::Make(made));
  return std::make_unique<Gpu>(options, properties, std::move(stream), std::move(products));
}

}  // namespace conclave::worker::cuda
