#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

// gRPC 1.51 frees its process-wide callback queue twice when the last channel or server that uses
// it goes while its threads still run. A test binary that links this file keeps one channel on that
// queue until it exits.
namespace conclave {
namespace {

class CallbackQueueKeeper : public ::testing::Environment {
 public:
  void SetUp() override {
    // Never destroyed; reachable, so no leak.
    static grpc::GenericStub& stub = *new grpc::GenericStub(
        grpc::CreateChannel("unix:nobody", grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    const grpc::Slice nothing;
    grpc::ByteBuffer request(&nothing, 1), response;
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    stub.UnaryCall(&context, "/none", {}, &request, &response, [&](const grpc::Status&) {
      const std::lock_guard<std::mutex> lock(mutex);
      done = true;
      changed.notify_one();
    });
    std::unique_lock<std::mutex> lock(mutex);
    changed.wait(lock, [&] { return done; });
  }
};

const auto* const keeper = ::testing::AddGlobalTestEnvironment(new CallbackQueueKeeper);

}  // namespace
}  // namespace conclave
