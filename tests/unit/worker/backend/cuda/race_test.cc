// What the emulator finds in kernels that are compiled to tell of their loads and stores.

#include "tests/unit/worker/backend/cuda/platform_test_kernels.h"
#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

using RaceTest = Rig;
using RaceDeathTest = Rig;

TEST_F(RaceTest, BarriersOrderAccesses) {
  float* out = Poisoned<float>(192);
  MayRace(Race::kNone, out, stream());
  Sync();
}

TEST_F(RaceDeathTest, UnorderedAccessesAreFound) {
  float* out = Poisoned<float>(192);
  const auto run = [&](Race race) {
    MayRace(race, out, stream());
    Sync();
  };
  EXPECT_DEATH(run(Race::kSharedWriteRead), "race on a byte of shared memory");
  EXPECT_DEATH(run(Race::kSharedReadWrite), "race on a byte of shared memory");
  EXPECT_DEATH(run(Race::kWarp), "race on a byte of shared memory");
  EXPECT_DEATH(run(Race::kCopy), "race on a byte of shared memory");
  EXPECT_DEATH(run(Race::kGlobal), "race on a byte of global memory");
  EXPECT_DEATH(run(Race::kWriteEarly), "before GridDependencyWait");
  const auto run_after_another = [&](Race race) {
    MayRace(Race::kNone, out, stream());
    run(race);
  };
  run_after_another(Race::kNone);
  EXPECT_DEATH(run_after_another(Race::kReadEarly), "before GridDependencyWait");
}

TEST_F(RaceTest, CollidingWritesMayStandWhereThatIsSaid) {
  emulated::collisions_may_stand = true;
  MayRace(Race::kGlobal, Poisoned<float>(192), stream());
  Sync();
  emulated::collisions_may_stand = false;
}

}  // namespace
}  // namespace conclave::worker::cuda
