#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tests/fuzz/counted_memory.h"
#include "tests/fuzz/mutate.h"
#include "tests/unit/worker/model/checkpoint.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/collective/shared_collective.h"
#include "worker/model/config.h"
#include "worker/model/model.h"
#include "worker/model/safetensors.h"

// Checkpoints of strangers, mutated from seeds: they load or are refused, naming the file. No
// crash, no more memory than a bound. A failure names its seed.
namespace conclave::worker {
namespace {

using Json = nlohmann::json;

const std::vector<std::string>& JsonWords() {
  static const std::vector<std::string> words = {"{",
                                                 "}",
                                                 "[",
                                                 "]",
                                                 "\"",
                                                 ":",
                                                 ",",
                                                 "null",
                                                 "1e999",
                                                 "-1",
                                                 "9223372036854775808",
                                                 "4.",
                                                 "NaN",
                                                 "true",
                                                 "\\u0",
                                                 "[[[[",
                                                 "\"dtype\"",
                                                 "\"shape\"",
                                                 "[0,0]",
                                                 "0",
                                                 "\"F32\""};
  return words;
}

Json Surprise(Random& random, Json& root) {
  const Json surprises[] = {nullptr,
                            true,
                            0,
                            -1,
                            1,
                            3,
                            8,
                            1 << 20,
                            1e300,
                            0.5,
                            1e-300,
                            INT64_MIN,
                            INT64_MAX,
                            UINT64_MAX,
                            "",
                            "F16",
                            "BF16",
                            Json::array(),
                            Json::object(),
                            {0, 16},
                            {8, 8},
                            "full_attention",
                            "yarn",
                            "llama3"};
  if (random() % 4 == 0) return AnyNode(random, root);
  return surprises[Below(random, std::size(surprises))];
}

// One change of a JSON text: of its tree, or of its bytes.
std::string Mutant(Random& random, const std::string& text) {
  std::string mutant = text;
  if (random() % 2 == 0) {
    Json tree = Json::parse(text);
    for (size_t n = 1 + Below(random, 2); n > 0; --n) {
      Json surprise = Surprise(random, tree);
      AnyNode(random, tree) = std::move(surprise);
    }
    return tree.dump();
  }
  for (size_t n = 1 + Below(random, 2); n > 0; --n) Mutate(random, JsonWords(), mutant);
  return mutant;
}

std::string WithLength(uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

// A mutant of a whole weight file: of its header, its length, or where it ends.
std::string WeightsMutant(Random& random, const std::string& file) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const std::string header = file.substr(8, length), data = file.substr(8 + length);
  switch (Below(random, 6)) {
    case 0:
      return file.substr(0, Below(random, file.size()));
    case 1:
      return WithLength(random() >> Below(random, 64), header + data);
    default: {
      const std::string mutant = Mutant(random, header);
      return WithLength(mutant.size(), mutant + data);
    }
  }
}

absl::Status Load(const TemporaryFolder& folder) {
  static const auto device = *MakeCpuDevice("plain");
  ThreadGroup group(1);
  return LoadModel(folder.path(), *device, *group.Rank(0), {.max_rows = 2}).status();
}

TEST(ModelFuzzTest, LoadsOrRefusesMutatedCheckpoints) {
  const std::string weights = MakeSafetensors(TinyShapes());
  const int rounds = Rounds(3'000);
  int loaded = 0;
  size_t peak = 0;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    Random random(SeedOf(round));
    const TemporaryFolder folder;
    const bool config = random() % 3 == 0;
    folder.Write("config.json", config ? Mutant(random, TinyConfig()) : TinyConfig());
    folder.Write("model.safetensors", config ? weights : WeightsMutant(random, weights));
    const CountedMemory memory;
    const absl::Status status = Load(folder);
    loaded += status.ok() ? 1 : 0;
    ASSERT_TRUE(status.ok() || !status.message().empty());
    peak = std::max(peak, memory.peak());
    ASSERT_LT(memory.peak(), size_t{64} << 20) << status;
  }
  std::printf("checkpoints: %d of %d mutants loaded; at most %zu KiB were taken\n", loaded, rounds,
              peak >> 10);
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, rounds);
}

TEST(ModelFuzzTest, AConfigThatIsTakenHasNumbersThatCanBeServed) {
  for (int round = 0; round < Rounds(20'000); ++round) {
    SCOPED_TRACE(round);
    Random random(SeedOf(round));
    const auto config = ParseModelConfig(Mutant(random, TinyConfig()));
    if (!config.ok()) continue;
    ASSERT_GT(config->norm_eps, 0);
    ASSERT_LE(config->norm_eps, 1);
    ASSERT_EQ(config->layer.size(), static_cast<size_t>(config->layers));
    ASSERT_EQ(config->heads % config->kv_heads, 0);
  }
}

TEST(ModelFuzzTest, TheTensorsOfAFileThatIsTakenLieApartInside) {
  const std::string weights = MakeSafetensors(TinyShapes());
  for (int round = 0; round < Rounds(3'000); ++round) {
    SCOPED_TRACE(round);
    Random random(SeedOf(round));
    const TemporaryFolder folder;
    const std::string file = WeightsMutant(random, weights);
    folder.Write("model.safetensors", file);
    const auto files = Safetensors::Open(folder.path());
    if (!files.ok()) continue;
    std::vector<std::pair<const uint8_t*, const uint8_t*>> spans;
    for (const auto& [name, tensor] : files->tensors()) {
      const auto bytes = static_cast<size_t>(tensor.elements()) * BytesOf(tensor.dtype);
      if (bytes > 0) spans.emplace_back(tensor.data, tensor.data + bytes);
    }
    std::sort(spans.begin(), spans.end());
    size_t held = 0;
    for (size_t i = 0; i < spans.size(); ++i) {
      held += static_cast<size_t>(spans[i].second - spans[i].first);
      ASSERT_TRUE(i == 0 || spans[i].first >= spans[i - 1].second);
    }
    ASSERT_LE(held, file.size());
  }
}

}  // namespace
}  // namespace conclave::worker
