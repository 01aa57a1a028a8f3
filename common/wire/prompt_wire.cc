#include "common/wire/prompt_wire.h"

#include <utility>

#include "common/status.h"

namespace conclave {
namespace {

template <typename Wire>
void Fill(const Prompt& prompt, Wire& out) {
  out.set_text(prompt.text);
  for (const PromptRun& run : prompt.runs) {
    v1::PromptRun& wire = *out.add_runs();
    wire.set_end(static_cast<int64_t>(run.end));
    wire.set_author(run.by_caller ? v1::AUTHOR_CALLER : v1::AUTHOR_TEMPLATE);
  }
  for (const PromptToken& token : prompt.tokens) {
    out.add_tokens(token.id);
    v1::PromptPiece& piece = *out.add_pieces();
    piece.set_text(token.text);
    piece.set_control(token.control);
  }
}

template <typename Wire>
absl::StatusOr<Prompt> Read(const Wire& wire) {
  if (wire.runs_size() == 0 && !wire.text().empty()) {
    return Unimplemented("the prompt is of a version that does not tell who wrote what");
  }
  if (wire.pieces_size() != wire.tokens_size()) {
    return Internal("the prompt has {} tokens and {} pieces", wire.tokens_size(),
                    wire.pieces_size());
  }
  Prompt prompt;
  prompt.text = wire.text();
  for (const v1::PromptRun& run : wire.runs()) {
    const size_t end = static_cast<size_t>(run.end());
    const size_t begin = prompt.runs.empty() ? 0 : prompt.runs.back().end;
    if (run.end() <= 0 || end > prompt.text.size() || end <= begin) {
      return Internal("a run of the prompt ends at byte {} of {}", run.end(), prompt.text.size());
    }
    prompt.runs.push_back({end, run.author() == v1::AUTHOR_CALLER});
  }
  if (!prompt.runs.empty() && prompt.runs.back().end != prompt.text.size()) {
    return Internal("the prompt has {} bytes, {} of them with an author", prompt.text.size(),
                    prompt.runs.back().end);
  }
  for (int i = 0; i < wire.tokens_size(); ++i) {
    prompt.tokens.push_back({wire.tokens(i), wire.pieces(i).text(), wire.pieces(i).control()});
  }
  return prompt;
}

}  // namespace

void ToWire(const Prompt& prompt, v1::RenderResponse* out) { Fill(prompt, *out); }
void ToWire(const Prompt& prompt, v1::RenderPromptResponse* out) { Fill(prompt, *out); }
absl::StatusOr<Prompt> FromWire(const v1::RenderResponse& wire) { return Read(wire); }
absl::StatusOr<Prompt> FromWire(const v1::RenderPromptResponse& wire) { return Read(wire); }

}  // namespace conclave
