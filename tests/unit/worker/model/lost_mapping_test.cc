#include "worker/model/lost_mapping.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>

#include <filesystem>
#include <string>

#include "tests/unit/worker/model/checkpoint.h"
#include "worker/model/safetensors.h"

namespace conclave::worker {
namespace {

TEST(LostMappingTest, AWeightFileThatBecomesShorterIsNamedAndEndsTheProcess) {
  TemporaryFolder folder;
  folder.Write("model.safetensors", MakeSafetensors({{"a", {1 << 18}}}));
  const auto weights = Safetensors::Open(folder.path());
  ASSERT_TRUE(weights.ok()) << weights.status();
  constexpr size_t kWords = 4096;
  // Shared with the process that ends, as a rank's last words are with its launcher.
  auto* words = static_cast<char*>(
      mmap(nullptr, kWords, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));

  const auto read_what_is_gone = [&] {
    EndOnLostMapping({words, kWords});
    std::filesystem::resize_file(folder.path() / "model.safetensors", 4096);
    weights->Hash("").IgnoreError();
  };

  EXPECT_EXIT(read_what_is_gone(), testing::ExitedWithCode(1),
              "/model.safetensors: became shorter while it was in use, or its disk failed\n$");
  EXPECT_EQ(std::string(words), folder.path().string() +
                                    "/model.safetensors: became shorter while it was in use, or "
                                    "its disk failed");
  munmap(words, kWords);
}

TEST(LostMappingTest, AFileThatIsNoLongerMappedHasNoPartInIt) {
  const auto die = [] {
    EndOnLostMapping({});
    const int fd = open("/proc/self/exe", O_RDONLY);
    void* page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 1LL << 40);  // Beyond its end.
    const std::string name = "weights";
    { const NamedMapping mapping(page, 4096, name); }
    raise(*static_cast<volatile char*>(page));
  };
  EXPECT_EXIT(die(), testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace conclave::worker
