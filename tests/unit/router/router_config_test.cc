#include "router/router_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "router/admission/keys.h"
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
              HasSubstr("server.listn: unknown key; did you mean \"server.listen\"?"));
  EXPECT_THAT(WhyNot("limits.max_agents=65"), HasSubstr("limits.max_agents"));
  EXPECT_THAT(WhyNot("limits.max_agents=65"), HasSubstr("64"));
  EXPECT_THAT(WhyNot("limits.deadline=5"), HasSubstr("limits.deadline"));
  EXPECT_THAT(WhyNot("server.threads=0"), HasSubstr("server.threads"));
  EXPECT_THAT(WhyNot("log.level=loud"), HasSubstr("debug, info, warning, error"));
  EXPECT_THAT(WhyNot("workers.addresses=[]"), HasSubstr("must name at least one group"));
  EXPECT_THAT(WhyNot("admission.tenants=[{name: a}]"), HasSubstr("at least one SHA-256"));
  EXPECT_THAT(WhyNot("admission.tenants=[{name: a, keys: [secret]}]"),
              HasSubstr("admission.tenants[0].keys: tenant a: a key must be 64"));
  EXPECT_THAT(WhyNot("workers.addresses=[gpu1]"), HasSubstr("\"gpu1\" is not HOST:PORT"));
  EXPECT_THAT(WhyNot("workers.addresses=[a:1, a:1]"), HasSubstr("\"a:1\" is there twice"));
  EXPECT_THAT(WhyNot("server.listen=0.0.0.0"), HasSubstr("server.listen: \"0.0.0.0\" is not"));
  EXPECT_THAT(WhyNot("health.listen=127.0.0.1:9100"),
              HasSubstr("health.listen: \"127.0.0.1:9100\" is server.listen too"));
  EXPECT_THAT(WhyNot("server.tls.authority=ca.pem"), HasSubstr("certificate of its own"));
  EXPECT_THAT(WhyNot("workers.tls.key=a.key"), HasSubstr("certificate and key go together"));
  EXPECT_THAT(WhyNot("workers.adress=[a:1]"), HasSubstr("did you mean \"workers.addresses\"?"));
  EXPECT_THAT(WhyNot("tensor_parallel=2"), HasSubstr("tensor_parallel: unknown key"));
}

TEST(RouterConfigTest, FilesThatAreNamedAreLookedAtWhenAsked) {
  const std::vector<std::string> settings = {
      "server.tls={certificate: /nonexistent/a.pem, key: /nonexistent/a.key}",
      "ports_file=/nonexistent/ports"};
  EXPECT_TRUE(LoadRouterConfig(kShipped, settings).ok());
  const absl::Status status = LoadRouterConfig(kShipped, settings, NamedFiles::kCheck).status();
  EXPECT_THAT(MessageOf(status),
              HasSubstr("server.tls.certificate: /nonexistent/a.pem: No such file"));
  EXPECT_THAT(MessageOf(status), HasSubstr("server.tls.key: /nonexistent/a.key: No such file"));
  EXPECT_THAT(MessageOf(status), HasSubstr("ports_file: /nonexistent is not a folder"));
}

TEST(RouterConfigTest, GroupsAreNamedByAListOrByDnsOrByBoth) {
  const auto dns = LoadRouterConfig("", {"workers.dns=groups.default.svc:9101"});
  ASSERT_TRUE(dns.ok()) << dns.status();
  EXPECT_EQ(dns->workers_dns, "groups.default.svc:9101");
  EXPECT_THAT(dns->workers, IsEmpty());
  const auto none = LoadRouterConfig(kShipped, {"workers.dns=groups:9101", "workers.addresses=[]"});
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_THAT(none->workers, IsEmpty());
  const auto both =
      LoadRouterConfig("", {"workers.dns=groups:9101", "workers.addresses=[gpu1:9101]",
                            "workers.max_groups=1", "workers.resolve_every=100ms"});
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->workers.size(), 1u);
  EXPECT_EQ(both->resolve_every, absl::Milliseconds(100));

  EXPECT_THAT(WhyNot("workers.dns=groups"), HasSubstr("workers.dns: \"groups\" is not HOST:PORT"));
  EXPECT_THAT(WhyNot("workers.dns=groups:0"), HasSubstr("the port must be 1 to 65535"));
  EXPECT_THAT(WhyNot("workers.dns=dns:///groups:9101"), HasSubstr("workers.dns"));
  EXPECT_THAT(WhyNot("workers.resolve_every=1ms"), HasSubstr("workers.resolve_every"));
  EXPECT_THAT(WhyNot("workers.max_groups=0"), HasSubstr("workers.max_groups"));
  const absl::Status many =
      LoadRouterConfig(kShipped, {"workers.addresses=[a:1, b:1]", "workers.max_groups=1"}).status();
  EXPECT_THAT(std::string(MessageOf(many)),
              HasSubstr("workers.addresses: names 2 groups; workers.max_groups is 1"));
}

TEST(RouterConfigTest, TenantsAreRead) {
  const auto config = LoadRouterConfig(
      "", {fmt::format("admission.tenants=[{{name: a, keys: [{}], max_requests: 3, weight: 2}}]",
                       DigestOf("secret"))});
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->admission.tenants.size(), 1u);
  EXPECT_EQ(config->admission.tenants[0].name, "a");
  EXPECT_EQ(config->admission.tenants[0].max_requests, 3);
  EXPECT_EQ(config->admission.tenants[0].max_agents, TenantOptions().max_agents);
  EXPECT_EQ(config->admission.tenants[0].weight, 2);
}

}  // namespace
}  // namespace conclave::router
