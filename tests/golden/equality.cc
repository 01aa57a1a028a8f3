#include "tests/golden/equality.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/status.h"
#include "worker/runner/local_runner.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

constexpr uint64_t kSeed = 7;

std::string ReadBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// Logits of rows, as bits, and the tokens that were drawn.
struct Trace {
  std::vector<std::vector<float>> rows;
  std::vector<TokenId> tokens;

  bool SameBits(const Trace& other) const {
    if (tokens != other.tokens || rows.size() != other.rows.size()) return false;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (std::memcmp(rows[i].data(), other.rows[i].data(), rows[i].size() * sizeof(float)) != 0) {
        return false;
      }
    }
    return true;
  }
};

struct Sequence {
  SlotId slot = 0;
  std::vector<TokenId> prompt;
  std::vector<BlockId> blocks;
  int computed = 0;  // Positions whose KV is there already.
  float temperature = 0;
  int first_index = 0;  // Of its first draw: so many of the prompt's last tokens were produced.
};

// A group, and how much of the comparison it does.
struct Group {
  std::string dir;
  int tp = 1;
  std::string set = "auto";
  Trial trial = {};
};

// Drives one group by hand, one step after another.
class Driver {
 public:
  static absl::StatusOr<Driver> Create(const Group& group) {
    LocalRunnerOptions options;
    options.model_dir = group.dir, options.tp = group.tp, options.instruction_set = group.set;
    options.make_device = group.trial.make_device;
    options.max_rows = 4096, options.max_slots = 1024;
    options.kv_tokens = 64 * (group.trial.neighbours + 1) * kBlockTokens;
    ASSIGN_OR_RETURN(auto runner, LocalRunner::Create(options));
    return Driver(std::move(runner));
  }

  // Opens the sequences, computes their prompts in pieces of `chunk` (0 = at once), then generates.
  // The first one's trace.
  absl::StatusOr<Trace> Run(const std::vector<Sequence>& sequences, int chunk, int generated) {
    Trace trace;
    StepPlan plan;
    for (const Sequence& each : sequences) plan.slots.push_back(Open(each));
    int at = sequences[0].computed;
    const int end = static_cast<int>(sequences[0].prompt.size());
    while (at < end) {
      const int to = chunk > 0 ? std::min(end, at + chunk) : end;
      for (const Sequence& each : sequences) AddRows(each, at, to, plan);
      RETURN_IF_ERROR(Step(std::move(plan), trace));
      plan = {};
      at = to;
    }
    for (int i = 1; i < generated; ++i) {
      for (const Sequence& each : sequences) {
        plan.samples.push_back(
            {static_cast<int32_t>(plan.rows.size()), each.slot, each.first_index + i});
        plan.rows.push_back(
            {each.slot, static_cast<int32_t>(each.prompt.size()) + i - 1, kPreviousSample});
      }
      RETURN_IF_ERROR(Step(std::move(plan), trace));
      plan = {};
    }
    return trace;
  }

  int vocab() const { return runner_->shape().vocab_size; }

 private:
  explicit Driver(std::unique_ptr<LocalRunner> runner) : runner_(std::move(runner)) {}

  static SlotChange Open(const Sequence& each) {
    SlotChange open;
    open.slot = each.slot, open.seed = kSeed;
    open.sampling.temperature = each.temperature;
    open.blocks = {each.blocks};
    open.position = static_cast<int>(each.prompt.size()) - each.first_index;
    return open;
  }

  // Every row is sampled, so that its logits can be seen; only the last draw of a prompt counts.
  static void AddRows(const Sequence& each, int at, int to, StepPlan& plan) {
    for (int i = at; i < to && i < static_cast<int>(each.prompt.size()); ++i) {
      if (each.slot == 0 || i + 1 == static_cast<int>(each.prompt.size())) {
        plan.samples.push_back(
            {static_cast<int32_t>(plan.rows.size()), each.slot, each.first_index});
      }
      plan.rows.push_back({each.slot, i, each.prompt[i]});
    }
  }

  absl::Status Step(StepPlan plan, Trace& trace) {
    plan.number = ++number_;
    const StepPlan sent = plan;
    RETURN_IF_ERROR(runner_->Submit(std::move(plan)));
    ASSIGN_OR_RETURN(const StepResult result, runner_->Await());
    ASSIGN_OR_RETURN(const auto logits, runner_->rank(0).LastLogits());
    for (size_t i = 0; i < sent.samples.size(); ++i) {
      if (sent.samples[i].slot != 0) continue;
      trace.rows.push_back(logits[i]);
      trace.tokens.push_back(result.tokens[i].id);
    }
    return absl::OkStatus();
  }

  std::unique_ptr<LocalRunner> runner_;
  uint64_t number_ = 0;
};

std::vector<BlockId> Blocks(int from, int count) {
  std::vector<BlockId> blocks;
  for (int i = 0; i < count; ++i) blocks.push_back(from + (i * 7) % count);  // Not in order.
  return blocks;
}

int BlocksFor(const Group& group, size_t prompt) {
  return static_cast<int>(prompt + static_cast<size_t>(group.trial.generated)) / kBlockTokens + 1;
}

absl::StatusOr<Trace> RunAlone(const Group& group, const std::vector<TokenId>& prompt, int chunk,
                               float temperature) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(group));
  int count = BlocksFor(group, prompt.size());
  if (count % 7 == 0) ++count;  // So that the stride visits every block.
  return driver.Run({{0, prompt, Blocks(0, count), 0, temperature, 0}}, chunk,
                    group.trial.generated);
}

absl::StatusOr<Trace> RunAmongOthers(const Group& group, const std::vector<TokenId>& prompt) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(group));
  const int count = BlocksFor(group, prompt.size()), others = group.trial.neighbours;
  std::vector<Sequence> all;
  for (int i = 0; i <= others; ++i) {
    std::vector<TokenId> mine = prompt;
    if (i > 0) std::rotate(mine.begin(), mine.begin() + i % mine.size(), mine.end());
    std::vector<BlockId> blocks;
    for (int b = 0; b < count; ++b) blocks.push_back(b * (others + 1) + i);
    all.push_back({i, mine, blocks, 0, 1.0f, 0});
  }
  return driver.Run(all, 0, group.trial.generated);
}

// A first sequence computes the prompt; a second reads its whole blocks and computes the rest.
absl::StatusOr<Trace> RunBehindPrefix(const Group& group, const std::vector<TokenId>& prompt) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(group));
  const int count = BlocksFor(group, prompt.size());
  const int shared = static_cast<int>(prompt.size() - 1) / kBlockTokens;
  std::vector<BlockId> first, second;
  for (int b = 0; b < count; ++b) first.push_back(b), second.push_back(b < shared ? b : count + b);
  RETURN_IF_ERROR(driver.Run({{1, prompt, first, 0, 1.0f, 0}}, 0, 1).status());
  return driver.Run({{0, prompt, second, shared * kBlockTokens, 1.0f, 0}}, 0,
                    group.trial.generated);
}

// The prompt and half of what followed are computed anew, as after a loss.
absl::StatusOr<Trace> RunResumed(const Group& group, std::vector<TokenId> prompt,
                                 const Trace& whole) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(group));
  const int generated = group.trial.generated, half = generated / 2;
  const int count = BlocksFor(group, prompt.size());
  prompt.insert(prompt.end(), whole.tokens.end() - generated, whole.tokens.end() - half);
  return driver.Run(
      {{0, prompt, Blocks(0, count % 7 == 0 ? count + 1 : count), 0, 1.0f, generated - half}}, 5,
      half);
}

// The last `count` rows and tokens.
Trace Tail(const Trace& trace, size_t count) {
  return {{trace.rows.end() - static_cast<ptrdiff_t>(count), trace.rows.end()},
          {trace.tokens.end() - static_cast<ptrdiff_t>(count), trace.tokens.end()}};
}

double RelativeError(const Trace& trace, const Golden& golden, int vocab) {
  const size_t rows = golden.logits.size() / vocab;
  const size_t first = golden.prompt.size() - rows;
  double difference = 0, greatest = 0;
  for (size_t i = 0; i < golden.logits.size(); ++i) {
    const double mine = trace.rows[first + i / vocab][i % vocab];
    difference = std::max(difference, std::abs(mine - golden.logits[i]));
    greatest = std::max<double>(greatest, std::abs(golden.logits[i]));
  }
  return difference / greatest;
}

std::vector<TokenId> Generated(const Trace& trace, int generated) {
  return {trace.tokens.end() - generated, trace.tokens.end()};
}

bool StartsAlike(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  return std::equal(a.begin(), a.begin() + std::min(a.size(), b.size()), b.begin());
}

// What holds of every device: the golden's text, and bits that depend on the sequence alone.
absl::Status CompareGroup(const Group& group, const std::vector<TokenId>& prompt, Equality& out) {
  const auto half = static_cast<size_t>(group.trial.generated / 2);
  ASSIGN_OR_RETURN(const Trace alone, RunAlone(group, prompt, 0, 1.0f));
  for (const int chunk : group.trial.chunks) {
    ASSIGN_OR_RETURN(const Trace cut, RunAlone(group, prompt, chunk, 1.0f));
    out.chunks_equal = out.chunks_equal && cut.SameBits(alone);
  }
  ASSIGN_OR_RETURN(const Trace batch, RunAmongOthers(group, prompt));
  out.batch_equal = out.batch_equal && batch.SameBits(alone);
  if (group.tp > 1) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Trace behind, RunBehindPrefix(group, prompt));
  out.prefix_equal = behind.SameBits(Tail(alone, behind.rows.size()));
  ASSIGN_OR_RETURN(const Trace resumed, RunResumed(group, prompt, alone));
  out.resumed_equal = Tail(resumed, half).SameBits(Tail(alone, half));
  return absl::OkStatus();
}

// How near the golden's logits and text are to a greedy run.
void CompareGolden(const Trace& greedy, const Golden& golden, int generated, Equality& out) {
  out.relative_error = RelativeError(greedy, golden, static_cast<int>(greedy.rows[0].size()));
  out.greedy_equal = StartsAlike(Generated(greedy, generated), golden.greedy);
}

}  // namespace

absl::StatusOr<Golden> ReadGolden(const std::string& dir) {
  Golden golden;
  const std::string stored = ReadBytes(dir + "/expected_text.safetensors");
  if (!stored.empty()) {
    uint64_t length = 0;
    std::memcpy(&length, stored.data(), sizeof length);
    const json header = json::parse(stored.substr(8, length));
    const auto bytes = [&](const char* name) {
      const size_t begin = header[name]["data_offsets"][0], end = header[name]["data_offsets"][1];
      return stored.substr(8 + length + begin, end - begin);
    };
    const auto ids = [&](const char* name) {
      const std::string text = bytes(name);
      std::vector<int64_t> wide(text.size() / sizeof(int64_t));
      std::memcpy(wide.data(), text.data(), text.size());
      return std::vector<TokenId>(wide.begin(), wide.end());
    };
    golden.prompt = ids("text.ids");
    golden.greedy = ids("text.greedy");
    const std::string logits = bytes("f32/text");
    golden.logits.resize(logits.size() / sizeof(float));
    std::memcpy(golden.logits.data(), logits.data(), logits.size());
    return golden;
  }
  const json reference =
      json::parse(ReadBytes(dir + "/ref_1.json"), nullptr, /*allow_exceptions=*/false);
  if (!reference.is_object()) return NotFound("{} has no golden", dir);
  golden.prompt = reference["prompt_ids"].get<std::vector<TokenId>>();
  golden.greedy = reference["generated_ids"].get<std::vector<TokenId>>();
  golden.logits = reference["last_prompt_logits"].get<std::vector<float>>();
  return golden;
}

absl::StatusOr<Golden> ComputeGolden(const std::string& dir, const std::vector<TokenId>& prompt) {
  const Group cpu = {.dir = dir};
  ASSIGN_OR_RETURN(const Trace greedy, RunAlone(cpu, prompt, 0, 0.0f));
  Golden golden;
  golden.prompt = prompt;
  golden.greedy = Generated(greedy, cpu.trial.generated);
  for (size_t i = 0; i < prompt.size(); ++i) {
    golden.logits.insert(golden.logits.end(), greedy.rows[i].begin(), greedy.rows[i].end());
  }
  return golden;
}

absl::StatusOr<Equality> CompareOn(const Trial& trial, const std::string& dir,
                                   const Golden& golden) {
  const Group group = {.dir = dir, .trial = trial};
  Equality out;
  ASSIGN_OR_RETURN(const Trace greedy, RunAlone(group, golden.prompt, 0, 0.0f));
  CompareGolden(greedy, golden, trial.generated, out);
  RETURN_IF_ERROR(CompareGroup(group, golden.prompt, out));
  return out;
}

absl::StatusOr<Equality> Compare(const std::string& dir, const std::optional<Golden>& golden,
                                 const std::vector<TokenId>& text) {
  const std::vector<TokenId>& prompt = golden ? golden->prompt : text;
  const Group one = {.dir = dir};
  const int generated = one.trial.generated;
  Equality out;
  ASSIGN_OR_RETURN(const Trace greedy, RunAlone(one, prompt, 0, 0.0f));
  if (golden) CompareGolden(greedy, *golden, generated, out);
  for (const int tp : {2, 4}) {
    const Group group = {.dir = dir, .tp = tp, .trial = {.chunks = {3}}};
    const auto wide = RunAlone(group, prompt, 0, 0.0f);
    if (wide.status().code() == absl::StatusCode::kInvalidArgument) {
      ++out.tp_skipped;
      continue;
    }
    RETURN_IF_ERROR(wide.status());
    out.tp_equal = out.tp_equal && Generated(*wide, generated) == Generated(greedy, generated);
    RETURN_IF_ERROR(CompareGroup(group, prompt, out));
  }
  ASSIGN_OR_RETURN(const Trace alone, RunAlone(one, prompt, 0, 1.0f));
  for (const char* set : {"plain", "avx2", "avx512"}) {
    const auto other = RunAlone({.dir = dir, .set = set}, prompt, 0, 1.0f);
    if (other.status().code() == absl::StatusCode::kFailedPrecondition) continue;
    RETURN_IF_ERROR(other.status());
    out.sets_equal = out.sets_equal && other->SameBits(alone);
  }
  RETURN_IF_ERROR(CompareGroup(one, prompt, out));
  return out;
}

}  // namespace conclave::worker
