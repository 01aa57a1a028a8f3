#include "cli/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/exit_code.h"
#include "cli/terminal_text.h"
#include "tests/unit/cli/fake_router.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

v1::ListModelsResponse Models() {
  v1::ListModelsResponse response;
  v1::Model& model = *response.add_models();
  v1::ModelDescription& d = *model.mutable_description();
  d.set_name("conclave-demo");
  d.set_family("llama");
  d.set_vocabulary(640);
  d.set_fingerprint("0123456789abcdef");
  d.set_numerics("cpu/avx512/f32/kv-f32/v1");
  d.set_tensor_parallel(2);
  d.set_max_positions(1024);
  d.set_kv_tokens(65'536);
  d.set_parameters(1'070'000);
  model.set_groups(2);
  model.set_groups_ready(1);
  model.set_max_agents(64);
  model.add_modes(v1::MODE_INSTANT);
  model.add_modes(v1::MODE_CONTEMPLATING);
  return response;
}

TEST(ModelsTextTest, EachModelSaysWhatItServes) {
  EXPECT_EQ(ModelsText(Models(), false),
            "model          family     params  context vocabulary agents groups ready\n"
            "conclave-demo  llama       1.07M     1024        640     64       1 of 2\n"
            "  instant, contemplating; fingerprint 0123456789ab\n"
            "  cpu/avx512/f32/kv-f32/v1, 2 ranks, KV for 65536 tokens\n");
}

TEST(ModelsTextTest, WhatAnOlderRouterDoesNotSayIsLeftOpen) {
  v1::ListModelsResponse response = Models();
  response.mutable_models(0)->clear_groups();
  response.mutable_models(0)->mutable_description()->clear_family();
  response.mutable_models(0)->mutable_description()->clear_vocabulary();

  EXPECT_THAT(ModelsText(response, false), HasSubstr("conclave-demo  -           1.07M"));
  EXPECT_THAT(ModelsText(response, false), HasSubstr(" - "));
  EXPECT_THAT(ModelsText(response, false), HasSubstr("1 of 1\n"));
}

TEST(ModelsTextTest, NoModelIsNoEmptyTable) {
  EXPECT_THAT(ModelsText({}, false), HasSubstr("no worker group was met yet"));
}

TEST(ModelsTextTest, NamesCannotSteerTheTerminal) {
  v1::ListModelsResponse response = Models();
  response.mutable_models(0)->mutable_description()->set_name("\x1b[2Jx");

  EXPECT_THAT(ModelsText(response, false), HasSubstr("?[2Jx"));
}

TEST(ModelsTest, ARouterIsAskedAndProgramsGetJson) {
  RouterScript script;
  script.models = Models();
  FakeRouter router(std::move(script));
  ModelsOptions options;
  options.router = router.address();
  options.json = true;
  std::ostringstream out;

  ASSERT_EQ(ListModels(options, out, false), kExitOk);

  EXPECT_EQ(nlohmann::json::parse(out.str())["models"][0]["description"]["family"], "llama");
}

}  // namespace
}  // namespace conclave::cli
