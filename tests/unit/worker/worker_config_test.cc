#include "worker/worker_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "common/status.h"
#include "tests/fakes/config_document.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kShipped[] = CONCLAVE_SOURCE_DIR "/configs/worker.yaml";

TEST(WorkerConfigTest, TheShippedFileSaysTheDefaults) {
  const auto shipped = LoadWorkerConfig(kShipped, {});
  ASSERT_TRUE(shipped.ok()) << shipped.status();
  EXPECT_EQ(*shipped, WorkerConfig());
  EXPECT_EQ(*LoadWorkerConfig("", {}), WorkerConfig());
}

TEST(WorkerConfigTest, TheShippedFileNamesEveryKey) {
  EXPECT_THAT(KeysWithoutALine("worker/worker_config.cc", "configs/worker.yaml"), IsEmpty());
}

std::string WhyNot(const std::string& override_) {
  const absl::Status status = LoadWorkerConfig(kShipped, {override_}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << override_;
  return std::string(MessageOf(status));
}

TEST(WorkerConfigTest, MistakesAreNamedWithWhatIsAllowed) {
  EXPECT_THAT(WhyNot("group.tensor_paralel=2"),
              HasSubstr("did you mean \"group.tensor_parallel\"?"));
  EXPECT_THAT(WhyNot("server.tensor_paralel=2"),
              HasSubstr("did you mean \"group.tensor_parallel\"?"));
  EXPECT_THAT(WhyNot("group.tensor_parallel=65"), HasSubstr("64"));
  EXPECT_THAT(WhyNot("group.instruction_set=sse"), HasSubstr("auto, avx512, avx2, plain"));
  EXPECT_THAT(WhyNot("group.compute=fp4"), HasSubstr("auto, f32, bf16"));
  EXPECT_THAT(WhyNot("group.device=tpu"), HasSubstr("auto, cpu, cuda"));
  EXPECT_THAT(WhyNot("group.cuda.weights=fp4"), HasSubstr("as_stored, fp8, int4"));
  EXPECT_THAT(WhyNot("group.cuda.kv=int4"), HasSubstr("as_activations, fp8"));
  EXPECT_THAT(
      WhyNot("group.kv_tokens=1"),
      HasSubstr("group.kv_tokens: \"1\" is out of range; it can be 16 to 4294967296 tokens"));
  EXPECT_THAT(WhyNot("group.plans_in_flight=3"), HasSubstr("group.plans_in_flight"));
  EXPECT_THAT(WhyNot("server.max_message=1KiB"), HasSubstr("server.max_message"));
  EXPECT_THAT(WhyNot("launcher.beat=1ms"), HasSubstr("launcher.beat"));
  EXPECT_THAT(WhyNot("model.directory=\"\""), HasSubstr("must name the model's folder"));
}

std::string WhyNotTogether(const std::vector<std::string>& overrides) {
  return std::string(MessageOf(LoadWorkerConfig(kShipped, overrides).status()));
}

TEST(WorkerConfigTest, NumbersThatTheDeviceDoesNotHaveAreRefused) {
  EXPECT_THAT(WhyNotTogether({"group.device=cpu", "group.compute=bf16"}),
              HasSubstr("group.compute: bf16 is a GPU's"));
  EXPECT_EQ(WhyNotTogether({"group.device=auto", "group.compute=bf16"}), "");
  EXPECT_THAT(WhyNotTogether({"group.device=cpu", "group.cuda.weights=int4"}),
              HasSubstr("group.cuda.weights: fp8 and int4 are a GPU's, and group.device is cpu"));
  EXPECT_THAT(WhyNotTogether({"group.device=cpu", "group.cuda.kv=fp8"}),
              HasSubstr("group.cuda.kv: fp8 is a GPU's, and group.device is cpu"));
  EXPECT_EQ(WhyNotTogether({"group.cuda.weights=int4", "group.cuda.kv=fp8"}), "");
  EXPECT_THAT(WhyNotTogether({"group.compute=f32", "group.cuda.weights=fp8"}),
              HasSubstr("group.cuda.weights: fp8 and int4 need bf16"));
  EXPECT_THAT(WhyNotTogether({"group.compute=f32", "group.cuda.kv=fp8"}),
              HasSubstr("group.cuda.kv: fp8 needs bf16"));
}

TEST(WorkerConfigTest, HostsThatCannotShareTheRanksAreRefused) {
  EXPECT_THAT(WhyNotTogether({"group.hosts.count=2"}),
              HasSubstr("group.hosts.leader must name host 0"));
  EXPECT_THAT(
      WhyNotTogether({"group.hosts.count=2", "group.hosts.leader=a", "group.tensor_parallel=3"}),
      HasSubstr("group.tensor_parallel is 3: it does not divide among 2 hosts"));
  EXPECT_EQ(WhyNotTogether({"group.hosts.count=2", "group.hosts.leader=a"}), "");
  EXPECT_EQ(WhyNotTogether({"group.hosts.place=environment"}), "");
}

constexpr char kModels[] = CONCLAVE_SOURCE_DIR "/models/";

// What is wrong with the model's folder.
std::string WhyNotServed(const std::string& folder, int tensor_parallel = 1) {
  const absl::Status status =
      LoadWorkerConfig(
          "",
          {"model.directory=" + folder, fmt::format("group.tensor_parallel={}", tensor_parallel)},
          NamedFiles::kCheck)
          .status();
  return std::string(MessageOf(status));
}

TEST(WorkerConfigTest, TheShippedModelsFolderIsRight) {
  EXPECT_EQ(WhyNotServed(std::string(kModels) + "conclave-demo"), "");
}

TEST(WorkerConfigTest, AFolderForFlightsThatCannotBeMadeIsFoundBeforeAGroupIsLost) {
  const auto why_not = [](const std::string& folder) {
    const absl::Status status =
        LoadWorkerConfig("",
                         {std::string("model.directory=") + kModels + "conclave-demo",
                          "group.tensor_parallel=1", "launcher.flight_directory=" + folder},
                         NamedFiles::kCheck)
            .status();
    return std::string(MessageOf(status));
  };

  EXPECT_EQ(why_not(testing::TempDir() + "/not_yet/there/"), "");
  EXPECT_EQ(why_not("not-yet"), "");
  EXPECT_THAT(why_not("/dev/null/flights"),
              HasSubstr("launcher.flight_directory: /dev/null is not a folder"));
}

TEST(WorkerConfigTest, AModelThatDoesNotDivideAmongTheRanksIsFoundBeforeTheyStart) {
  EXPECT_THAT(WhyNotServed(std::string(kModels) + "conclave-demo", 3),
              HasSubstr("model.directory: group.tensor_parallel: "));
}

TEST(WorkerConfigTest, EveryFileThatAModelLacksIsNamed) {
  const std::string folder = testing::TempDir() + "/no_model";
  std::filesystem::create_directories(folder);
  const std::string why = WhyNotServed(folder);
  for (const char* file : {"config.json", "model.safetensors", "tokenizer.json"}) {
    EXPECT_THAT(why, HasSubstr(file));
  }
  EXPECT_THAT(WhyNotServed("/nonexistent/model"), HasSubstr("/nonexistent/model is not a folder"));
}

}  // namespace
}  // namespace conclave::worker
