#include "worker/text/normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <utility>

#include "common/status.h"
#include "worker/text/tokenizer_json.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Json = nlohmann::json;

// Calls change(stretch, out) for each author's stretch.
template <typename Change>
absl::StatusOr<MarkedString> ByAuthor(const MarkedString& text, const Change& change) {
  MarkedString result;
  size_t begin = 0;
  for (const MarkedString::Run& run : text.runs()) {
    std::string piece;
    RETURN_IF_ERROR(change(std::string_view(text.text()).substr(begin, run.end - begin), piece));
    result.Append(piece, run.author);
    begin = run.end;
  }
  return result;
}

absl::StatusOr<MarkedString> Compose(const MarkedString& text,
                                     const icu::Normalizer2* (*form)(UErrorCode&)) {
  UErrorCode error = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = form(error);
  if (U_FAILURE(error)) return Internal("ICU lacks a normal form: {}", u_errorName(error));
  return ByAuthor(text, [&](std::string_view piece, std::string& out) -> absl::Status {
    icu::StringByteSink<std::string> sink(&out);
    normalizer->normalizeUTF8(0, icu::StringPiece(piece.data(), static_cast<int32_t>(piece.size())),
                              sink, nullptr, error);
    return U_FAILURE(error) ? Internal("normalising the text failed: {}", u_errorName(error))
                            : absl::OkStatus();
  });
}

// Character by character, so that no neighbour matters (Greek's final sigma), as Rust does.
absl::Status Lower(std::string_view piece, std::string& out) {
  while (!piece.empty()) {
    const Utf8Char c = ReadUtf8(piece);
    piece.remove_prefix(c.bytes);
    if (c.code < 0x80) {
      out += static_cast<char>(c.code >= 'A' && c.code <= 'Z' ? c.code + 32 : c.code);
    } else {
      icu::UnicodeString(static_cast<UChar32>(c.code))
          .toLower(icu::Locale::getRoot())
          .toUTF8String(out);
    }
  }
  return absl::OkStatus();
}

absl::Status DropMarks(std::string_view piece, std::string& out) {
  while (!piece.empty()) {
    const Utf8Char c = ReadUtf8(piece);
    if ((U_GET_GC_MASK(static_cast<UChar32>(c.code)) & U_GC_M_MASK) == 0) {
      out += piece.substr(0, c.bytes);
    }
    piece.remove_prefix(c.bytes);
  }
  return absl::OkStatus();
}

MarkedString StripSpace(const MarkedString& text, bool left, bool right) {
  const std::string_view bytes = text.text();
  size_t begin = 0, end = bytes.size();
  while (left && begin < end && IsWhiteSpace(ReadUtf8(bytes.substr(begin)).code)) {
    begin += ReadUtf8(bytes.substr(begin)).bytes;
  }
  while (right && end > begin && IsWhiteSpace(LastUtf8(bytes.substr(0, end)).code)) {
    end -= LastUtf8(bytes.substr(0, end)).bytes;
  }
  return text.Slice(begin, end - begin);
}

absl::StatusOr<MarkedString> Replace(const MarkedString& text, const SplitPattern& pattern,
                                     const std::string& content) {
  std::vector<SplitPattern::Piece> pieces;
  MatchBudget budget(text.size());
  RETURN_IF_ERROR(pattern.Cut(text.text(), budget, pieces));
  MarkedString result;
  size_t begin = 0;
  for (const SplitPattern::Piece& piece : pieces) {
    const size_t end = begin + piece.text.size();
    if (piece.matched) {
      const bool ours = text.WrittenByTemplate(begin, end);
      result.Append(content, ours ? Author::kTemplate : Author::kCaller);
    } else {
      result.Append(text.Slice(begin, end - begin));
    }
    if (result.size() > Normalizer::kMaxBytes) break;  // The caller refuses it.
    begin = end;
  }
  return result;
}

}  // namespace

struct Normalizer::Reader {
  static absl::StatusOr<Step> Read(const Json& node, const std::string& path) {
    static constexpr std::pair<std::string_view, Kind> kPlain[] = {
        {"NFC", Kind::kNfc},
        {"NFD", Kind::kNfd},
        {"NFKC", Kind::kNfkc},
        {"NFKD", Kind::kNfkd},
        {"Lowercase", Kind::kLowercase},
        {"StripAccents", Kind::kStripAccents}};
    const std::string type = TypeOf(node);
    Step step;
    for (const auto& [name, kind] : kPlain) {
      if (type != name) continue;
      step.kind = kind;
      return step;
    }
    if (type == "Strip") {
      step.kind = Kind::kStrip;
      step.left = FlagMember(node, "strip_left");
      step.right = FlagMember(node, "strip_right");
      return step;
    }
    if (type == "Prepend") {
      step.kind = Kind::kPrepend;
      ASSIGN_OR_RETURN(step.content, InsertedText(node, path, "prepend"));
      return step;
    }
    if (type == "Replace") {
      step.kind = Kind::kReplace;
      ASSIGN_OR_RETURN(step.content, InsertedText(node, path, "content"));
      ASSIGN_OR_RETURN(step.pattern, PatternOf(node, path, {}));
      return step;
    }
    return Unimplemented("{}: {} is not supported", path, type);
  }
};

absl::StatusOr<Normalizer> Normalizer::Parse(const Json& node) {
  Normalizer normalizer;
  int count = 0;
  RETURN_IF_ERROR(ForEachStep(node, "normalizer", "normalizers", count,
                              [&](const Json& each, const std::string& path) -> absl::Status {
                                ASSIGN_OR_RETURN(Step step, Reader::Read(each, path));
                                normalizer.steps_.push_back(std::move(step));
                                return absl::OkStatus();
                              }));
  return normalizer;
}

absl::StatusOr<MarkedString> Normalizer::Run(const Step& step, MarkedString text) {
  switch (step.kind) {
    case Kind::kNfc:
      return Compose(text, icu::Normalizer2::getNFCInstance);
    case Kind::kNfd:
      return Compose(text, icu::Normalizer2::getNFDInstance);
    case Kind::kNfkc:
      return Compose(text, icu::Normalizer2::getNFKCInstance);
    case Kind::kNfkd:
      return Compose(text, icu::Normalizer2::getNFKDInstance);
    case Kind::kLowercase:
      return ByAuthor(text, Lower);
    case Kind::kStripAccents:
      return ByAuthor(text, DropMarks);
    case Kind::kStrip:
      return StripSpace(text, step.left, step.right);
    case Kind::kPrepend: {
      if (text.empty()) return text;
      MarkedString longer(step.content, text.author_at(0));
      longer.Append(text);
      return longer;
    }
    case Kind::kReplace:
      return Replace(text, *step.pattern, step.content);
  }
  return text;
}

absl::StatusOr<MarkedString> Normalizer::Apply(MarkedString text) const {
  for (const Step& step : steps_) {
    ASSIGN_OR_RETURN(text, Run(step, std::move(text)));
    if (text.size() > kMaxBytes) {
      return ResourceExhausted("normalised, the text has more than {} bytes", kMaxBytes);
    }
  }
  return text;
}

}  // namespace conclave::worker
