#include "cli/connection.h"

#include <iostream>

#include "cli/error_text.h"
#include "cli/exit_code.h"
#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

absl::StatusOr<Pems> ReadPemsOf(const ServerOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return InvalidArgument("--tls-cert and --tls-key go together");
  }
  if (!options.tls_name.empty() && options.tls_ca.empty() && options.tls_cert.empty()) {
    return InvalidArgument("--tls-name is for TLS, which --tls-ca FILE asks for");
  }
  return ReadPems({.certificate_file = options.tls_cert,
                   .key_file = options.tls_key,
                   .authority_file = options.tls_ca});
}

}  // namespace

absl::StatusOr<Caller> MakeCaller(const ServerOptions& options) {
  RETURN_IF_ERROR(CheckRouter(options.router));
  Caller caller;
  if (!options.api_key_file.empty()) {
    ASSIGN_OR_RETURN(caller.key, ReadKey(options.api_key_file));
  }
  ASSIGN_OR_RETURN(caller.pems, ReadPemsOf(options));
  caller.tls_name = options.tls_name;
  caller.router = options.router.substr(0, options.router.find(','));
  return caller;
}

std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router,
                                                   const Caller& caller) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 15'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  // Each attempt connects anew, however long the last one was told to wait.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (!caller.tls_name.empty()) arguments.SetSslTargetNameOverride(caller.tls_name);
  return v1::ConclaveService::NewStub(
      grpc::CreateCustomChannel(router, ChannelCredentialsOf(caller.pems), arguments));
}

void AddKey(const std::string& key, grpc::ClientContext& context) {
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
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
