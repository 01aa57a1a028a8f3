#include "tests/unit/router/fleet/scripted_worker.h"

#include <atomic>
#include <utility>

#include "common/status.h"
#include "router/fleet/grpc_worker_client.h"

namespace conclave::router {

class ScriptedWorker::Service : public v1::WorkerService::Service {
 public:
  explicit Service(WorkerScript script) : script_(std::move(script)) {}

  grpc::Status Run(grpc::ServerContext* context, RunStream* stream) override {
    return script_.run(*context, *stream);
  }
  grpc::Status Describe(grpc::ServerContext*, const v1::DescribeRequest*,
                        v1::DescribeResponse* response) override {
    return script_.describe(describes_++, *response);
  }
  grpc::Status WatchLoad(grpc::ServerContext* context, const v1::WatchLoadRequest*,
                         LoadStream* stream) override {
    return script_.watch_load(*context, *stream);
  }
  grpc::Status Count(grpc::ServerContext*, const v1::CountRequest* request,
                     v1::CountResponse* response) override {
    return script_.count(*request, *response);
  }
  grpc::Status Render(grpc::ServerContext*, const v1::RenderRequest* request,
                      v1::RenderResponse* response) override {
    return script_.render(*request, *response);
  }

 private:
  const WorkerScript script_;
  std::atomic<int> describes_ = 0;
};

ScriptedWorker::ScriptedWorker(WorkerScript script)
    : service_(std::make_unique<Service>(std::move(script))) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(service_.get());
  server_ = builder.BuildAndStart();
}

ScriptedWorker::~ScriptedWorker() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
}

std::shared_ptr<grpc::Channel> ScriptedWorker::channel() {
  return MakeWorkerChannel(fmt::format("127.0.0.1:{}", port_), grpc::InsecureChannelCredentials(),
                           {});
}

void Diary::Write(std::string line) {
  absl::MutexLock lock(&mutex_);
  lines_.push_back(std::move(line));
}

std::vector<std::string> Diary::First(size_t count) const {
  absl::MutexLock lock(&mutex_);
  const auto there = [&] { return lines_.size() >= count; };
  mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(60));
  return {lines_.begin(), lines_.begin() + static_cast<ptrdiff_t>(std::min(count, lines_.size()))};
}

}  // namespace conclave::router
