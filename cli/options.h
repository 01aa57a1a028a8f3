#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// Who is asked, and as whom.
struct ServerOptions {
  // Addresses of the routers' public ports, separated by commas: the next one when one is lost.
  std::string router = "127.0.0.1:9100";
  bool no_resume = false;         // A stream that breaks is the end.
  std::string api_key_file = {};  // First line of the file; empty: no key.
  // With which the routers are reached over TLS, PEM files; plaintext when all are empty. The last:
  // the host that their certificates name, when it is not the address's.
  std::string tls_ca = {}, tls_cert = {}, tls_key = {}, tls_name = {};
};

// What `conclave ask` was told. Numbers that were not given stay unset, so that the server's
// defaults hold.
struct AskOptions : ServerOptions {
  std::string question;  // "-" = standard input.
  std::string model;
  std::string mode = "contemplating";  // auto, instant, thinking, contemplating
  std::optional<int> agents, min_agents, stop_votes;
  std::optional<double> stop_certainty;
  std::string aggregation, aggregator_model, stop_rule, answer_key, on_loss, vote_weight;
  std::string strategy, effort;
  std::optional<int> wave, rounds, drafts, digest_bytes, probe_every, probe_agree, probe_tokens;
  std::vector<std::string> roles, agent_models;
  std::vector<double> temperatures;
  // The checker: at most one of the three; check_numbers only with check_value.
  std::string check_value, check_regex, check_schema_file;
  std::vector<int64_t> check_numbers;
  std::optional<double> confidence_bar;
  std::optional<int> confidence_window;
  std::optional<int> thinking_tokens, answer_tokens, min_tokens;
  std::optional<int64_t> total_tokens;
  std::optional<double> deadline_seconds, patience_seconds, temperature, top_p, min_p;
  std::optional<int> top_k;
  std::vector<std::string> stop;  // Texts.
  std::vector<int> stop_tokens;
  std::optional<int> logprobs;  // Tokens are shown, each with so many of the likeliest.
  std::optional<uint64_t> seed;
  std::string request_id;
  std::string receipt_file;  // Where the record is written as JSON; empty = nowhere.
  std::string replay_file;   // A receipt to run again.
  bool json = false;         // One event a line on standard output, nothing else.
  bool quiet = false;        // Only the answer.
};

// The request that the options describe. kInvalidArgument names the option, its value and what is
// allowed; a replay file that cannot be read is kNotFound.
absl::StatusOr<v1::GenerateRequest> MakeRequest(const AskOptions& options);

// The key in the first line of a file, without its line end. kNotFound when there is none;
// kInvalidArgument when it holds what a key cannot: anything but visible ASCII.
absl::StatusOr<std::string> ReadKey(const std::string& path);

// kInvalidArgument unless `routers` is an address with a port, or several with commas between them.
absl::Status CheckRouter(const std::string& routers);

// Text as a command takes it: the argument itself, or standard input for "-", of at most
// kMostTextBytes, UTF-8. kInvalidArgument calls it `what`.
inline constexpr size_t kMostTextBytes = size_t{32} << 20;
absl::StatusOr<std::string> TextArgument(const std::string& argument, const std::string& what);

// The messages of a question, as a request carries them.
void SetQuestion(std::string question, google::protobuf::RepeatedPtrField<v1::Message>* messages);

// "auto" (one agent, which thinks if the model does), "instant", "thinking", "contemplating".
absl::StatusOr<v1::Mode> ModeOf(const std::string& word);

}  // namespace conclave::cli
