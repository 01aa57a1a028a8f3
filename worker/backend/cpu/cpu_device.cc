#include "worker/backend/cpu/cpu_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/cpu/expert_mixer.h"
#include "worker/backend/cpu/kernels.h"
#include "worker/backend/cpu/thread_pool.h"
#include "worker/backend/number.h"
#include "worker/backend/random.h"

namespace conclave::worker {
namespace {

// Anonymous memory, in huge pages where the machine has them.
class CpuBuffer : public Buffer {
 public:
  static absl::StatusOr<std::unique_ptr<CpuBuffer>> Make(size_t bytes) {
    bytes = std::max<size_t>(bytes, 64);
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return ResourceExhausted("no memory for {} bytes", bytes);
    madvise(p, bytes, MADV_HUGEPAGE);
    return std::unique_ptr<CpuBuffer>(new CpuBuffer(p, bytes));
  }
  ~CpuBuffer() override { munmap(data_, bytes_); }
  void* data() override { return data_; }

 private:
  CpuBuffer(void* data, size_t bytes) : data_(data), bytes_(bytes) {}
  void* data_;
  size_t bytes_;
};

struct CpuWeight : public Weight {
  std::unique_ptr<CpuBuffer> memory;
  PackedPanels panels;

  int64_t in() const override { return panels.in; }
  int64_t out() const override { return panels.out; }
  int64_t num_panels() const { return (panels.out + kPanel - 1) / kPanel; }
  float At(int64_t out, int64_t in) const {
    const int64_t at = (out / kPanel * panels.in + in) * kPanel + out % kPanel;
    if (panels.stored == Stored::kF32) return static_cast<const float*>(panels.data)[at];
    const uint16_t half = static_cast<const uint16_t*>(panels.data)[at];
    return panels.stored == Stored::kBF16 ? FromBf16(half) : FromF16(half);
  }
};

Stored StoredAs(DType dtype) {
  return dtype == DType::kBF16 ? Stored::kBF16 : dtype == DType::kF16 ? Stored::kF16 : Stored::kF32;
}

template <typename Number>
void PackRows(const std::vector<const RowSource*>& sources, Number* panels) {
  int64_t out = 0;
  for (const RowSource* source : sources) {
    std::vector<Number> row(source->cols());
    for (int64_t i = 0; i < source->rows(); ++i, ++out) {
      source->Read(i, row.data());
      Number* to = panels + out / kPanel * source->cols() * kPanel + out % kPanel;
      for (int64_t k = 0; k < source->cols(); ++k) to[k * kPanel] = row[k];
    }
  }
}

// Where a row stands: its block table and position.
struct RowPlace {
  const int32_t* blocks = nullptr;
  int32_t position = 0;
};

class CpuDevice : public Device {
 public:
  CpuDevice(const Kernels& kernels, int threads) : kernels_(kernels), pool_(threads) {}

  std::string name() const override { return fmt::format("cpu/{}/f32/kv-f32", kernels_.name); }

  // One order of summation serves all rows.
  bool kinds_differ() const override { return false; }
  DType ActivationType(DType) const override { return DType::kF32; }
  bool feeds_draws() const override { return false; }

  absl::StatusOr<std::unique_ptr<Buffer>> Allocate(DType dtype, size_t count) override {
    return CpuBuffer::Make(count * BytesOf(dtype));
  }
  absl::StatusOr<std::unique_ptr<Buffer>> Upload(std::span<const float> values) override {
    ASSIGN_OR_RETURN(auto buffer, CpuBuffer::Make(values.size_bytes()));
    std::copy(values.begin(), values.end(), buffer->floats());
    return buffer;
  }
  absl::Status Download(Tensor from, float* to) override {
    for (int64_t n = 0; n < from.rows; ++n) std::copy_n(from.row(n), from.cols, to + n * from.cols);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Weight>> Pack(
      const std::vector<const RowSource*>& sources) override {
    CHECK(!sources.empty());
    const DType dtype = sources[0]->dtype();
    const int64_t in = sources[0]->cols();
    int64_t out = 0;
    for (const RowSource* source : sources) {
      CHECK(source->dtype() == dtype && source->cols() == in);
      out += source->rows();
    }
    auto weight = std::make_unique<CpuWeight>();
    weight->panels = {nullptr, StoredAs(dtype), in, out};
    const size_t elements = static_cast<size_t>(weight->num_panels() * in * kPanel);
    ASSIGN_OR_RETURN(weight->memory, CpuBuffer::Make(elements * BytesOf(dtype)));
    weight->panels.data = weight->memory->data();
    if (weight->panels.stored == Stored::kF32) {
      PackRows<float>(sources, weight->memory->floats());
    } else {
      PackRows<uint16_t>(sources, static_cast<uint16_t*>(weight->memory->data()));
    }
    return weight;
  }

  absl::StatusOr<KvPool> AllocateKv(int layers, int num_blocks, int kv_heads,
                                    int head_width) override {
    if (head_width > 512) return Unimplemented("heads of {} are wider than 512", head_width);
    KvPool pool;
    pool.layers = layers, pool.num_blocks = num_blocks;
    pool.kv_heads = kv_heads, pool.head_width = head_width;
    const KvLayer shape = Layer(pool, 0);
    const size_t blocks = static_cast<size_t>(layers) * num_blocks;
    ASSIGN_OR_RETURN(pool.keys, Allocate(DType::kF32, blocks * shape.key_block()));
    ASSIGN_OR_RETURN(pool.values, Allocate(DType::kF32, blocks * shape.value_block()));
    return pool;
  }

  int64_t Padded(int64_t rows) const override { return rows; }
  BatchSize Begin(const Batch& batch) override {
    tokens_ = batch.tokens;
    logits_rows_ = batch.logits_rows;
    places_.clear();
    for (const Run& run : batch.runs) {
      for (int32_t i = 0; i < run.rows; ++i) places_.push_back({run.blocks, run.position + i});
    }
    CHECK(places_.size() == tokens_.size());
    return {static_cast<int64_t>(tokens_.size()), batch.prompt_rows,
            static_cast<int64_t>(logits_rows_.size())};
  }

  absl::Status Repeat(const std::function<absl::Status()>& operations) override {
    return operations();
  }

  void Linear(Tensor x, int64_t, const Weight& weight, bool add, Tensor out) override {
    if (!add) return Multiply(x, static_cast<const CpuWeight&>(weight), out);
    const Tensor product = Scratch(x.rows, out.cols);
    Multiply(x, static_cast<const CpuWeight&>(weight), product);
    Add(out, product, nullptr);
  }

  void GateUp(Tensor x, int64_t, const Weight& weight, const float* bias, Tensor out) override {
    CHECK(weight.out() == 2 * out.cols);
    const Tensor both = Scratch(x.rows, weight.out());
    Multiply(x, static_cast<const CpuWeight&>(weight), both);
    if (bias != nullptr) AddBias(both, bias);
    pool_.Run(x.rows, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        kernels_.silu_mul(both.row(n), both.row(n) + out.cols, out.cols, out.row(n));
      }
    });
  }

  void Embed(TokenId first, const Weight& table, Tensor out) override {
    const auto& w = static_cast<const CpuWeight&>(table);
    for (size_t n = 0; n < tokens_.size(); ++n) {
      const int64_t row = tokens_[n] - first;
      const bool mine = row >= 0 && row < w.out();
      for (int64_t i = 0; i < out.cols; ++i) out.row(n)[i] = mine ? w.At(row, i) : 0.0f;
    }
  }

  void SelectLogitsRows(Tensor x, Tensor out) override {
    for (size_t i = 0; i < logits_rows_.size(); ++i) {
      std::copy_n(x.row(logits_rows_[i]), x.cols, out.row(static_cast<int64_t>(i)));
    }
  }

  void RmsNorm(Tensor x, int heads, const float* gain, float eps, Tensor out) override {
    const int64_t width = x.cols / heads;
    pool_.Run(x.rows * heads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t n = i / heads, at = i % heads * width;
        kernels_.rms_norm(x.row(n) + at, gain, eps, width, out.row(n) + at);
      }
    });
  }

  void Add(Tensor x, Tensor y, const float* bias) override {
    for (int64_t n = 0; n < x.rows; ++n) {
      for (int64_t i = 0; i < x.cols; ++i)
        x.row(n)[i] += bias ? y.row(n)[i] + bias[i] : y.row(n)[i];
    }
  }

  void AddBias(Tensor x, const float* bias) override {
    for (int64_t n = 0; n < x.rows; ++n) {
      for (int64_t i = 0; i < x.cols; ++i) x.row(n)[i] += bias[i];
    }
  }

  void MixExperts(Tensor x, Tensor scores, const std::vector<ExpertWeights>& experts,
                  const ExpertChoice& choice, Tensor out) override {
    mixer_.Mix(*this, kernels_, x, scores, experts, choice, out);
  }

  void RopeStore(Tensor q, Tensor k, Tensor v, const RopeTable& rope, KvPool& pool,
                 int layer) override {
    const KvLayer kv = Layer(pool, layer);
    const int half = kv.head_width / 2;
    for (size_t n = 0; n < places_.size(); ++n) {
      const RowPlace& place = places_[n];
      const float* cos = rope.cos + int64_t{place.position} * half;
      const float* sin = rope.sin + int64_t{place.position} * half;
      Rotate(q.row(n), q.cols / kv.head_width, half, cos, sin);
      Rotate(k.row(n), kv.kv_heads, half, cos, sin);
      const int64_t block = place.blocks[place.position / kKvBlock];
      const int slot = place.position % kKvBlock;
      for (int h = 0; h < kv.kv_heads; ++h) {
        float* keys =
            kv.keys + block * kv.key_block() + int64_t{h} * kv.head_width * kKvBlock + slot;
        float* values =
            kv.values + block * kv.value_block() + (int64_t{h} * kKvBlock + slot) * kv.padded_width;
        for (int e = 0; e < kv.head_width; ++e) {
          keys[e * kKvBlock] = k.row(n)[h * kv.head_width + e];
          values[e] = v.row(n)[h * kv.head_width + e];
        }
      }
    }
  }

  void Attend(Tensor q, KvPool& pool, int layer, float scale, int window, Tensor out) override {
    const KvLayer kv = Layer(pool, layer);
    const int heads = static_cast<int>(q.cols / kv.head_width / kv.kv_heads);
    const int64_t items = static_cast<int64_t>(places_.size()) * kv.kv_heads;
    pool_.Run(items, [&](int64_t begin, int64_t end) {
      for (int64_t item = begin; item < end; ++item) {
        const int64_t n = item / kv.kv_heads;
        const int h = static_cast<int>(item % kv.kv_heads);
        const RowPlace& place = places_[n];
        const int32_t first = window > 0 ? std::max(0, place.position - window + 1) : 0;
        const int64_t offset = int64_t{h} * heads * kv.head_width;
        const AttendRow row{q.row(n) + offset, out.row(n) + offset, place.blocks, first,
                            place.position};
        kernels_.attend(kv, row, h, heads, scale);
      }
    });
  }

  void CopyBlock(KvPool& pool, int from, int to, int tokens) override {
    for (int l = 0; l < pool.layers; ++l) {
      const KvLayer kv = Layer(pool, l);
      for (int64_t row = 0; row < int64_t{kv.kv_heads} * kv.head_width; ++row) {
        std::copy_n(kv.keys + from * kv.key_block() + row * kKvBlock, tokens,
                    kv.keys + to * kv.key_block() + row * kKvBlock);
      }
      for (int64_t h = 0; h < kv.kv_heads; ++h) {
        const int64_t head = h * kKvBlock * kv.padded_width;
        std::copy_n(kv.values + from * kv.value_block() + head, tokens * kv.padded_width,
                    kv.values + to * kv.value_block() + head);
      }
    }
  }

  absl::Status BeginDraw(const std::vector<ShardDraw>& draws, int64_t width,
                         TokenId first) override {
    std::vector<ShardResult>& results = drawn_.emplace_back();
    for (const ShardDraw& draw : draws) results.push_back(DrawOne(draw, width, first));
    return absl::OkStatus();
  }
  bool DrawIsDone() override { return true; }
  absl::StatusOr<std::vector<ShardResult>> TakeDraw() override {
    CHECK(!drawn_.empty());
    std::vector<ShardResult> results = std::move(drawn_.front());
    drawn_.pop_front();
    return results;
  }

  absl::Status Synchronize() override { return absl::OkStatus(); }

 private:
  ShardResult DrawOne(const ShardDraw& draw, int64_t width, TokenId first) const;

  void Multiply(Tensor x, const CpuWeight& w, Tensor out) {
    CHECK(x.cols == w.in() && out.cols == w.out() && x.rows == out.rows);
    pool_.Run(w.num_panels(), [&](int64_t begin, int64_t end) {
      kernels_.linear(x.row(0), x.stride, x.rows, w.panels, begin, end, out.row(0), out.stride);
    });
  }

  // Until the next call. Grows to the greatest step.
  Tensor Scratch(int64_t rows, int64_t cols) {
    const size_t size = static_cast<size_t>(rows * cols);
    if (scratch_.size() < size) scratch_.resize(size);
    return Tensor::Dense(scratch_.data(), rows, cols);
  }

  static void Rotate(float* x, int64_t heads, int half, const float* cos, const float* sin) {
    for (int64_t h = 0; h < heads; ++h, x += 2 * half) {
      for (int j = 0; j < half; ++j) {
        const float a = x[j], b = x[j + half];
        x[j] = a * cos[j] - b * sin[j];
        x[j + half] = b * cos[j] + a * sin[j];
      }
    }
  }

  static KvLayer Layer(KvPool& pool, int layer) {
    KvLayer kv;
    kv.kv_heads = pool.kv_heads, kv.head_width = pool.head_width;
    kv.padded_width = (pool.head_width + kPanel - 1) / kPanel * kPanel;
    if (pool.keys) {
      kv.keys = pool.keys->floats() + int64_t{layer} * pool.num_blocks * kv.key_block();
      kv.values = pool.values->floats() + int64_t{layer} * pool.num_blocks * kv.value_block();
    }
    return kv;
  }

  const Kernels& kernels_;
  ThreadPool pool_;
  ExpertMixer mixer_;
  std::vector<float> scratch_;
  std::deque<std::vector<ShardResult>> drawn_;  // Not taken yet.
  // The rows that Begin() gave.
  std::vector<TokenId> tokens_;
  std::vector<RowPlace> places_;
  std::vector<int32_t> logits_rows_;
};

bool Precedes(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

void FindTop(const float* logits, int64_t width, TokenId first, ShardResult& result) {
  std::vector<int32_t> order(static_cast<size_t>(width));
  std::iota(order.begin(), order.end(), 0);
  const auto top = order.begin() + std::min<int64_t>(kConfidenceTokens, width);
  std::partial_sort(order.begin(), top, order.end(), [logits](int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  });
  for (auto at = order.begin(); at != top; ++at) {
    result.top_raw.push_back(logits[*at]);
    result.top_ids.push_back(first + *at);
  }
}

constexpr Candidate kNone = {-std::numeric_limits<float>::infinity(), 0, -1};

Candidate Best(const std::vector<Candidate>& all) {
  Candidate best = kNone;
  for (const Candidate& each : all) {
    if (best.id < 0 || Precedes(each, best)) best = each;
  }
  return best;
}

// The candidate whose value with its noise is the greatest. `all`: not empty, in order of ids;
// v[i]: what the noise of all[i] is made of. Two logarithms each are dear: candidates that cannot
// reach the one that is likeliest without noise are passed over by a bound.
Candidate BestWithNoise(const std::vector<Candidate>& all, const std::vector<float>& v) {
  const Candidate likeliest = Best(all);
  const float least = likeliest.value + NoiseOf(v[likeliest.id - all.front().id]);
  Candidate best = kNone;
  for (size_t i = 0; i < all.size(); ++i) {
    Candidate each = all[i];
    if (best.id >= 0 && each.value + NoiseBound(v[i]) < least) continue;
    each.value += NoiseOf(v[i]);
    if (best.id < 0 || Precedes(each, best)) best = each;
  }
  return best;
}

ShardResult CpuDevice::DrawOne(const ShardDraw& draw, int64_t width, TokenId first) const {
  ShardResult result;
  kernels_.log_sum_exp(draw.logits, width, &result.max, &result.sum);
  FindTop(draw.logits, width, first, result);

  std::vector<Candidate> all(width);
  for (int64_t i = 0; i < width; ++i) {
    all[i] = {draw.logits[i], draw.logits[i], first + static_cast<TokenId>(i)};
  }
  for (const Adjustment& adjustment : draw.adjust) {
    const int64_t i = adjustment.id - first;
    if (i >= 0 && i < width) all[i].value = adjustment.Of(all[i].value);
  }
  const bool greedy = draw.temperature == 0;
  if (!greedy) {
    for (Candidate& each : all) each.value /= draw.temperature;
  }
  if (draw.keep > 0) {
    const size_t keep = std::min<size_t>(draw.keep, all.size());
    std::partial_sort(all.begin(), all.begin() + keep, all.end(), Precedes);
    all.resize(keep);
    result.kept = std::move(all);
    return result;
  }
  if (greedy || all.empty()) {
    result.best = Best(all);
  } else {
    std::vector<float> v(all.size());
    kernels_.noise_uniforms(draw.seed, draw.agent, draw.index, static_cast<uint32_t>(first), width,
                            v.data());
    result.best = BestWithNoise(all, v);
  }
  return result;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const std::string& instruction_set,
                                                      int threads) {
  if (threads < 1 || threads > 256)
    return InvalidArgument("threads is {}; it can be 1 to 256", threads);
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  if (instruction_set != "auto" && instruction_set != "avx512" && instruction_set != "avx2" &&
      instruction_set != "plain") {
    return InvalidArgument("instruction set '{}' is unknown; it can be auto, avx512, avx2 or plain",
                           instruction_set);
  }
  if ((instruction_set == "avx512" && !avx512) || (instruction_set == "avx2" && !avx2)) {
    return FailedPrecondition("this machine has no {}", instruction_set);
  }
  const Kernels& kernels = instruction_set == "plain" ? PlainKernels()
                           : instruction_set == "avx2" || !avx512
                               ? (avx2 ? Avx2Kernels() : PlainKernels())
                               : Avx512Kernels();
  return std::make_unique<CpuDevice>(kernels, threads);
}

}  // namespace conclave::worker
