#include "router/router_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/fakes/config_document.h"

namespace conclave::router {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kShipped[] = CONCLAVE_SOURCE_DIR "/configs/router.yaml";

TEST(RouterConfigTest, TheShippedFileSaysTheDefaults) {
  const auto shipped = LoadRouterConfig(kShipped, {});
  ASSERT_TRUE(shipped.ok()) << shipped.status();
  EXPECT_EQ(*shipped, RouterConfig());
  EXPECT_EQ(*LoadRouterConfig("", {}), RouterConfig());
}

TEST(RouterConfigTest, TheShippedFileNamesEveryKey) {
  EXPECT_THAT(KeysWithoutALine("router/router_config.cc", "configs/router.yaml"), IsEmpty());
}

std::string WhyNot(const std::string& override_) {
  const absl::Status status = LoadRouterConfig(kShipped, {override_}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << override_;
  return std::string(MessageOf(status));
}

TEST(RouterConfigTest, MistakesAreNamedWithWhatIsAllowed) {
  EXPECT_THAT(WhyNot("server.listn=x"),
              HasSubstr("server.listn: unknown key; did you mean \"listen\"?"));
  EXPECT_THAT(WhyNot("limits.max_agents=65"), HasSubstr("limits.max_agents"));
  EXPECT_THAT(WhyNot("limits.max_agents=65"), HasSubstr("64"));
  EXPECT_THAT(WhyNot("limits.deadline=5"), HasSubstr("limits.deadline"));
  EXPECT_THAT(WhyNot("server.threads=0"), HasSubstr("server.threads"));
  EXPECT_THAT(WhyNot("log.level=loud"), HasSubstr("debug, info, warning, error"));
  EXPECT_THAT(WhyNot("workers.addresses=[]"), HasSubstr("must name at least one group"));
  EXPECT_THAT(WhyNot("admission.tenants=[{name: a}]"), HasSubstr("at least one SHA-256"));
}

TEST(RouterConfigTest, TenantsAreRead) {
  const auto config = LoadRouterConfig(
      "", {"admission.tenants=[{name: a, keys: [x], max_requests: 3, weight: 2}]"});
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->admission.tenants.size(), 1u);
  EXPECT_EQ(config->admission.tenants[0].name, "a");
  EXPECT_EQ(config->admission.tenants[0].max_requests, 3);
  EXPECT_EQ(config->admission.tenants[0].max_agents, TenantOptions().max_agents);
  EXPECT_EQ(config->admission.tenants[0].weight, 2);
}

}  // namespace
}  // namespace conclave::router
