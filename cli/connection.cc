#include "cli/connection.h"

#include <iostream>

#include "cli/error_text.h"
#include "cli/exit_code.h"
#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {

std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 15'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  // Each attempt connects anew, however long the last one was told to wait.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::ConclaveService::NewStub(
      grpc::CreateCustomChannel(router, grpc::InsecureChannelCredentials(), arguments));
}

void AddKey(const std::string& key, grpc::ClientContext& context) {
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
}

absl::StatusOr<std::string> KeyOf(const ServerOptions& options) {
  if (options.api_key_file.empty()) return std::string();
  return ReadKey(options.api_key_file);
}

absl::StatusOr<Caller> MakeCaller(const ServerOptions& options) {
  RETURN_IF_ERROR(CheckRouter(options.router));
  Caller caller;
  ASSIGN_OR_RETURN(caller.key, KeyOf(options));
  caller.router = options.router.substr(0, options.router.find(','));
  return caller;
}

int Usage(const absl::Status& status) {
  std::cerr << "conclave: " << OneLine(MessageOf(status)) << '\n';
  return kExitUsage;
}

int Report(const std::string& router, const absl::Status& status) {
  std::cerr << ErrorText(router, status) << std::flush;
  return kExitFailed;
}

}  // namespace conclave::cli
