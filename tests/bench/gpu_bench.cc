// Measures the engine on a GPU and prints each figure beside the most that it could be, measured on
// the same card in the same run, and beside a peer's.
//
//   gpu_bench [--models 1B,8B,8B-fp8] [--rows decode,shared,contemplate,prefill] [--folder DIR]
//             [--peer FILE] [--quick]
//
//   --folder  where the models of random weights are written, and stay (16 GB for 8B); a peer that
//             reads Hugging Face checkpoints can be run on the same ones
//   --peer    figures of the peer, as tests/bench/torch_peer.py prints them: one "KEY SECONDS" a
//   line
//   --quick   a tiny model: to see that it runs
//
// Times are of the engine with two plans in flight, by its sink: scheduling, sampling and
// everything else is in them.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/bench/engine_bench.h"
#include "tests/bench/gpu_ceilings.h"
#include "tests/bench/random_model.h"
#include "tests/bench/table.h"
#include "worker/backend/cuda/cuda_device.h"

namespace conclave::bench {
namespace {

struct Options {
  std::vector<std::string> models = {"1B", "8B", "8B-fp8"};
  std::vector<std::string> rows = {"decode", "shared", "contemplate", "prefill"};
  std::string folder = "/dev/shm/conclave-gpu-bench";
  std::string peer;
  bool quick = false;
};

// One model as it is measured.
struct Subject {
  std::string name;   // "8B-fp8"
  std::string shape;  // "8B": the folder's name, and the peer's.
  worker::ModelConfig config;
  worker::CudaOptions cuda;

  double bytes() const {  // Read by a step of one row, but for its KV.
    const Work work = WorkOf(config);
    if (cuda.weights == worker::CudaOptions::Weights::kAsStored) return work.weight_bytes;
    const double head = 2.0 * config.hidden * config.vocab;
    const double body = work.weight_bytes - head;
    return head + body / (cuda.weights == worker::CudaOptions::Weights::kFp8 ? 2 : 4);
  }
  double kv_bytes(double context) const {
    const double width = cuda.kv == worker::CudaOptions::Kv::kFp8 ? 1 : 2;
    return context * 2 * width * config.layers * config.kv_heads * config.head_width;
  }
};

absl::StatusOr<Subject> SubjectOf(const std::string& name, bool quick) {
  Subject subject;
  subject.name = name;
  subject.shape = name.substr(0, name.find('-'));
  const std::string format = name.substr(std::min(name.size(), subject.shape.size() + 1));
  if (subject.shape == "1B") {
    subject.config = Llama1B();
  } else if (subject.shape == "8B") {
    subject.config = Llama8B();
  } else {
    return InvalidArgument("model {} is unknown; it can be 1B or 8B, with -fp8, -int4 or -kv8",
                           name);
  }
  if (quick) subject.config.layers = 2, subject.config.vocab = 4096;
  if (format == "fp8") subject.cuda.weights = worker::CudaOptions::Weights::kFp8;
  if (format == "int4") subject.cuda.weights = worker::CudaOptions::Weights::kInt4;
  if (format == "kv8") subject.cuda.kv = worker::CudaOptions::Kv::kFp8;
  return subject;
}

class Bench {
 public:
  Bench(GpuCeilings gpu, std::map<std::string, double> peer, const Options& options)
      : gpu_(std::move(gpu)), peer_(std::move(peer)), rows_(options.rows), quick_(options.quick) {}

  absl::Status Measure(const Subject& subject, const std::string& dir);
  void PrintRatios() const {
    if (!ratios_.empty()) std::printf("against the peer on the same card:\n%s", ratios_.c_str());
  }

 private:
  // Seconds of one decode step, the shortest of a few tries; a shared prompt is computed once.
  absl::StatusOr<double> Step(Gang gang);
  absl::StatusOr<double> Whole(Gang gang);
  absl::Status DecodeRow(const Subject& subject);
  absl::Status SharedRows(const Subject& subject);
  absl::Status ContemplatingRow(const Subject& subject);
  absl::Status PrefillRow(const Subject& subject);
  void Compare(const std::string& key, double seconds);

  const GpuCeilings gpu_;
  const std::map<std::string, double> peer_;
  const std::vector<std::string> rows_;
  const bool quick_;
  const worker::EngineOptions engine_{.max_batched_tokens = 4096, .plans_in_flight = 2};
  std::unique_ptr<SharedGroup> group_;
  std::string ratios_;
};

void Bench::Compare(const std::string& key, double seconds) {
  const auto found = peer_.find(key);
  if (found == peer_.end()) return;
  ratios_ += fmt::format("  {}: {:.2f} ms, the peer {:.2f} ms: {:.1f} times as fast\n", key,
                         seconds * 1e3, found->second * 1e3, found->second / seconds);
}

absl::StatusOr<double> Bench::Step(Gang gang) {
  double shortest = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 3; ++round) {
    ASSIGN_OR_RETURN(const Timing timing, RunEngine(*group_, engine_, gang));
    shortest = std::min(shortest, timing.rest / (gang.tokens - 1));
  }
  return shortest;
}

absl::StatusOr<double> Bench::Whole(Gang gang) {
  double shortest = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 3; ++round) {
    gang.seed += 1000;  // A prompt that no cache has seen.
    ASSIGN_OR_RETURN(const Timing timing, RunEngine(*group_, engine_, gang));
    shortest = std::min(shortest, timing.first + timing.rest);
  }
  return shortest;
}

absl::Status Bench::DecodeRow(const Subject& subject) {
  const Gang gang{.agents = 1, .prompt = 32, .tokens = quick_ ? 8 : 128, .seed = 5};
  ASSIGN_OR_RETURN(const double seconds, Step(gang));
  const double bytes = subject.bytes() + subject.kv_bytes(gang.prompt + gang.tokens / 2.0);
  Print({.what = fmt::format("decode, {}, batch 1", subject.name),
         .achieved = bytes / seconds / 1e9,
         .ceiling = gpu_.copy_gb,
         .unit = "GB/s",
         .bound = "device-to-device copy"});
  std::printf("    one step: %.3f ms, %.0f tokens/s\n", seconds * 1e3, 1 / seconds);
  Compare(subject.shape + "-decode-1", seconds);
  return absl::OkStatus();
}

absl::Status Bench::SharedRows(const Subject& subject) {
  Gang gang{.agents = 1, .prompt = quick_ ? 256 : 8192, .tokens = quick_ ? 8 : 64, .seed = 6};
  ASSIGN_OR_RETURN(const double one, Step(gang));
  for (const int agents : {8, 16}) {
    gang.agents = agents;
    ASSIGN_OR_RETURN(const double seconds, Step(gang));
    Print({.what = fmt::format("decode, {}, {} agents over one {}k prompt", subject.name, agents,
                               gang.prompt / 1024),
           .achieved = seconds * 1e3,
           .ceiling = one * 1e3,
           .unit = "ms/step",
           .bound = "one agent's step over that prompt",
           .less_is_better = true});
    std::printf("    over one agent's step: %.3f (goal %.2f); %.0f tokens/s\n", seconds / one,
                agents == 8 ? 1.25 : 1.5, agents / seconds);
    Compare(fmt::format("{}-shared-{}", subject.shape, agents), seconds);
  }
  return absl::OkStatus();
}

absl::Status Bench::ContemplatingRow(const Subject& subject) {
  Gang gang{.agents = 1, .prompt = 512, .tokens = quick_ ? 8 : 256, .seed = 8};
  ASSIGN_OR_RETURN(const double one, Whole(gang));
  gang.agents = 8;
  ASSIGN_OR_RETURN(const double eight, Whole(gang));
  Print({.what = fmt::format("contemplate, {}, 8 agents of {} tokens", subject.name, gang.tokens),
         .achieved = eight * 1e3,
         .ceiling = one * 1e3,
         .unit = "ms",
         .bound = "one agent of that length",
         .less_is_better = true});
  std::printf("    over one agent: %.3f (goal 1.30)\n", eight / one);
  return absl::OkStatus();
}

absl::Status Bench::PrefillRow(const Subject& subject) {
  Gang gang{.agents = 1, .prompt = quick_ ? 256 : 4096, .tokens = 1, .seed = 9};
  double seconds = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 5; ++round) {
    gang.seed += 1000;
    ASSIGN_OR_RETURN(const Timing timing, RunEngine(*group_, engine_, gang));
    seconds = std::min(seconds, timing.first);
  }
  const Work work = WorkOf(subject.config);
  const double flops =
      gang.prompt * (work.row_flops + gang.prompt / 2.0 * work.attended_flops) + work.sample_flops;
  Print({.what = fmt::format("prefill, {}, {} tokens", subject.name, gang.prompt),
         .achieved = flops / seconds / 1e12,
         .ceiling = gpu_.matrix_tflops,
         .unit = "TFLOP/s",
         .bound = "bf16 product, 8192 cubed"});
  std::printf("    %.1f ms, %.0f tokens/s\n", seconds * 1e3, gang.prompt / seconds);
  Compare(subject.shape + "-prefill-4096", seconds);
  return absl::OkStatus();
}

absl::Status Bench::Measure(const Subject& subject, const std::string& dir) {
  worker::LocalRunnerOptions options;
  options.model_dir = dir;
  options.max_slots = 16;
  options.max_rows = engine_.max_batched_tokens;
  options.max_positions = 16'384;
  options.kv_tokens = 131'072;
  options.make_device = [&](int) -> absl::StatusOr<std::unique_ptr<worker::Device>> {
    return worker::cuda::MakeCudaDevice(subject.cuda);
  };
  ASSIGN_OR_RETURN(auto ranks, worker::ThreadRanks::Create(options));
  group_ = std::make_unique<SharedGroup>(std::move(ranks));
  const auto wanted = [&](const char* row) {
    return std::find(rows_.begin(), rows_.end(), row) != rows_.end();
  };
  if (wanted("decode")) RETURN_IF_ERROR(DecodeRow(subject));
  if (wanted("shared")) RETURN_IF_ERROR(SharedRows(subject));
  if (wanted("contemplate")) RETURN_IF_ERROR(ContemplatingRow(subject));
  if (wanted("prefill")) RETURN_IF_ERROR(PrefillRow(subject));
  group_.reset();
  return absl::OkStatus();
}

std::map<std::string, double> ReadPeer(const std::string& file) {
  std::map<std::string, double> figures;
  std::ifstream in(file);
  std::string key;
  for (double seconds = 0; in >> key >> seconds;) figures[key] = seconds;
  return figures;
}

absl::Status Run(const Options& options) {
  ASSIGN_OR_RETURN(GpuCeilings gpu, MeasureGpuCeilings());
  std::printf("%s: copies %.0f GB/s, bf16 products %.0f TFLOP/s\n", gpu.name.c_str(), gpu.copy_gb,
              gpu.matrix_tflops);
  PrintHead();
  Bench bench(std::move(gpu), ReadPeer(options.peer), options);
  for (const std::string& name : options.models) {
    ASSIGN_OR_RETURN(const Subject subject, SubjectOf(name, options.quick));
    const std::filesystem::path dir = options.folder + "/" + subject.shape;
    std::error_code error;
    std::filesystem::create_directories(dir, error);
    if (!std::filesystem::exists(dir / "model.safetensors")) {
      RETURN_IF_ERROR(WriteRandomModel(subject.config, dir));
    }
    RETURN_IF_ERROR(bench.Measure(subject, dir));
  }
  bench.PrintRatios();
  return absl::OkStatus();
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) {
  conclave::bench::Options options;
  CLI::App app{"Measures the engine on a GPU.", "gpu_bench"};
  app.add_option("--models", options.models, "1B, 8B; with -fp8, -int4 or -kv8")->delimiter(',');
  app.add_option("--rows", options.rows, "decode, shared, contemplate, prefill")->delimiter(',');
  app.add_option("--folder", options.folder, "Where the models are written, and stay");
  app.add_option("--peer", options.peer, "A peer's figures: one \"KEY SECONDS\" a line");
  app.add_flag("--quick", options.quick, "Tiny models");
  CLI11_PARSE(app, argc, argv);
  try {
    const absl::Status status = conclave::bench::Run(options);
    if (status.ok()) return 0;
    std::fprintf(stderr, "gpu_bench: %s\n", status.ToString().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
  }
  return 1;
}
