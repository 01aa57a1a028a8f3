#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/connection.h"
#include "cli/eval/arms.h"
#include "cli/eval/outcome.h"
#include "cli/eval/suite.h"
#include "common/answer/answer_key.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {

// One request to be sent.
struct Question {
  const Arm* arm = nullptr;
  const Problem* problem = nullptr;
};

// How questions are asked.
struct AskerOptions {
  std::vector<std::string> routers;  // Taken in turn.
  Caller caller = {};
  std::string model;
  uint64_t seed = 1;  // Each problem has its own seed, drawn from it: of all arms the same.
  int retries = 5;    // Of a request that a router has no room for, or cannot be reached.
};

// Asks questions, many at a time, and grades what comes. Thread-safe.
class Asker {
 public:
  // `suite_key`: how the suite's answers are found; none: as the model's profile says, which the
  // first router is asked for. Errors are the router's, or name the answer key.
  static absl::StatusOr<std::unique_ptr<Asker>> Make(AskerOptions options,
                                                     const std::optional<v1::AnswerKey>& suite_key);

  // Asks one and waits for its end. Never fails: an error is an outcome. Once Cancel was called,
  // the outcome of a question that was not answered is kCancelled's.
  Outcome Ask(const Question& question);

  // Ends what runs, and lets nothing more begin. Any thread, any number of times.
  void Cancel();
  bool cancelled() const { return cancel_.HasBeenNotified(); }

 private:
  explicit Asker(AskerOptions options) : options_(std::move(options)) {}
  absl::Status FindKey(const std::optional<v1::AnswerKey>& suite_key);
  v1::GenerateRequest RequestFor(const Question& question) const;
  absl::Status Stream(v1::ConclaveService::Stub& stub, const v1::GenerateRequest& request,
                      Watcher& watcher);

  const AskerOptions options_;
  std::vector<std::unique_ptr<v1::ConclaveService::Stub>> stubs_;
  std::atomic<uint64_t> next_ = 0;
  std::optional<v1::AnswerKey> suite_key_;
  std::optional<AnswerKey> key_;
  absl::Notification cancel_;
  absl::Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(mutex_);
};

// The seed of a problem's requests.
uint64_t SeedOf(uint64_t seed, const std::string& problem);

// Asks all questions, `concurrency` at a time, in order; `on_outcome` is told of each as it ends,
// one call at a time. Returns when all have ended, or after Cancel.
void AskAll(Asker& asker, const std::vector<Question>& questions, int concurrency,
            const std::function<void(const Outcome&)>& on_outcome);

}  // namespace conclave::cli
