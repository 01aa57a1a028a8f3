// Measures the engine on this machine and prints each figure beside the most that it could be,
// measured in the same run. What is measured here and its ceiling are each the best of several
// tries, taken in turn, so that a busy machine disturbs them alike; of a served request, medians.
//
//   conclave_bench [--quick]     --quick: tiny sizes, to see that it runs; the figures mean
//   nothing.
//
// Models: the one that ships (a million parameters: what counts is what each step costs beside its
// arithmetic, so its ceiling is the same plans run by the ranks alone), and a Llama of 135 million
// random weights (whose ceilings are the machine's: weights are read once a step, and every row
// takes two operations for each weight).

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/bench/ceilings.h"
#include "tests/bench/engine_bench.h"
#include "tests/bench/random_model.h"
#include "tests/bench/serving_bench.h"
#include "tests/bench/table.h"
#include "tests/integration/program.h"

namespace conclave::bench {
namespace {

constexpr int kWidths[] = {1, 8, 16};

struct Sizes {
  int megabytes = 512;
  int rounds = 15, large_rounds = 4;
  int demo_tokens = 120, large_tokens = 24;
  worker::ModelConfig large = Llama135M();
  int prompt = 512;
  int requests = 15, thinking = 120;
  int thought = 800;  // Tokens of agents that are asked for their answers so far.

  static Sizes Quick() {
    Sizes sizes;
    sizes.megabytes = 4, sizes.rounds = sizes.large_rounds = 1, sizes.demo_tokens = 6,
    sizes.large_tokens = 4;
    sizes.large.layers = 1, sizes.large.vocab = 256;
    sizes.prompt = 40, sizes.requests = 1, sizes.thinking = 4;
    sizes.thought = 66;
    return sizes;
  }
};

absl::StatusOr<std::unique_ptr<SharedGroup>> Load(const std::string& dir, int tp, int threads) {
  worker::LocalRunnerOptions options;
  options.model_dir = dir;
  options.tp = tp;
  options.max_slots = 16;
  options.kv_tokens = 16 * 512;
  ASSIGN_OR_RETURN(auto ranks, worker::ThreadRanks::Create(options, threads));
  return std::make_unique<SharedGroup>(std::move(ranks));
}

// The shortest time of `rounds` measurements.
template <typename Once>
absl::StatusOr<double> ShortestOf(int rounds, const Once& once) {
  double shortest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < rounds; ++i) {
    ASSIGN_OR_RETURN(const double seconds, once(i));
    shortest = std::min(shortest, seconds);
  }
  return shortest;
}

// Decoding of the model that ships, with one plan in flight and with two. What the second gains.
absl::StatusOr<std::string> DemoRows(const std::string& dir, int tp, const Sizes& sizes) {
  ASSIGN_OR_RETURN(const auto group, Load(dir, tp, 1));
  std::string gains;
  for (const int agents : kWidths) {
    double ranks = 0;
    std::map<int, double> rates;                          // By plans in flight.
    for (int round = 0; round < sizes.rounds; ++round) {  // In turn: noise meets all alike.
      const Gang gang{.agents = agents,
                      .tokens = sizes.demo_tokens,
                      .seed = static_cast<uint64_t>(agents * 100 + round)};
      ASSIGN_OR_RETURN(const Timing alone, RunRanks(*group, gang));
      ranks = std::max(ranks, DecodeRate(gang, alone));
      for (const int plans : {1, 2}) {
        ASSIGN_OR_RETURN(const Timing timing, RunEngine(*group, plans, gang));
        rates[plans] = std::max(rates[plans], DecodeRate(gang, timing));
      }
    }
    for (const auto& [plans, rate] : rates) {
      Print({.what =
                 fmt::format("decode, demo, {} ranks, {} agents, {} in flight", tp, agents, plans),
             .achieved = rate,
             .ceiling = ranks,
             .unit = "tokens/s",
             .bound = "the ranks alone, never waiting"});
    }
    gains += fmt::format("two plans in flight, demo, {} ranks, {} agents: {:+.1f} %\n", tp, agents,
                         100 * (rates[2] / rates[1] - 1));
  }
  return gains;
}

// A row that arithmetic or reading bounds, whichever takes longer. `floor`s: seconds of each.
Row BoundRow(std::string what, double units, double seconds, double read_floor, double fma_floor) {
  const bool reads = read_floor > fma_floor;
  return {.what = std::move(what),
          .achieved = units / seconds,
          .ceiling = units / std::max(read_floor, fma_floor),
          .unit = "tokens/s",
          .bound = reads ? "read bandwidth" : "f32 multiply-adds"};
}

absl::Status LargeDecodeRow(SharedGroup& group, const Sizes& sizes, const Ceilings& machine,
                            int agents, float temperature) {
  const Gang gang{
      .agents = agents, .tokens = sizes.large_tokens, .seed = 7, .temperature = temperature};
  ASSIGN_OR_RETURN(const double seconds,
                   ShortestOf(sizes.large_rounds, [&](int) -> absl::StatusOr<double> {
                     ASSIGN_OR_RETURN(const Timing timing, RunEngine(group, 1, gang));
                     return timing.rest / (gang.tokens - 1);
                   }));
  const Work work = WorkOf(sizes.large);
  const double context = gang.prompt + gang.tokens / 2.0;
  const double flops =
      agents * (work.row_flops + work.sample_flops + context * work.attended_flops);
  Print(BoundRow(
      fmt::format("decode, 135M, {} agents, {}", agents, temperature == 0 ? "greedy" : "drawn"),
      agents, seconds, work.weight_bytes / machine.read_gb / 1e9,
      flops / machine.fma_gflops / 1e9));
  return absl::OkStatus();
}

// What asking costs: the rate of the agents' own tokens with copies of them, and without. The
// group has twice as many slots as there are agents; copies run beside them.
absl::Status ProbeRows(SharedGroup& group, const Sizes& sizes, const std::string& model) {
  struct Probing {
    int every, tokens;
  };
  for (const Probing probing : {Probing{64, 20}, Probing{256, 20}, Probing{384, 6}}) {
    if (probing.every >= sizes.thought) continue;  // Nobody would be asked.
    double with = 0, without = 0;
    for (int round = 0; round < sizes.large_rounds; ++round) {  // In turn.
      Gang gang{.agents = 8, .tokens = sizes.thought, .seed = static_cast<uint64_t>(31 + round)};
      ASSIGN_OR_RETURN(const Timing alone, RunEngine(group, 2, gang));
      without = std::max(without, DecodeRate(gang, alone));
      gang.probe_every = probing.every;
      gang.probe_tokens = probing.tokens;
      ASSIGN_OR_RETURN(const Timing asked, RunEngine(group, 2, gang));
      with = std::max(with, DecodeRate(gang, asked));
    }
    Print({.what = fmt::format("decode, {}, 8 agents, asked for {} every {} tokens", model,
                               probing.tokens, probing.every),
           .achieved = with,
           .ceiling = without,
           .unit = "tokens/s",
           .bound = "the same, not asked"});
  }
  return absl::OkStatus();
}

absl::Status PromptRows(SharedGroup& group, const Sizes& sizes, const Ceilings& machine) {
  const auto first = [&](int agents, int seed) {
    return [&, agents, seed](int round) -> absl::StatusOr<double> {
      const Gang gang{.agents = agents,
                      .prompt = sizes.prompt,
                      .tokens = 1,
                      .seed = static_cast<uint64_t>(seed + round),
                      .temperature = 0};
      ASSIGN_OR_RETURN(const Timing timing, RunEngine(group, 1, gang));
      return timing.first;
    };
  };
  ASSIGN_OR_RETURN(const double one, ShortestOf(sizes.large_rounds, first(1, 1000)));
  ASSIGN_OR_RETURN(const double eight, ShortestOf(sizes.large_rounds, first(8, 2000)));
  const Work work = WorkOf(sizes.large);
  const double flops = sizes.prompt * (work.row_flops + sizes.prompt / 2.0 * work.attended_flops) +
                       work.sample_flops;
  Print(BoundRow(fmt::format("prefill, 135M, {} tokens", sizes.prompt), sizes.prompt, one,
                 work.weight_bytes / machine.read_gb / 1e9, flops / machine.fma_gflops / 1e9));
  Print({.what = fmt::format("shared prompt, 135M, 8 agents of {} tokens", sizes.prompt),
         .achieved = 8 * sizes.prompt / eight,
         .ceiling = 8 * sizes.prompt / one,
         .unit = "tokens/s",
         .bound = "one agent's prefill serves all"});
  return absl::OkStatus();
}

absl::Status LargeRows(const Sizes& sizes, const Ceilings& machine) {
  const std::string dir = FreshFolder();
  absl::Status status = WriteRandomModel(sizes.large, dir);
  auto group = status.ok() ? Load(dir, 1, machine.threads) : status;
  std::error_code ignored;
  std::filesystem::remove_all(dir, ignored);
  RETURN_IF_ERROR(group.status());
  for (const int agents : kWidths) {
    RETURN_IF_ERROR(LargeDecodeRow(**group, sizes, machine, agents, 1));
  }
  RETURN_IF_ERROR(LargeDecodeRow(**group, sizes, machine, 8, 0));
  Sizes fewer = sizes;  // A step takes long enough to need no more.
  fewer.large_rounds = 1;
  fewer.thought = std::min(sizes.thought, 132);
  RETURN_IF_ERROR(ProbeRows(**group, fewer, "135M"));
  return PromptRows(**group, sizes, machine);
}

// `step`: seconds of one step of one agent on the ranks alone.
absl::Status ServingRows(const Sizes& sizes, double step, int plans) {
  ASSIGN_OR_RETURN(const Serving s, MeasureServing(plans, sizes.requests, sizes.thinking));
  const auto time = [&](std::string what, double seconds, double floor, std::string bound) {
    Print({.what = fmt::format("{}, {} in flight", what, plans),
           .achieved = seconds * 1e3,
           .ceiling = floor * 1e3,
           .unit = "ms",
           .bound = std::move(bound),
           .less_is_better = true});
  };
  time("first event, 1 agent", s.one_first_event, s.empty_call, "a call that does nothing");
  time("first event, 8 agents", s.gang_first_event, s.empty_call, "a call that does nothing");
  time("first answer, 1 agent", s.one_first_answer, s.one_tokens_before * step,
       "its tokens on the ranks alone");
  time("whole answer, 8 agents", s.gang_end, s.gang_critical_path * step,
       "its critical path, 1 agent on the ranks alone");
  Print({.what = fmt::format("router's CPU a token, 8 agents, {} in flight", plans),
         .achieved = s.router_cpu * 1e6,
         .ceiling = s.empty_call_cpu * 1e6,
         .unit = "us",
         .bound = "its CPU for a call that does nothing",
         .less_is_better = true});
  std::printf(
      "served, 8 agents, %d in flight: %.0f tokens/s; the router used %.1f %% of one core\n", plans,
      s.gang_rate, 100 * s.router_share);
  return absl::OkStatus();
}

absl::Status Run(const Sizes& sizes) {
  const std::string demo = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
  const int threads =
      std::max(1, std::min(2, static_cast<int>(std::thread::hardware_concurrency())));
  const Ceilings machine = MeasureCeilings(threads, sizes.megabytes);
  double load = 0;
  getloadavg(&load, 1);  // Of the minute before: a busy machine's figures say little.
  std::printf(
      "machine, %d threads: reads %.1f GB/s, %.0f GFLOP/s of f32 multiply-adds; load average "
      "%.1f\n",
      threads, machine.read_gb, machine.fma_gflops, load);
  PrintHead();
  std::string gains;
  for (const int tp : {1, 2}) {
    ASSIGN_OR_RETURN(const std::string gained, DemoRows(demo, tp, sizes));
    gains += gained;
  }
  RETURN_IF_ERROR(LargeRows(sizes, machine));
  ASSIGN_OR_RETURN(const auto group, Load(demo, 2, 1));
  RETURN_IF_ERROR(ProbeRows(*group, sizes, "demo, 2 ranks"));
  ASSIGN_OR_RETURN(const double step, ShortestOf(sizes.rounds, [&](int) -> absl::StatusOr<double> {
                     const Gang gang{.tokens = sizes.demo_tokens};
                     ASSIGN_OR_RETURN(const Timing timing, RunRanks(*group, gang));
                     return timing.rest / (gang.tokens - 1);
                   }));
  for (const int plans : {1, 2}) RETURN_IF_ERROR(ServingRows(sizes, step, plans));
  std::printf("%s", gains.c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace conclave::bench

int main(int argc, char** argv) {
  using conclave::bench::Sizes;
  const bool quick = argc == 2 && std::string(argv[1]) == "--quick";
  if (argc > 1 && !quick) {
    std::fprintf(stderr, "usage: conclave_bench [--quick]\n");
    return 2;
  }
  try {
    const absl::Status status = conclave::bench::Run(quick ? Sizes::Quick() : Sizes());
    if (status.ok()) return 0;
    std::fprintf(stderr, "conclave_bench: %s\n", status.ToString().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "conclave_bench: %s\n", error.what());
  }
  return 1;
}
