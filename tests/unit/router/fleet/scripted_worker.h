#pragma once

#include <absl/synchronization/mutex.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/bounded_queue.h"
#include "conclave/v1/worker.grpc.pb.h"

namespace conclave::router {

using RunStream = grpc::ServerReaderWriter<v1::RunResponse, v1::RunRequest>;
using LoadStream = grpc::ServerWriter<v1::WatchLoadResponse>;

// A worker whose calls a test writes. Functions run on gRPC's threads; set them before the first
// call.
struct WorkerScript {
  std::function<grpc::Status(grpc::ServerContext&, RunStream&)> run;
  std::function<grpc::Status(int call, v1::DescribeResponse&)> describe;  // Calls count from 0.
  std::function<grpc::Status(grpc::ServerContext&, LoadStream&)> watch_load;
  std::function<grpc::Status(const v1::CountRequest&, v1::CountResponse&)> count;
  std::function<grpc::Status(const v1::RenderRequest&, v1::RenderResponse&)> render;
};

class ScriptedWorker {
 public:
  explicit ScriptedWorker(WorkerScript script);
  ~ScriptedWorker();

  std::shared_ptr<grpc::Channel> channel();  // As a router makes it.
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  class Service;
  int port_ = 0;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
};

// Texts that arrive one by one from other threads.
class Diary {
 public:
  void Write(std::string line);
  // The first lines, once there are so many; all there are after a minute.
  std::vector<std::string> First(size_t count) const;

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::router
