#include "worker/launch/host_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

HostReport FullReport() {
  HostReport report{.beat = 9, .epoch = {.number = 3, .nonce = 5}, .fault = {}, .leaving = true};
  RankReport rank{.identity = "identity", .address = "address"};
  rank.sight = {.pid = 12,
                .exit = RankExit{.code = 0, .signal = 9},
                .stopped = true,
                .last_words = "words",
                .ready = true,
                .beat = 7,
                .step_begun = 5,
                .step_done = 4,
                .step_patience = absl::Seconds(6)};
  report.ranks = {rank, {}};
  return report;
}

std::string WhyNot(const std::function<void(v1::HostReport&)>& change) {
  v1::HostReport wire = ToWire(FullReport());
  change(wire);
  return std::string(FromWire(wire).status().message());
}

TEST(HostWireTest, AReportArrivesAsItWas) {
  const HostReport sent = FullReport();
  const auto report = FromWire(ToWire(sent));

  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->beat, 9u);
  EXPECT_EQ(report->epoch, sent.epoch);
  EXPECT_TRUE(report->leaving);
  ASSERT_EQ(report->ranks.size(), 2u);
  const RankSight& sight = report->ranks[0].sight;
  EXPECT_EQ(report->ranks[0].identity, "identity");
  EXPECT_EQ(report->ranks[0].address, "address");
  EXPECT_EQ(sight.pid, 12);
  EXPECT_EQ(sight.exit->signal, 9);
  EXPECT_TRUE(sight.stopped && sight.ready);
  EXPECT_EQ(sight.last_words, "words");
  EXPECT_EQ(sight.beat, 7u);
  EXPECT_EQ(sight.step_begun, 5u);
  EXPECT_EQ(sight.step_done, 4u);
  EXPECT_EQ(sight.step_patience, absl::Seconds(6));
  EXPECT_FALSE(report->ranks[1].sight.exit.has_value());
}

TEST(HostWireTest, WordsOfAProcessThatAreNotUtf8AreSentAsUtf8AndWithinTheirLimit) {
  HostReport report = FullReport();
  report.ranks[0].sight.last_words = "cannot open \xFF\xFE.bin";
  report.ranks[0].identity = std::string(4095, 'i') + "\xC3\xA9";
  report.fault = "half a character: \xE4\xB8";

  const std::string bytes = ToWire(report).SerializeAsString();
  v1::HostReport wire;

  ASSERT_TRUE(wire.ParseFromString(bytes));
  EXPECT_EQ(wire.ranks(0).last_words(), "cannot open \uFFFD\uFFFD.bin");
  EXPECT_EQ(wire.ranks(0).identity(), std::string(4095, 'i'));
  EXPECT_EQ(wire.fault(), "half a character: \uFFFD");
  v1::JoinResponse orders;
  EXPECT_TRUE(orders.ParseFromString(ToWire(HostOrders{.last_loss = "\xFF"}).SerializeAsString()));
}

TEST(HostWireTest, OrdersArriveAsTheyWere) {
  const HostOrders sent{.beat = 4,
                        .epoch = {.number = 2, .nonce = 8},
                        .ready = true,
                        .last_loss = "why",
                        .addresses = {"a", "b"},
                        .collective_id = std::string("i\0d", 3),
                        .plan_port = 65'535};

  EXPECT_EQ(*FromWire(ToWire(sent)), sent);
  EXPECT_EQ(*FromWire(ToWire(HostOrders())), HostOrders());
}

TEST(HostWireTest, WhatAPeerMustNotSayIsNamed) {
  const std::string long_text(4097, 'x');
  EXPECT_THAT(WhyNot([](auto& wire) { wire.mutable_ranks(1)->set_pid(-1); }),
              HasSubstr("ranks[1]: pid is -1"));
  EXPECT_THAT(WhyNot([](auto& wire) { wire.mutable_ranks(0)->mutable_exit()->set_signal(65); }),
              HasSubstr("exit.signal is 65"));
  EXPECT_THAT(WhyNot([](auto& wire) { wire.mutable_ranks(0)->set_step_patience_ns(-1); }),
              HasSubstr("step_patience_ns is -1"));
  EXPECT_THAT(WhyNot([&](auto& wire) { wire.mutable_ranks(0)->set_address(long_text); }),
              HasSubstr("address has 4097 bytes; the limit is 4096"));
  EXPECT_THAT(WhyNot([](auto& wire) {
                for (int i = 0; i < 63; ++i) wire.add_ranks();
              }),
              HasSubstr("ranks is 65"));

  v1::JoinResponse orders;
  orders.set_plan_port(65'536);
  EXPECT_THAT(std::string(FromWire(orders).status().message()), HasSubstr("plan_port is 65536"));
}

}  // namespace
}  // namespace conclave::worker
