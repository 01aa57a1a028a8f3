#pragma once

#include <cstdint>
#include <deque>
#include <string>

namespace conclave::worker {

// The text that one token released.
struct TextPiece {
  int index = 0;         // Of the token, after the prompt.
  std::string thinking;  // Bytes for the thinking channel.
  std::string answer;    // Bytes for the answer channel.
  int64_t text_end = 0;  // Bytes of both channels together released up to here.

  bool operator==(const TextPiece&) const = default;
};

// The hand-over of an agent's text from its TextPolicy (which the engine owns and calls for every
// token) to the FamilySink (which the engine calls with the same tokens a moment later). Both ends
// run on the engine's thread, so there is no lock. Held by shared_ptr, because the engine may drop
// the policy at the agent's end before the sink has taken the last pieces.
class TextTrace {
 public:
  void Put(TextPiece piece) { pieces_.push_back(std::move(piece)); }

  // The piece of token `index`. Pieces of earlier tokens (fed ones, which nobody reports) are
  // dropped. A piece that was never put is empty.
  TextPiece Take(int index) {
    while (!pieces_.empty() && pieces_.front().index < index) {
      last_end_ = pieces_.front().text_end;
      pieces_.pop_front();
    }
    if (pieces_.empty() || pieces_.front().index != index) {
      return {.index = index, .thinking = {}, .answer = {}, .text_end = last_end_};
    }
    TextPiece piece = std::move(pieces_.front());
    pieces_.pop_front();
    last_end_ = piece.text_end;
    return piece;
  }

 private:
  std::deque<TextPiece> pieces_;
  int64_t last_end_ = 0;
};

}  // namespace conclave::worker
