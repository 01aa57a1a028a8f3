#include "tests/fakes/fake_worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace conclave::router {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);
constexpr int kPromptTokens = 10;

}  // namespace

struct FakeWorker::Speaker {
  AgentRecipe recipe;
  FakeSpeech speech;
  int count = 0, fed = 0;
  bool ended = false;
};

// One open stream. What it tells, it tells on the worker's thread, under `mutex`.
struct FakeWorker::Family {
  absl::Mutex mutex;
  std::shared_ptr<FamilyEvents> events ABSL_GUARDED_BY(mutex);  // Null: nobody listens any more.
  std::vector<Speaker> speakers;                                // Of the worker's thread.
  bool finishing = false;
  FamilyTotals totals;
};

class FakeWorker::Run : public FamilyRun {
 public:
  Run(FakeWorker& worker, std::shared_ptr<Family> family)
      : worker_(worker), family_(std::move(family)) {}
  ~Run() override {
    {
      absl::MutexLock lock(&family_->mutex);
      family_->events.reset();
    }
    absl::MutexLock lock(&worker_.mutex_);
    --worker_.open_;
  }

  void Add(std::vector<AgentRecipe> gang) override {
    worker_.Post([this_worker = &worker_, family = family_, gang = std::move(gang)] {
      this_worker->Add(family, gang);
    });
  }
  void Cancel(std::vector<AgentId> agents) override {
    {
      absl::MutexLock lock(&worker_.mutex_);
      worker_.cancelled_.insert(worker_.cancelled_.end(), agents.begin(), agents.end());
    }
    worker_.Post([this_worker = &worker_, family = family_, agents = std::move(agents)] {
      for (Speaker& speaker : family->speakers) {
        if (speaker.ended || std::count(agents.begin(), agents.end(), speaker.recipe.id) == 0)
          continue;
        speaker.ended = true;
        FamilyDelta delta;
        delta.agent = speaker.recipe.id;
        delta.first = speaker.count;
        delta.end = AgentEnding{.cause = Finish::kCancelled,
                                .sampled = speaker.count - speaker.fed,
                                .forced = 0,
                                .fed = speaker.fed,
                                .trailing = 0};
        absl::MutexLock lock(&family->mutex);
        if (family->events) family->events->OnDelta(std::move(delta));
      }
      this_worker->EndIfOver(*family);
    });
  }
  void RunTo(std::vector<AgentId>, std::vector<int>) override {}
  void Finish() override {
    worker_.Post([this_worker = &worker_, family = family_] {
      family->finishing = true;
      this_worker->EndIfOver(*family);
    });
  }

 private:
  FakeWorker& worker_;
  const std::shared_ptr<Family> family_;  // Shared with the worker's tasks.
};

class FakeWorker::Watcher : public GroupWatch {
 public:
  Watcher(FakeWorker& worker, GroupEvents& events) : worker_(worker) {
    absl::MutexLock lock(&worker_.watch_mutex_);
    worker_.watcher_ = &events;
  }
  ~Watcher() override {
    absl::MutexLock lock(&worker_.watch_mutex_);
    worker_.watcher_ = nullptr;
  }

 private:
  FakeWorker& worker_;
};

FakeWorker::FakeWorker(GroupDescription description, int credits,
                       std::function<FakeSpeech(AgentId)> speech)
    : description_(std::move(description)),
      credits_(credits),
      speech_(std::move(speech)),
      thread_([this] { Work(); }) {}

FakeWorker::~FakeWorker() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  thread_.join();
}

void FakeWorker::Work() {
  for (;;) {
    std::function<void()> task;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &FakeWorker::Ready));
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task();
  }
}

void FakeWorker::Post(std::function<void()> task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

std::unique_ptr<FamilyRun> FakeWorker::Open(FamilyOpening opening,
                                            std::shared_ptr<FamilyEvents> events) {
  auto family = std::make_shared<Family>();
  {
    absl::MutexLock lock(&family->mutex);
    family->events = std::move(events);
  }
  {
    absl::MutexLock lock(&mutex_);
    ++open_;
    openings_.push_back(std::move(opening));
  }
  Post([this, family] { families_.push_back(family); });
  return std::make_unique<Run>(*this, std::move(family));
}

void FakeWorker::Add(const std::shared_ptr<Family>& family, std::vector<AgentRecipe> gang) {
  std::optional<std::pair<absl::Status, int>> refusal;
  {
    absl::MutexLock lock(&mutex_);
    recipes_.insert(recipes_.end(), gang.begin(), gang.end());
    if (!refusals_.empty()) {
      refusal = std::move(refusals_.front());
      refusals_.pop_front();
    }
  }
  absl::MutexLock lock(&family->mutex);
  if (!family->events) return;
  if (refusal) {
    std::vector<AgentId> ids;
    for (const AgentRecipe& recipe : gang) ids.push_back(recipe.id);
    family->events->OnRefused(std::move(ids), refusal->first, refusal->second);
    return;
  }
  std::vector<AcceptedAgent> accepted;
  for (AgentRecipe& recipe : gang) {
    accepted.push_back({.id = recipe.id, .prompt_tokens = kPromptTokens});
    const int fed = static_cast<int>(recipe.produced.size());
    (family->totals.prompt_computed == 0 ? family->totals.prompt_computed
                                         : family->totals.prompt_shared) += kPromptTokens;
    family->totals.fed += fed;
    FakeSpeech speech = speech_(recipe.id);
    family->speakers.push_back({.recipe = std::move(recipe),
                                .speech = std::move(speech),
                                .count = fed,
                                .fed = fed,
                                .ended = false});
  }
  family->events->OnAccepted(std::move(accepted));
  Post([this, family] { Speak(*family); });
}

// Every agent says one token more, if it may; as long as any did, once more.
void FakeWorker::Speak(Family& family) {
  for (bool spoke = true; spoke;) {
    spoke = false;
    for (Speaker& speaker : family.speakers) {
      const int size = static_cast<int>(speaker.speech.size());
      const int most = std::min(size, speaker.recipe.grant);
      if (speaker.ended || speaker.count - speaker.fed >= hold_after_) continue;
      {
        absl::MutexLock lock(&mutex_);
        ++said_;
      }
      const size_t at = static_cast<size_t>(speaker.count);
      const size_t thinking = speaker.speech.thinking.size();
      FamilyDelta delta;
      delta.agent = speaker.recipe.id;
      delta.first = speaker.count;
      int64_t text_end = 0;
      for (size_t i = 0; i <= at; ++i) {
        const std::string& piece =
            i < thinking ? speaker.speech.thinking[i] : speaker.speech.answer[i - thinking];
        text_end += static_cast<int64_t>(piece.size());
        if (i == at) (i < thinking ? delta.thinking : delta.answer) = piece;
      }
      TokenEvent token{.id = static_cast<TokenId>(100 + at),
                       .logprob = -0.5f,
                       .top_logprob_mean = -3,
                       .kind = TokenKind::kSampled};
      if (speaker.recipe.top_logprobs) {
        const std::string& text = delta.thinking.empty() ? delta.answer : delta.thinking;
        token.told.assign(static_cast<size_t>(*speaker.recipe.top_logprobs) + 1,
                          {.id = token.id, .logprob = token.logprob, .text = text});
      }
      delta.tokens.push_back({.token = token, .text_end = text_end});
      ++speaker.count;
      ++family.totals.sampled;
      if (speaker.count == most) {
        speaker.ended = true;
        delta.end = AgentEnding{.cause = most == size ? Finish::kStop : Finish::kLength,
                                .sampled = speaker.count - speaker.fed,
                                .forced = 0,
                                .fed = speaker.fed,
                                .trailing = 0};
        if (most == size) delta.end->stopped_by = {.kind = StopCause::Kind::kEndToken, .token = 2};
      }
      spoke = true;
      absl::MutexLock lock(&family.mutex);
      if (!family.events) return;
      family.events->OnDelta(std::move(delta));
    }
  }
  EndIfOver(family);
}

void FakeWorker::EndIfOver(Family& family) {
  const bool all = std::all_of(family.speakers.begin(), family.speakers.end(),
                               [](const Speaker& speaker) { return speaker.ended; });
  if (!family.finishing || !all) return;
  absl::MutexLock lock(&family.mutex);
  if (!family.events) return;
  family.events->OnFamilyEnd(family.totals);
  family.events.reset();
}

GroupLoad FakeWorker::LoadOf(int credits) const {
  GroupLoad load;
  load.credits = credits;
  load.ready = true;
  load.epoch = description_.epoch;
  return load;
}

std::unique_ptr<GroupWatch> FakeWorker::Watch(GroupEvents& events) {
  events.OnDescribed(description_);
  events.OnLoad(LoadOf(credits_));
  return std::make_unique<Watcher>(*this, events);
}

void FakeWorker::ReportCredits(int credits) {
  absl::MutexLock lock(&watch_mutex_);
  if (watcher_ != nullptr) watcher_->OnLoad(LoadOf(credits));
}

void FakeWorker::Count(PromptQuestion question, std::function<void(absl::StatusOr<int>)> done) {
  size_t bytes = 0;
  for (const Message& message : question.messages) bytes += TextOf(message).size();
  done(static_cast<int>(bytes));
}

void FakeWorker::Render(PromptQuestion question, std::function<void(absl::StatusOr<Prompt>)> done) {
  Prompt prompt;
  const auto add = [&prompt](const std::string& text, bool by_caller) {
    prompt.text += text;
    prompt.runs.push_back({prompt.text.size(), by_caller});
    prompt.tokens.push_back({static_cast<TokenId>(text.size()), text, !by_caller});
  };
  for (const Message& message : question.messages) {
    add("<turn>", false);
    add(TextOf(message), true);
  }
  add(fmt::format("<{} at {}>", question.thinking == Thinking::kOn ? "think" : "answer",
                  question.time_of_day),
      false);
  done(std::move(prompt));
}

void FakeWorker::HoldAfter(int tokens) {
  Post([this, tokens] {
    hold_after_ = tokens;
    for (const auto& weak : families_) {
      if (const auto family = weak.lock()) Speak(*family);
    }
  });
}

void FakeWorker::Lose(const absl::Status& why) {
  Post([this, why] {
    for (const auto& weak : families_) {
      const auto family = weak.lock();
      if (family == nullptr) continue;
      for (Speaker& speaker : family->speakers) speaker.ended = true;
      absl::MutexLock lock(&family->mutex);
      if (family->events) family->events->OnLost(why);
      family->events.reset();
    }
    families_.clear();
  });
}

void FakeWorker::RefuseNext(absl::Status why, int width) {
  absl::MutexLock lock(&mutex_);
  refusals_.emplace_back(std::move(why), width);
}

bool FakeWorker::AwaitOpenFamilies(int count) {
  absl::MutexLock lock(&mutex_);
  const auto there = [&] { return open_ == count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&there), kLong);
}

bool FakeWorker::AwaitTokens(int64_t count) {
  absl::MutexLock lock(&mutex_);
  const auto there = [&] { return said_ >= count; };
  return mutex_.AwaitWithTimeout(absl::Condition(&there), kLong);
}

std::vector<FamilyOpening> FakeWorker::openings() const {
  absl::MutexLock lock(&mutex_);
  return openings_;
}

std::vector<AgentRecipe> FakeWorker::recipes() const {
  absl::MutexLock lock(&mutex_);
  return recipes_;
}

std::vector<AgentId> FakeWorker::cancelled() const {
  absl::MutexLock lock(&mutex_);
  return cancelled_;
}

}  // namespace conclave::router
