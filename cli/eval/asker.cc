#include "cli/eval/asker.h"

#include <absl/random/random.h>
#include <absl/time/clock.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "cli/connection.h"
#include "cli/eval/draw.h"
#include "cli/eval/grade.h"
#include "cli/options.h"
#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "common/wire/message_wire.h"

namespace conclave::cli {
namespace {

constexpr size_t kMostAnswer = 4096;  // Bytes of an answer that are kept.
constexpr absl::Duration kFirstWait = absl::Milliseconds(100), kLongestWait = absl::Seconds(5);
constexpr std::chrono::seconds kDescribePatience{10};

bool MayComeBack(const absl::Status& status) {
  return status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kUnavailable;
}

absl::Duration WaitAfter(const absl::Status& status, int tries) {
  const absl::Duration least = kFirstWait * (1 << std::min(tries - 1, 10));
  return std::min(std::max(DetailsOf(status).retry_after.value_or(least), least), kLongestWait);
}

std::string ErrorOf(const absl::Status& status) {
  return fmt::format("{}: {}", absl::StatusCodeToString(status.code()), MessageOf(status));
}

// The model's own, of the profile of the one that is asked for.
absl::StatusOr<v1::AnswerKey> ModelKey(v1::ConclaveService::Stub& stub, const std::string& key,
                                       const std::string& model) {
  grpc::ClientContext context;
  AddKey(key, context);
  context.set_deadline(std::chrono::system_clock::now() + kDescribePatience);
  v1::ListModelsResponse response;
  RETURN_IF_ERROR(FromGrpc(stub.ListModels(&context, {}, &response)));
  for (const v1::Model& each : response.models()) {
    if (model.empty() || each.description().name() == model) {
      return each.description().profile().answer_key();
    }
  }
  return NotFound("the router serves no model{}{}", model.empty() ? "" : " ", model);
}

absl::StatusOr<AnswerKey> ParseKey(const v1::AnswerKey& wire) {
  ASSIGN_OR_RETURN(const AnswerKeySpec spec, FromWire(wire, AnswerKeySpec(), "answer_key"));
  return AnswerKey::Parse(spec);
}

}  // namespace

uint64_t SeedOf(uint64_t seed, const std::string& problem) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a.
  for (const char c : problem) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return Draw(seed, hash).Next();
}

absl::StatusOr<std::unique_ptr<Asker>> Asker::Make(AskerOptions options,
                                                   const std::optional<v1::AnswerKey>& suite_key) {
  auto asker = std::unique_ptr<Asker>(new Asker(std::move(options)));
  for (const std::string& router : asker->options_.routers) {
    asker->stubs_.push_back(Connect(router, asker->options_.caller));
  }
  RETURN_IF_ERROR(asker->FindKey(suite_key));
  return asker;
}

absl::Status Asker::FindKey(const std::optional<v1::AnswerKey>& suite_key) {
  suite_key_ = suite_key;
  v1::AnswerKey wire;
  if (suite_key) {
    wire = *suite_key;
  } else {
    ASSIGN_OR_RETURN(wire, ModelKey(*stubs_.front(), options_.caller.key, options_.model));
  }
  ASSIGN_OR_RETURN(key_, ParseKey(wire));
  return absl::OkStatus();
}

v1::GenerateRequest Asker::RequestFor(const Question& question) const {
  v1::GenerateRequest request = question.arm->request;
  // An arm whose agents are of several models names its own.
  if (request.contemplation().agent_models().empty()) request.set_model(options_.model);
  SetQuestion(question.problem->question, request.mutable_messages());
  if (!request.has_seed()) request.set_seed(SeedOf(options_.seed, question.problem->id));
  if (suite_key_ && !request.has_answer_key()) *request.mutable_answer_key() = *suite_key_;
  if (question.arm->gives_checker && question.problem->checker) {
    *request.mutable_contemplation()->mutable_checker() = *question.problem->checker;
  }
  return request;
}

absl::Status Asker::Stream(v1::ConclaveService::Stub& stub, const v1::GenerateRequest& request,
                           Watcher& watcher) {
  grpc::ClientContext context;
  AddKey(options_.caller.key, context);
  {
    absl::MutexLock lock(&mutex_);
    if (cancelled_) return Cancelled("interrupted");
    calls_.insert(&context);
  }
  const auto reader = stub.Generate(&context, request);
  for (v1::GenerateResponse event; reader->Read(&event);) watcher.On(event);
  const absl::Status status = FromGrpc(reader->Finish());
  absl::MutexLock lock(&mutex_);
  calls_.erase(&context);
  if (status.ok() && watcher.completed() == nullptr) return DataLoss("the stream ended early");
  return status;
}

Outcome Asker::Ask(const Question& question) {
  const v1::GenerateRequest request = RequestFor(question);
  const absl::StatusOr<Grader> grader = Grader::Make(*question.problem);
  const absl::StatusOr<AnswerKey> key =
      request.has_answer_key() ? ParseKey(request.answer_key()) : *key_;
  const auto is_right = [&grader](std::string_view answer) { return grader->IsRight(answer); };
  absl::BitGen random;
  absl::Status status = grader.ok() ? key.status() : grader.status();
  Outcome outcome;
  int tries = 0;
  double seconds = 0;
  while (grader.ok() && key.ok()) {
    Watcher watcher(is_right);
    ++tries;
    const absl::Time began = absl::Now();
    status = Stream(*stubs_[next_++ % stubs_.size()], request, watcher);
    seconds = absl::ToDoubleSeconds(absl::Now() - began);
    if (status.ok()) {
      const std::string& text = watcher.completed()->answer();
      const std::optional<std::string> found = key->Extract(text);
      outcome = watcher.Take(found && is_right(*found));
      outcome.answer = found.value_or(text).substr(0, kMostAnswer);
    }
    if (!MayComeBack(status) || tries > options_.retries) break;
    const absl::Duration wait = WaitAfter(status, tries) * absl::Uniform(random, 0.5, 1.0);
    if (cancel_.WaitForNotificationWithTimeout(wait)) break;
  }
  if (!status.ok()) outcome.error = ErrorOf(cancelled() ? Cancelled("interrupted") : status);
  outcome.arm = question.arm->name;
  outcome.problem = question.problem->id;
  outcome.tries = tries;
  outcome.seconds = seconds;
  return outcome;
}

void Asker::Cancel() {
  absl::MutexLock lock(&mutex_);
  if (cancelled_) return;
  cancelled_ = true;
  cancel_.Notify();
  for (grpc::ClientContext* call : calls_) call->TryCancel();
}

void AskAll(Asker& asker, const std::vector<Question>& questions, int concurrency,
            const std::function<void(const Outcome&)>& on_outcome) {
  std::atomic<size_t> next = 0;
  absl::Mutex mutex;
  const auto work = [&] {
    for (size_t i = next++; i < questions.size() && !asker.cancelled(); i = next++) {
      const Outcome outcome = asker.Ask(questions[i]);
      if (asker.cancelled() && !outcome.error.empty()) return;
      absl::MutexLock lock(&mutex);
      on_outcome(outcome);
    }
  };
  std::vector<std::thread> threads;
  const size_t count = std::min(static_cast<size_t>(concurrency), questions.size());
  for (size_t i = 0; i < count; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace conclave::cli
