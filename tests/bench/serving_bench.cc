#include "tests/bench/serving_bench.h"

#include <absl/time/clock.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <time.h>

#include <optional>
#include <utility>

#include "common/status.h"
#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/bench/table.h"
#include "tests/integration/cluster.h"

namespace conclave::bench {
namespace {

namespace v1 = conclave::v1;

constexpr int kEmptyCalls = 500;
constexpr char kQuestion[] =
    "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?";

// CPU time of a process, all threads, in seconds.
double CpuOf(pid_t pid) {
  clockid_t clock{};
  timespec used{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) != 0) return 0;
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

absl::Status StatusOf(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return Unavailable("the router answered {}: {}", static_cast<int>(status.error_code()),
                     status.error_message());
}

struct Asked {
  double first_event = 0, first_answer = 0, end = 0;
  v1::Receipt receipt;
};

double Since(absl::Time begin) { return absl::ToDoubleSeconds(absl::Now() - begin); }

class Client {
 public:
  explicit Client(const std::string& address)
      : stub_(v1::ConclaveService::NewStub(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {}

  absl::Status CallEmpty() {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    return StatusOf(stub_->ListModels(&context, {}, &response));
  }

  absl::StatusOr<Asked> Ask(const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    Asked asked;
    const absl::Time begin = absl::Now();
    const auto stream = stub_->Generate(&context, request);
    v1::GenerateResponse response;
    while (stream->Read(&response)) {
      if (response.has_admitted()) asked.first_event = Since(begin);
      if (response.has_answer_delta() && asked.first_answer == 0) asked.first_answer = Since(begin);
      if (response.has_completed()) {
        asked.end = Since(begin);
        asked.receipt = response.completed().receipt();
      }
    }
    RETURN_IF_ERROR(StatusOf(stream->Finish()));
    return asked;
  }

 private:
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

v1::GenerateRequest Question(bool gang, uint64_t seed, int tokens) {
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role(v1::ROLE_USER);
  message.add_parts()->set_text(kQuestion);
  request.set_seed(seed);
  request.mutable_budget()->set_thinking_tokens(tokens);
  request.set_mode(gang ? v1::MODE_CONTEMPLATING : v1::MODE_THINKING);
  if (gang) {
    v1::Contemplation& how = *request.mutable_contemplation();
    how.set_max_agents(8);
    how.set_stop_rule(v1::STOP_RULE_NONE);
    how.set_aggregation(v1::AGGREGATION_VOTE);
  }
  return request;
}

absl::Status MeasureEmptyCalls(Client& client, pid_t router, Serving& serving) {
  std::vector<double> times;
  const double cpu = CpuOf(router);
  for (int i = 0; i < kEmptyCalls; ++i) {
    const absl::Time begin = absl::Now();
    RETURN_IF_ERROR(client.CallEmpty());
    times.push_back(Since(begin));
  }
  serving.empty_call = Median(times);
  serving.empty_call_cpu = (CpuOf(router) - cpu) / kEmptyCalls;
  return absl::OkStatus();
}

absl::Status MeasureOne(Client& client, int requests, int tokens, Serving& serving) {
  std::vector<double> events, answers, before;
  for (int i = 0; i < requests; ++i) {
    ASSIGN_OR_RETURN(const Asked asked, client.Ask(Question(false, 100 + i, tokens)));
    events.push_back(asked.first_event);
    answers.push_back(asked.first_answer > 0 ? asked.first_answer : asked.end);
    before.push_back(static_cast<double>(asked.receipt.thinking_tokens()) + 1);
  }
  serving.one_first_event = Median(events);
  serving.one_first_answer = Median(answers);
  serving.one_tokens_before = Median(before);
  return absl::OkStatus();
}

absl::Status MeasureGang(Client& client, pid_t router, int requests, int tokens, Serving& serving) {
  std::vector<double> events, ends, paths;
  double produced = 0;
  const double cpu = CpuOf(router);
  const absl::Time begin = absl::Now();
  for (int i = 0; i < requests; ++i) {
    ASSIGN_OR_RETURN(const Asked asked, client.Ask(Question(true, 100 + i, tokens)));
    events.push_back(asked.first_event);
    ends.push_back(asked.end);
    paths.push_back(static_cast<double>(asked.receipt.critical_path_tokens()));
    produced +=
        static_cast<double>(asked.receipt.thinking_tokens() + asked.receipt.answer_tokens() +
                            asked.receipt.discarded_tokens());
  }
  const double wall = Since(begin), used = CpuOf(router) - cpu;
  serving.gang_first_event = Median(events);
  serving.gang_end = Median(ends);
  serving.gang_critical_path = Median(paths);
  serving.gang_rate = produced / wall;
  serving.router_cpu = used / produced;
  serving.router_share = used / wall;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Serving> MeasureServing(int plans_in_flight, int requests, int tokens) {
  Cluster cluster;
  cluster.StartWorker({fmt::format("group.plans_in_flight={}", plans_in_flight)});
  cluster.StartRouter();
  Client client(cluster.RouterAddress());
  const pid_t router = cluster.router().pid();
  Serving serving;
  absl::Status warm;  // Until the router has found its group, it says that there is none.
  Eventually(absl::Seconds(60), [&] {
    warm = client.Ask(Question(true, 1, tokens)).status();
    return !absl::IsUnavailable(warm);
  });
  RETURN_IF_ERROR(warm);
  RETURN_IF_ERROR(MeasureEmptyCalls(client, router, serving));
  RETURN_IF_ERROR(MeasureOne(client, requests, tokens, serving));
  RETURN_IF_ERROR(MeasureGang(client, router, requests, tokens, serving));
  return serving;
}

}  // namespace conclave::bench
