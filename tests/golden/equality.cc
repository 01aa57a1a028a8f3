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

constexpr int kGenerated = 24;
constexpr int kNeighbours = 15;
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
  int first_index = 0;  // Of its first draw.
};

// Drives one group by hand, one step after another.
class Driver {
 public:
  static absl::StatusOr<Driver> Create(const std::string& dir, int tp, const std::string& set) {
    LocalRunnerOptions options;
    options.model_dir = dir, options.tp = tp, options.instruction_set = set;
    options.max_rows = 4096, options.max_slots = 1024;
    options.kv_tokens = 64 * (kNeighbours + 1) * kBlockTokens;
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

int BlocksFor(size_t prompt) { return static_cast<int>(prompt + kGenerated) / kBlockTokens + 1; }

absl::StatusOr<Trace> RunAlone(const std::string& dir, const std::vector<TokenId>& prompt, int tp,
                               const std::string& set, int chunk, float temperature) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(dir, tp, set));
  int count = BlocksFor(prompt.size());
  if (count % 7 == 0) ++count;  // So that the stride visits every block.
  return driver.Run({{0, prompt, Blocks(0, count), 0, temperature, 0}}, chunk, kGenerated);
}

absl::StatusOr<Trace> RunAmongOthers(const std::string& dir, const std::vector<TokenId>& prompt,
                                     int tp) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(dir, tp, "auto"));
  const int count = BlocksFor(prompt.size());
  std::vector<Sequence> all;
  for (int i = 0; i <= kNeighbours; ++i) {
    std::vector<TokenId> mine = prompt;
    if (i > 0) std::rotate(mine.begin(), mine.begin() + i % mine.size(), mine.end());
    std::vector<BlockId> blocks;
    for (int b = 0; b < count; ++b) blocks.push_back(b * (kNeighbours + 1) + i);
    all.push_back({i, mine, blocks, 0, 1.0f, 0});
  }
  return driver.Run(all, 0, kGenerated);
}

// A first sequence computes the prompt; a second reads its whole blocks and computes the rest.
absl::StatusOr<Trace> RunBehindPrefix(const std::string& dir, const std::vector<TokenId>& prompt) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(dir, 1, "auto"));
  const int count = BlocksFor(prompt.size());
  const int shared = static_cast<int>(prompt.size() - 1) / kBlockTokens;
  std::vector<BlockId> first, second;
  for (int b = 0; b < count; ++b) first.push_back(b), second.push_back(b < shared ? b : count + b);
  RETURN_IF_ERROR(driver.Run({{1, prompt, first, 0, 1.0f, 0}}, 0, 1).status());
  return driver.Run({{0, prompt, second, shared * kBlockTokens, 1.0f, 0}}, 0, kGenerated);
}

// The prompt and half of what followed are computed anew, as after a loss.
absl::StatusOr<Trace> RunResumed(const std::string& dir, std::vector<TokenId> prompt,
                                 const Trace& whole) {
  ASSIGN_OR_RETURN(Driver driver, Driver::Create(dir, 1, "auto"));
  const int half = kGenerated / 2;
  const int count = BlocksFor(prompt.size());
  prompt.insert(prompt.end(), whole.tokens.end() - kGenerated, whole.tokens.end() - half);
  return driver.Run({{0, prompt, Blocks(0, count % 7 == 0 ? count + 1 : count), 0, 1.0f, half}}, 5,
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

std::vector<TokenId> Generated(const Trace& trace) {
  return {trace.tokens.end() - kGenerated, trace.tokens.end()};
}

bool StartsAlike(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  return std::equal(a.begin(), a.begin() + std::min(a.size(), b.size()), b.begin());
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

absl::StatusOr<Equality> Compare(const std::string& dir, const std::optional<Golden>& golden,
                                 const std::vector<TokenId>& text) {
  const std::vector<TokenId>& prompt = golden ? golden->prompt : text;
  Equality out;
  ASSIGN_OR_RETURN(const Trace greedy, RunAlone(dir, prompt, 1, "auto", 0, 0.0f));
  if (golden) {
    out.relative_error = RelativeError(greedy, *golden, static_cast<int>(greedy.rows[0].size()));
    out.greedy_equal = StartsAlike(Generated(greedy), golden->greedy);
  }
  for (const int tp : {2, 4}) {
    const auto wide = RunAlone(dir, prompt, tp, "auto", 0, 0.0f);
    if (wide.status().code() == absl::StatusCode::kInvalidArgument) {
      ++out.tp_skipped;
      continue;
    }
    RETURN_IF_ERROR(wide.status());
    out.tp_equal = out.tp_equal && Generated(*wide) == Generated(greedy);
    ASSIGN_OR_RETURN(const Trace alone, RunAlone(dir, prompt, tp, "auto", 0, 1.0f));
    ASSIGN_OR_RETURN(const Trace cut, RunAlone(dir, prompt, tp, "auto", 3, 1.0f));
    ASSIGN_OR_RETURN(const Trace batch, RunAmongOthers(dir, prompt, tp));
    out.chunks_equal = out.chunks_equal && cut.SameBits(alone);
    out.batch_equal = out.batch_equal && batch.SameBits(alone);
  }
  ASSIGN_OR_RETURN(const Trace alone, RunAlone(dir, prompt, 1, "auto", 0, 1.0f));
  for (const int chunk : {1, 3, 16}) {
    ASSIGN_OR_RETURN(const Trace cut, RunAlone(dir, prompt, 1, "auto", chunk, 1.0f));
    out.chunks_equal = out.chunks_equal && cut.SameBits(alone);
  }
  for (const char* set : {"plain", "avx2", "avx512"}) {
    const auto other = RunAlone(dir, prompt, 1, set, 0, 1.0f);
    if (other.status().code() == absl::StatusCode::kFailedPrecondition) continue;
    RETURN_IF_ERROR(other.status());
    out.sets_equal = out.sets_equal && other->SameBits(alone);
  }
  ASSIGN_OR_RETURN(const Trace batch, RunAmongOthers(dir, prompt, 1));
  out.batch_equal = out.batch_equal && batch.SameBits(alone);
  ASSIGN_OR_RETURN(const Trace behind, RunBehindPrefix(dir, prompt));
  out.prefix_equal = behind.SameBits(Tail(alone, behind.rows.size()));
  ASSIGN_OR_RETURN(const Trace resumed, RunResumed(dir, prompt, alone));
  out.resumed_equal = Tail(resumed, kGenerated / 2).SameBits(Tail(alone, kGenerated / 2));
  return out;
}

}  // namespace conclave::worker
