#include "worker/service/worker_service.h"

#include <absl/time/clock.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "common/status.h"
#include "common/status_details.h"
#include "common/utf8.h"
#include "common/wire/family_wire.h"
#include "common/wire/grpc_status.h"
#include "common/wire/message_wire.h"
#include "common/wire/model_wire.h"
#include "common/wire/prompt_wire.h"
#include "conclave/v1/worker.grpc.pb.h"
#include "worker/service/engine_metrics.h"
#include "worker/service/family_call.h"
#include "worker/service/family_host.h"
#include "worker/service/load_feed.h"
#include "worker/service/work_pool.h"

namespace conclave::worker {
namespace {

constexpr size_t kMostUnary = 64;  // Count and Render calls that may wait.
constexpr char kDraining[] = "the group is draining";

// One router's load stream. Deletes itself in OnDone, and only there.
class LoadCall final : public grpc::ServerWriteReactor<v1::WatchLoadResponse> {
 public:
  explicit LoadCall(LoadFeed& feed)
      : watch_(std::make_shared<LoadWatch>(
            LoadWatch::Wire{.write =
                                [this](const GroupLoad& load) {
                                  response_ = ToWire(load);
                                  StartWrite(&response_);
                                },
                            .finish = [this](const absl::Status& why) { Finish(ToGrpc(why)); }},
            feed.heartbeat())) {
    if (const absl::Status status = feed.Add(watch_); !status.ok()) watch_->End(status);
  }

  void OnWriteDone(bool ok) override { watch_->OnWritten(ok); }
  void OnCancel() override { watch_->End(Cancelled("the router stopped watching")); }
  void OnDone() override { delete this; }

 private:
  v1::WatchLoadResponse response_;
  std::shared_ptr<LoadWatch> watch_;  // Shared with the feed.
};

}  // namespace

// What the calls use, in the order in which it is built.
struct WorkerService::Parts {
  Parts(const ServiceOptions& options, ModelDescription description, Engine& engine,
        const TextModel& text_model, Metrics& metric_page, Logger log)
      : model(std::move(description)),
        text(text_model),
        feed(options.heartbeat),
        factory(text_model, model, options.vocab_size),
        pool(options.render_threads, static_cast<size_t>(options.max_families)),  // A gang of each.
        unary_pool(1, kMostUnary),
        host({.fingerprint = model.fingerprint,
              .max_families = options.max_families,
              .retry_after = options.retry_after,
              .inter_token = metric_page.AddHistogram("conclave_worker_inter_token_seconds")},
             engine, factory, pool, std::move(log)),
        metrics(metric_page, {.model = model.name,
                              .fingerprint = model.fingerprint,
                              .ranks = model.tensor_parallel,
                              .epoch = options.epoch,
                              .losses = options.losses}) {}

  const ModelDescription model;
  const TextModel& text;
  LoadFeed feed;
  const AgentFactory factory;
  WorkPool pool;
  WorkPool unary_pool;  // Of its own: who counts tokens must not hold up who generates.
  FamilyHost host;
  EngineMetrics metrics;
  std::unique_ptr<Rpc> rpc;
};

class WorkerService::Rpc final : public v1::WorkerService::WithRawCallbackMethod_Run<
                                     v1::WorkerService::WithCallbackMethod_Describe<
                                         v1::WorkerService::WithCallbackMethod_Count<
                                             v1::WorkerService::WithCallbackMethod_Render<
                                                 v1::WorkerService::WithCallbackMethod_WatchLoad<
                                                     v1::WorkerService::Service>>>>> {
 public:
  Rpc(Parts& parts, const ServiceOptions& options) : parts_(parts), options_(options) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Run(
      grpc::CallbackServerContext*) override {
    return new FamilyCall(parts_.host);
  }

  grpc::ServerUnaryReactor* Describe(grpc::CallbackServerContext* context,
                                     const v1::DescribeRequest*,
                                     v1::DescribeResponse* response) override {
    *response->mutable_model() = ToWire(parts_.model);
    response->set_epoch(options_.epoch);
    response->set_last_loss(ValidUtf8(options_.last_loss));
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }

  grpc::ServerUnaryReactor* Count(grpc::CallbackServerContext* context,
                                  const v1::CountRequest* request,
                                  v1::CountResponse* response) override {
    return InPool(context, [this, request, response]() -> absl::Status {
      ASSIGN_OR_RETURN(const RenderedPrompt prompt, Rendered(*request));
      response->set_tokens(static_cast<int>(prompt.tokens.size()));
      return absl::OkStatus();
    });
  }

  grpc::ServerUnaryReactor* Render(grpc::CallbackServerContext* context,
                                   const v1::RenderRequest* request,
                                   v1::RenderResponse* response) override {
    return InPool(context, [this, request, response]() -> absl::Status {
      ASSIGN_OR_RETURN(const RenderedPrompt prompt, Rendered(*request));
      const int most = parts_.model.max_positions;
      if (prompt.tokens.size() > static_cast<size_t>(most)) {
        return OutOfRange("the prompt has {} tokens; the model has positions for {}",
                          prompt.tokens.size(), most);
      }
      ToWire(parts_.text.Show(prompt), response);
      return absl::OkStatus();
    });
  }

  grpc::ServerWriteReactor<v1::WatchLoadResponse>* WatchLoad(grpc::CallbackServerContext*,
                                                             const v1::WatchLoadRequest*) override {
    return new LoadCall(parts_.feed);
  }

 private:
  // Request and response live until the reactor is finished.
  grpc::ServerUnaryReactor* InPool(grpc::CallbackServerContext* context,
                                   std::function<absl::Status()> work) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    const bool taken = parts_.unary_pool.Submit([context, reactor, work = std::move(work)] {
      reactor->Finish(context->IsCancelled() ? grpc::Status::CANCELLED : ToGrpc(work()));
    });
    if (!taken) {
      reactor->Finish(ToGrpc(
          WithRetryAfter(ResourceExhausted("too many calls wait; the limit is {}", kMostUnary),
                         options_.retry_after)));
    }
    return reactor;
  }

  template <typename Request>
  absl::StatusOr<RenderedPrompt> Rendered(const Request& request) const {
    ASSIGN_OR_RETURN(std::vector<Message> messages, FromWire(request.messages(), "messages"));
    const absl::StatusOr<Thinking> thinking = FromWire(request.thinking());
    if (!thinking.ok()) return BadField("thinking", MessageOf(thinking.status()));
    RenderOptions options;
    options.thinking = *thinking;
    options.time_of_day = request.time_of_day();
    return parts_.text.Render(std::move(messages), options);
  }

  Parts& parts_;
  const ServiceOptions& options_;
};

WorkerService::WorkerService(ServiceOptions options, ModelDescription model, Engine& engine,
                             const TextModel& text, Metrics& metrics, Logger log,
                             ServiceHooks hooks)
    : options_(std::move(options)),
      hooks_(std::move(hooks)),
      engine_(engine),
      parts_(std::make_unique<Parts>(options_, std::move(model), engine, text, metrics,
                                     std::move(log))) {
  parts_->rpc = std::make_unique<Rpc>(*parts_, options_);
  Turn();
  pulse_ = std::thread([this] { Pulse(); });
}

WorkerService::~WorkerService() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
  }
  pulse_.join();
}

grpc::Service* WorkerService::rpc() { return parts_->rpc.get(); }

bool WorkerService::Drain(absl::Duration timeout) {
  // Before anybody is told, and again, because a turn that was under way may have opened it.
  parts_->host.Close(Unavailable(kDraining));
  draining_ = true;
  parts_->host.Close(Unavailable(kDraining));
  const bool emptied = parts_->host.AwaitEmpty(timeout);
  const absl::Status over = Unavailable("the group has drained");
  parts_->host.BreakAll(over);
  parts_->feed.EndAll(over);
  return emptied;
}

void WorkerService::Pulse() {
  for (;;) {
    {
      absl::MutexLock lock(&mutex_);
      mutex_.AwaitWithTimeout(absl::Condition(this, &WorkerService::Closing), options_.pulse);
      if (closing_) return;
    }
    Turn();
  }
}

void WorkerService::Turn() {
  if (!lost_.ok()) return;
  const bool silent = hooks_.launcher_silent && hooks_.launcher_silent();
  lost_ = engine_.health();
  const bool ready = lost_.ok() && !silent && !draining_;
  if (ready != ready_) {
    ready_ = ready;
    if (ready) {
      parts_->host.Close(absl::OkStatus());
      if (draining_) parts_->host.Close(Unavailable(kDraining));  // It began meanwhile.
    } else if (!lost_.ok()) {
      parts_->host.Close(Unavailable("the group is lost: {}", MessageOf(lost_)));
    } else if (silent) {
      parts_->host.Close(Unavailable("the group's launcher is silent"));
    }
  }
  if (hooks_.on_pulse) hooks_.on_pulse(ready);
  const EngineLoad load = engine_.load();
  parts_->metrics.Update(load, parts_->host.families(), ready);
  // Two steps of work may wait in the engine; the rest waits in the routers.
  const bool room = load.queued_prompt_tokens < 2 * options_.max_batched_tokens;
  parts_->feed.Publish(
      {.credits = ready && room ? std::max(0, load.agents_max - load.agents_running) : 0,
       .agents_running = load.agents_running,
       .queued_prompt_tokens = load.queued_prompt_tokens,
       .blocks_free = load.blocks_free,
       .blocks_total = load.blocks_total,
       .ready = ready,
       .epoch = options_.epoch},
      absl::Now());
  if (!lost_.ok()) {
    const absl::Status why = Unavailable("the group is lost: {}", MessageOf(lost_));
    parts_->host.BreakAll(why);
    parts_->feed.EndAll(why);
    if (hooks_.on_lost) hooks_.on_lost(lost_);
  }
}

}  // namespace conclave::worker
