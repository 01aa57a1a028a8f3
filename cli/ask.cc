#include "cli/ask.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <memory>

#include "cli/error_text.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/terminal_text.h"
#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {
namespace {

// The channel connects on first use.
std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  return v1::ConclaveService::NewStub(
      grpc::CreateCustomChannel(router, grpc::InsecureChannelCredentials(), arguments));
}

int Report(const std::string& router, const grpc::Status& status) {
  std::cerr << ErrorText(router, FromGrpc(status)) << std::flush;
  return kExitFailed;
}

absl::Status AddKey(const std::string& path, grpc::ClientContext& context) {
  if (path.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string key, ReadKey(path));
  context.AddMetadata("authorization", "Bearer " + key);
  return absl::OkStatus();
}

// Before tokens are spent: a receipt that cannot be kept is found out now. Leaves what is there.
absl::Status CanWrite(const std::string& path) {
  if (path.empty() || std::ofstream(path, std::ios::app).is_open()) return absl::OkStatus();
  return NotFound("--receipt {} cannot be written; name a file in a folder that exists", path);
}

absl::Status WriteReceipt(const std::string& path, const v1::Receipt& receipt) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << ReceiptToJson(receipt);
  if (!file.flush()) return NotFound("--receipt {} cannot be written; is the disk full?", path);
  return absl::OkStatus();
}

}  // namespace

int Usage(const absl::Status& status) {
  std::cerr << "conclave: " << OneLine(MessageOf(status)) << '\n';
  return kExitUsage;
}

int Ask(const AskOptions& options, const v1::GenerateRequest& request, Printer& printer) {
  grpc::ClientContext context;
  if (const absl::Status key = AddKey(options.api_key_file, context); !key.ok()) return Usage(key);
  if (const absl::Status file = CanWrite(options.receipt_file); !file.ok()) return Usage(file);

  const InterruptWatch watch([&context] { context.TryCancel(); });  // Before gRPC has threads.
  printer.OnStart();
  const auto stub = Connect(options.router);
  auto reader = stub->Generate(&context, request);
  v1::GenerateResponse event;
  v1::Receipt receipt;
  bool complete = false;
  while (reader->Read(&event)) {
    printer.On(event);
    if (event.has_completed()) receipt = event.completed().receipt();
    complete = complete || event.has_completed();
  }
  const grpc::Status status = reader->Finish();
  printer.OnEnd();
  if (watch.interrupted() && !complete) {
    std::cerr << "conclave: cancelled\n";
    return kExitInterrupted;
  }
  if (!status.ok() && !watch.interrupted()) return Report(options.router, status);
  if (!complete) return Report(options.router, ToGrpc(DataLoss("the stream ended early")));
  const absl::Status written = WriteReceipt(options.receipt_file, receipt);
  return written.ok() ? kExitOk : Usage(written);
}

int ListModels(const std::string& router) {
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  const grpc::Status status = Connect(router)->ListModels(&context, {}, &response);
  if (!status.ok()) return Report(router, status);
  std::cout << fmt::format("{:<24} {:>10} {:>4} {:>10} {:>7} {:>7}  {}\n", "model", "parameters",
                           "tp", "positions", "agents", "groups", "fingerprint");
  for (const v1::Model& model : response.models()) {
    const v1::ModelDescription& d = model.description();
    std::cout << fmt::format("{:<24} {:>10} {:>4} {:>10} {:>7} {:>7}  {:.12}\n", OneLine(d.name()),
                             d.parameters(), d.tensor_parallel(), d.max_positions(),
                             model.max_agents(), model.groups_ready(), OneLine(d.fingerprint()));
  }
  return kExitOk;
}

}  // namespace conclave::cli
