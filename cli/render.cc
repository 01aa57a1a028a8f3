#include "cli/render.h"

#include <absl/time/clock.h>
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <utility>

#include "cli/connection.h"
#include "cli/exit_code.h"
#include "cli/prompt_text.h"
#include "cli/terminal_text.h"
#include "common/chat.h"
#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "common/wire/prompt_wire.h"
#include "worker/text/text_model.h"

namespace conclave::cli {
namespace {

// Where a prompt was made, and what it is.
struct Rendered {
  std::string model;
  Prompt prompt;
};

void Show(const RenderOptions& options, const Rendered& rendered, bool color, std::ostream& out,
          std::ostream& notes) {
  const Prompt& prompt = rendered.prompt;
  if (options.json) {
    out << PromptToJson(prompt, rendered.model) << std::flush;
    return;
  }
  if (options.ids || options.tokens) {
    out << TokensText(prompt.tokens, options.ids ? TokenStyle::kIds : TokenStyle::kTable, color);
  } else {
    out << PromptText(prompt, color);
  }
  out << std::flush;
  notes << OneLine(rendered.model) << ": " << PromptSummary(prompt, color) << std::flush;
}

// From a model's folder, as a worker that serves it would.
absl::StatusOr<Rendered> RenderHere(const RenderOptions& options, std::string question,
                                    v1::Mode mode) {
  const auto model = worker::TextModel::Load(options.model, options.profile);
  if (!model.ok()) return Annotate(model.status(), "--model " + options.model);
  worker::RenderOptions how;
  const bool thinks = (*model)->profile().thinks() && mode != v1::MODE_INSTANT;
  how.thinking = thinks ? Thinking::kOn : Thinking::kOff;
  how.time_of_day = options.time_of_day.value_or(absl::ToUnixSeconds(absl::Now()));
  ASSIGN_OR_RETURN(const worker::RenderedPrompt prompt,
                   (*model)->Render({Message{Role::kUser, {Part{std::move(question)}}}}, how));
  return Rendered{options.model, (*model)->Show(prompt)};
}

// From a router: `at`. The status is the call's.
absl::StatusOr<Rendered> RenderThere(const RenderOptions& options, std::string question,
                                     v1::Mode mode, const Caller& at) {
  v1::RenderPromptRequest request;
  request.set_model(options.model);
  request.set_mode(mode);
  SetQuestion(std::move(question), request.mutable_messages());
  if (options.time_of_day) request.set_time_of_day(*options.time_of_day);
  grpc::ClientContext context;
  AddKey(at.key, context);
  v1::RenderPromptResponse response;
  RETURN_IF_ERROR(FromGrpc(Connect(at.router, at)->RenderPrompt(&context, request, &response)));
  ASSIGN_OR_RETURN(Prompt prompt, FromWire(response));
  return Rendered{response.model(), std::move(prompt)};
}

}  // namespace

int Render(const RenderOptions& options, std::ostream& out, std::ostream& notes, bool color) {
  const absl::StatusOr<v1::Mode> mode = ModeOf(options.mode);
  if (!mode.ok()) return Usage(mode.status());
  absl::StatusOr<std::string> question = TextArgument(options.question, "the question");
  if (!question.ok()) return Usage(question.status());
  std::error_code error;
  if (std::filesystem::is_directory(options.model, error)) {
    const auto rendered = RenderHere(options, *std::move(question), *mode);
    if (!rendered.ok()) return Usage(rendered.status());
    Show(options, *rendered, color, out, notes);
    return kExitOk;
  }
  const absl::StatusOr<Caller> caller = MakeCaller(options);
  if (!caller.ok()) return Usage(caller.status());
  const auto rendered = RenderThere(options, *std::move(question), *mode, *caller);
  if (!rendered.ok()) return Report(caller->router, rendered.status());
  Show(options, *rendered, color, out, notes);
  return kExitOk;
}

}  // namespace conclave::cli
