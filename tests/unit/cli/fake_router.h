#pragma once

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {

// What a router says.
struct RouterScript {
  std::vector<v1::GenerateResponse> events;  // Of each request.
  grpc::Status end;                          // After them.
  std::function<grpc::Status(const v1::RenderPromptRequest&, v1::RenderPromptResponse&)> render;
  v1::ListModelsResponse models;
};

// A router that says what it is told to, on a loopback port of the system's choice. Thread-safe.
class FakeRouter : private v1::ConclaveService::Service {
 public:
  explicit FakeRouter(RouterScript script, std::shared_ptr<grpc::ServerCredentials> credentials =
                                               grpc::InsecureServerCredentials())
      : script_(std::move(script)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", std::move(credentials), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~FakeRouter() override {
    server_->Shutdown();
    server_->Wait();
  }

  std::string address() const { return fmt::format("127.0.0.1:{}", port_); }
  // The last request; what its metadata said of who asks.
  v1::GenerateRequest request() const {
    const std::lock_guard lock(mutex_);
    return request_;
  }
  std::string authorization() const {
    const std::lock_guard lock(mutex_);
    return authorization_;
  }

 private:
  void Note(const grpc::ServerContext& context) {
    const auto& metadata = context.client_metadata();
    const auto found = metadata.find("authorization");
    const std::lock_guard lock(mutex_);
    authorization_ =
        found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
  }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    Note(*context);
    {
      const std::lock_guard lock(mutex_);
      request_ = *request;
    }
    for (const v1::GenerateResponse& event : script_.events) writer->Write(event);
    return script_.end;
  }
  grpc::Status RenderPrompt(grpc::ServerContext* context, const v1::RenderPromptRequest* request,
                            v1::RenderPromptResponse* response) override {
    Note(*context);
    return script_.render(*request, *response);
  }
  grpc::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    Note(*context);
    *response = script_.models;
    return grpc::Status::OK;
  }

  const RouterScript script_;
  mutable std::mutex mutex_;
  v1::GenerateRequest request_;
  std::string authorization_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace conclave::cli
