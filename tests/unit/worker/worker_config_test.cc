#include "worker/worker_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  EXPECT_THAT(WhyNot("group.tensor_paralel=2"), HasSubstr("did you mean \"tensor_parallel\"?"));
  EXPECT_THAT(WhyNot("group.tensor_parallel=65"), HasSubstr("64"));
  EXPECT_THAT(WhyNot("group.instruction_set=sse"), HasSubstr("auto, avx512, avx2, plain"));
  EXPECT_THAT(WhyNot("group.compute=fp4"), HasSubstr("f32, bf16"));
  EXPECT_THAT(WhyNot("group.kv_tokens=1"), HasSubstr("group.kv_tokens"));
  EXPECT_THAT(WhyNot("group.plans_in_flight=3"), HasSubstr("group.plans_in_flight"));
  EXPECT_THAT(WhyNot("server.max_message=1KiB"), HasSubstr("server.max_message"));
  EXPECT_THAT(WhyNot("launcher.beat=1ms"), HasSubstr("launcher.beat"));
  EXPECT_THAT(WhyNot("model.directory=\"\""), HasSubstr("must name the model's folder"));
}

}  // namespace
}  // namespace conclave::worker
