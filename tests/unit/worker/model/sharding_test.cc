#include "worker/model/sharding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

ModelConfig Model(int heads, int kv_heads, int ffn, int vocab) {
  ModelConfig model;
  model.heads = heads;
  model.kv_heads = kv_heads;
  model.ffn = ffn;
  model.vocab = vocab;
  model.head_width = 4;
  return model;
}

TEST(ShardingTest, RanksTogetherHoldEverythingOnce) {
  for (const int size : {1, 2, 4, 8}) {
    const ModelConfig model = Model(16, 8, 64, 1003);
    int heads = 0, ffn = 0, vocab = 0, kv = 0;
    for (int rank = 0; rank < size; ++rank) {
      const auto shard = ShardOf(model, rank, size);
      ASSERT_TRUE(shard.ok()) << shard.status();
      EXPECT_EQ(shard->heads.begin, heads);
      EXPECT_EQ(shard->kv_heads.begin, kv);
      EXPECT_EQ(shard->ffn.begin, ffn);
      EXPECT_EQ(shard->vocab.begin, vocab);
      heads = shard->heads.end, kv = shard->kv_heads.end, ffn = shard->ffn.end;
      vocab = shard->vocab.end;
      EXPECT_EQ(shard->vocab_width, (1003 + size - 1) / size);
    }
    EXPECT_EQ(heads, 16);
    EXPECT_EQ(kv, 8);
    EXPECT_EQ(ffn, 64);
    EXPECT_EQ(vocab, 1003);
  }
}

TEST(ShardingTest, KvHeadsAreCopiedToTheRanksOfTheirQueries) {
  const ModelConfig model = Model(8, 2, 8, 8);
  for (int rank = 0; rank < 8; ++rank) {
    const auto shard = ShardOf(model, rank, 8);
    ASSERT_TRUE(shard.ok());
    EXPECT_EQ(shard->heads.begin, rank);
    EXPECT_EQ(shard->kv_heads.begin, rank / 4);
    EXPECT_EQ(shard->kv_heads.size(), 1);
  }
}

TEST(ShardingTest, ASmallVocabularyLeavesTheLastRanksWithoutIds) {
  const auto last = ShardOf(Model(8, 8, 8, 9), 7, 8);
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last->vocab_width, 2);
  EXPECT_EQ(last->vocab.size(), 0);
}

TEST(ShardingTest, EveryRankHoldsAPartOfEachExpert) {
  ModelConfig model = Model(8, 8, 6, 8);
  model.experts = {.count = 3, .chosen = 1, .ffn = 20, .renormalise = false};
  model.layer = {{.window = 0, .experts = true}, {.window = 0, .experts = true}};
  const auto shard = ShardOf(model, 1, 4);
  ASSERT_TRUE(shard.ok()) << shard.status();  // No layer has the MLP whose 6 do not divide.
  EXPECT_EQ(shard->expert_ffn.begin, 5);
  EXPECT_EQ(shard->expert_ffn.end, 10);
  EXPECT_EQ(shard->ffn.size(), 0);

  model.layer[1].experts = false;
  EXPECT_THAT(std::string(MessageOf(ShardOf(model, 1, 4).status())),
              HasSubstr("intermediate_size 6 does not divide among 4"));
  model.ffn = 8;
  EXPECT_EQ(ShardOf(model, 1, 4)->ffn.size(), 2);
  model.experts.ffn = 6;
  EXPECT_THAT(std::string(MessageOf(ShardOf(model, 1, 4).status())),
              HasSubstr("moe_intermediate_size 6 does not divide among 4"));
}

TEST(ShardingTest, WhatDoesNotDivideIsRefusedWithTheNumbers) {
  const auto why = [](const ModelConfig& model, int size) {
    return std::string(MessageOf(ShardOf(model, 0, size).status()));
  };
  EXPECT_THAT(why(Model(6, 6, 8, 8), 4),
              HasSubstr("num_attention_heads 6 does not divide among 4"));
  EXPECT_THAT(why(Model(8, 8, 10, 8), 4), HasSubstr("intermediate_size 10 does not divide"));
  EXPECT_THAT(why(Model(12, 3, 12, 8), 4), HasSubstr("num_key_value_heads 3 does not divide"));
  EXPECT_FALSE(ShardOf(Model(8, 8, 8, 8), 2, 2).ok());
  EXPECT_FALSE(ShardOf(Model(8, 8, 8, 8), -1, 2).ok());
}

}  // namespace
}  // namespace conclave::worker
