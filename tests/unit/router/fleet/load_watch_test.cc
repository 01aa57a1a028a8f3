#include "router/fleet/load_watch.h"

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/wire/family_wire.h"
#include "common/wire/model_wire.h"
#include "router/fleet/grpc_worker_client.h"
#include "tests/unit/router/fleet/scripted_worker.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WrittenGroup : public GroupEvents {
 public:
  explicit WrittenGroup(Diary& diary) : diary_(diary) {}
  void OnDescribed(GroupDescription description) override {
    diary_.Write(fmt::format("{} epoch {} {}", description.model.name, description.epoch,
                             description.last_loss));
  }
  void OnLoad(GroupLoad load) override { diary_.Write(fmt::format("credits {}", load.credits)); }
  void OnGone(absl::Status why) override { diary_.Write(fmt::format("gone {}", MessageOf(why))); }

 private:
  Diary& diary_;
};

v1::ModelDescription Model() {
  ModelDescription model;
  model.name = "m";
  model.fingerprint = std::string(64, 'f');
  model.numerics = "cpu";
  model.max_positions = 512;
  model.max_agents = 8;
  model.kv_tokens = 1024;
  model.decision_version = 1;
  model.profile.aggregate_text = "{question}{candidates}";
  model.profile.candidate_line = "{index}{answer}";
  model.profile.max_candidates = 4;
  return ToWire(model);
}

v1::WatchLoadResponse Load(int credits) {
  GroupLoad load;
  load.credits = credits;
  load.ready = true;
  load.epoch = 1;
  return ToWire(load);
}

class LoadWatchTest : public ::testing::Test {
 protected:
  LoadWatchTest() {
    script_.describe = [](int call, v1::DescribeResponse& response) {
      *response.mutable_model() = Model();
      response.set_epoch(call + 1);
      if (call > 0) response.set_last_loss("it broke");
      return grpc::Status::OK;
    };
  }
  void Watch() {
    worker_ = std::make_unique<ScriptedWorker>(script_);
    const WatchBackoff backoff{.least = absl::Milliseconds(1), .most = absl::Milliseconds(4)};
    client_ = std::make_unique<GrpcWorkerClient>(worker_->channel(), timers_, backoff);
    watch_ = client_->Watch(events_);
  }

  Diary told_;
  WrittenGroup events_{told_};
  TimerThread timers_;
  WorkerScript script_;
  std::unique_ptr<ScriptedWorker> worker_;
  std::unique_ptr<GrpcWorkerClient> client_;
  std::unique_ptr<GroupWatch> watch_;
};

TEST_F(LoadWatchTest, AGroupIsDescribedThenItsLoadFollowed) {
  absl::Notification seen;
  script_.watch_load = [&](auto&, LoadStream& stream) {
    stream.Write(Load(8));
    stream.Write(Load(3));
    seen.WaitForNotification();
    return grpc::Status::OK;
  };
  Watch();
  EXPECT_THAT(told_.First(3), ElementsAre("m epoch 1 ", "credits 8", "credits 3"));
  watch_.reset();
  told_.Write("let go");
  seen.Notify();
  worker_.reset();
  told_.Write("over");
  EXPECT_EQ(told_.First(5)[4], "over");
}

TEST_F(LoadWatchTest, AfterABreakItIsDescribedAnew) {
  script_.watch_load = [](auto&, LoadStream& stream) {
    stream.Write(Load(8));
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the ranks are gone");
  };
  Watch();
  const auto lines = told_.First(5);
  EXPECT_THAT(lines, ElementsAre("m epoch 1 ", "credits 8", "gone the ranks are gone",
                                 "m epoch 2 it broke", "credits 8"));
  watch_.reset();
}

TEST_F(LoadWatchTest, AGroupThatCannotBeReachedIsTriedAgain) {
  absl::Notification seen;
  script_.describe = [](int call, v1::DescribeResponse& response) {
    if (call < 3) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "starting");
    *response.mutable_model() = Model();
    return grpc::Status::OK;
  };
  script_.watch_load = [&](auto&, LoadStream& stream) {
    stream.Write(Load(1));
    seen.WaitForNotification();
    return grpc::Status::OK;
  };
  Watch();
  EXPECT_THAT(told_.First(5), ElementsAre("gone starting", "gone starting", "gone starting",
                                          "m epoch 0 ", "credits 1"));
  seen.Notify();
  watch_.reset();
  worker_.reset();  // Its call uses what is local here.
}

TEST_F(LoadWatchTest, ADescriptionThatCannotBeReadSaysWhatIsWrong) {
  script_.describe = [](int, v1::DescribeResponse& response) {
    *response.mutable_model() = Model();
    response.mutable_model()->set_tensor_parallel(-1);
    return grpc::Status::OK;
  };
  Watch();
  const auto lines = told_.First(1);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("tensor_parallel"));
  watch_.reset();
}

TEST_F(LoadWatchTest, ALoadThatCannotBeReadEndsTheStream) {
  script_.watch_load = [](grpc::ServerContext& context, LoadStream& stream) {
    v1::WatchLoadResponse load = Load(1);
    load.set_credits(-5);
    stream.Write(load);
    while (!context.IsCancelled() && stream.Write(Load(2))) {
    }
    return grpc::Status::OK;
  };
  Watch();
  const auto lines = told_.First(2);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[1], HasSubstr("credits"));
  watch_.reset();
}

TEST_F(LoadWatchTest, BytesThatAreNoLoadEndTheStream) {
  script_.watch_load = [](grpc::ServerContext& context, LoadStream& stream) {
    v1::WatchLoadResponse load = Load(1);
    load.GetReflection()->MutableUnknownFields(&load)->AddVarint(0, 1);  // There is no field 0.
    stream.Write(load);
    while (!context.IsCancelled() && stream.Write(Load(2))) {
    }
    return grpc::Status::OK;
  };
  Watch();
  const auto lines = told_.First(2);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[1], HasSubstr("the bytes are no WatchLoadResponse"));
  watch_.reset();
}

TEST_F(LoadWatchTest, WatchesThatAreLetGoAtOnceLeaveNothingBehind) {
  script_.watch_load = [](grpc::ServerContext& context, LoadStream& stream) {
    while (!context.IsCancelled() && stream.Write(Load(2))) {
    }
    return grpc::Status::OK;
  };
  Watch();
  for (int i = 0; i < 50; ++i) watch_ = client_->Watch(events_);
  watch_.reset();
}

}  // namespace
}  // namespace conclave::router
