#include "common/wire/prompt_wire.h"

#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave {
namespace {

Prompt Some() {
  return {.text = "<a>hi",
          .runs = {{3, false}, {5, true}},
          .tokens = {{7, "<a>", true}, {2, "h", false}, {3, "\xff", false}}};
}

TEST(PromptWireTest, APromptComesBackFromBothApis) {
  v1::RenderResponse inside;
  v1::RenderPromptResponse outside;
  ToWire(Some(), &inside);
  ToWire(Some(), &outside);

  const auto from_worker = FromWire(inside), from_router = FromWire(outside);

  ASSERT_TRUE(from_worker.ok()) << from_worker.status();
  ASSERT_TRUE(from_router.ok()) << from_router.status();
  EXPECT_EQ(*from_worker, Some());
  EXPECT_EQ(*from_router, Some());
}

TEST(PromptWireTest, AnEmptyPromptComesBack) {
  v1::RenderResponse wire;
  ToWire({}, &wire);

  EXPECT_EQ(*FromWire(wire), Prompt{});
}

TEST(PromptWireTest, WhatContradictsItselfIsRefused) {
  const auto refused = [](void (*spoil)(v1::RenderResponse&)) {
    v1::RenderResponse wire;
    ToWire(Some(), &wire);
    spoil(wire);
    return FromWire(wire).status().code();
  };
  using Wire = v1::RenderResponse;
  const auto wrong = absl::StatusCode::kInternal;
  EXPECT_EQ(refused([](Wire& w) { w.mutable_runs(1)->set_end(6); }), wrong);
  EXPECT_EQ(refused([](Wire& w) { w.mutable_runs(1)->set_end(4); }), wrong);
  EXPECT_EQ(refused([](Wire& w) { w.mutable_runs(0)->set_end(5); }), wrong);
  EXPECT_EQ(refused([](Wire& w) { w.mutable_runs(0)->set_end(-1); }), wrong);
  EXPECT_EQ(refused([](Wire& w) { w.mutable_runs(0)->set_end(0); }), wrong);
  EXPECT_EQ(refused([](Wire& w) { w.add_tokens(1); }), wrong);
  EXPECT_EQ(refused([](Wire& w) { w.clear_text(); }), wrong);
}

TEST(PromptWireTest, AVersionThatDoesNotTellTheAuthorsIsToldApart) {
  v1::RenderResponse wire;
  wire.set_text("x");
  wire.add_tokens(1);

  EXPECT_EQ(FromWire(wire).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace conclave
