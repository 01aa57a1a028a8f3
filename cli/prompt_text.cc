#include "cli/prompt_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/screen.h"
#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

using nlohmann::ordered_json;

constexpr Tone kControl = Tone::kBusy, kCaller = Tone::kStrong, kTemplate = Tone::kFaint;

// The next run that begins at or before `at`.
const PromptRun& RunAt(const Prompt& prompt, size_t at) {
  return *std::upper_bound(prompt.runs.begin(), prompt.runs.end(), at,
                           [](size_t byte, const PromptRun& run) { return byte < run.end; });
}

// Whether the template wrote all of [begin, end).
bool ByTemplate(const Prompt& prompt, size_t begin, size_t end) {
  const PromptRun& run = RunAt(prompt, begin);
  return !run.by_caller && run.end >= end;
}

// A stretch of the prompt in one tone.
struct Stretch {
  size_t end = 0;
  Tone tone = Tone::kPlain;
};

// Appends the bytes up to `end`, each in its author's tone.
void AddAuthors(const Prompt& prompt, size_t end, std::vector<Stretch>& stretches) {
  size_t at = stretches.empty() ? 0 : stretches.back().end;
  while (at < end) {
    const PromptRun& run = RunAt(prompt, at);
    at = std::min(run.end, end);
    stretches.push_back({at, run.by_caller ? kCaller : kTemplate});
  }
}

// Control tokens stand in the text as they are, in order; their like in a caller's words is none.
std::vector<Stretch> StretchesOf(const Prompt& prompt) {
  std::vector<Stretch> stretches;
  size_t at = 0;
  for (const PromptToken& token : prompt.tokens) {
    if (!token.control || token.text.empty()) continue;
    size_t found = prompt.text.find(token.text, at);
    while (found != std::string::npos && !ByTemplate(prompt, found, found + token.text.size())) {
      found = prompt.text.find(token.text, found + 1);
    }
    if (found == std::string::npos) continue;
    AddAuthors(prompt, found, stretches);
    at = found + token.text.size();
    stretches.push_back({at, kControl});
  }
  AddAuthors(prompt, prompt.text.size(), stretches);
  return stretches;
}

size_t CallerBytes(const Prompt& prompt) {
  size_t bytes = 0, begin = 0;
  for (const PromptRun& run : prompt.runs) {
    if (run.by_caller) bytes += run.end - begin;
    begin = run.end;
  }
  return bytes;
}

std::string Counted(size_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

ordered_json JsonOf(const std::vector<PromptToken>& tokens) {
  ordered_json list = ordered_json::array();
  for (const PromptToken& token : tokens) {
    ordered_json& one = list.emplace_back();
    one["id"] = token.id;
    one["text"] = token.text;
    if (!IsUtf8(token.text)) {
      std::string hex;
      for (const char byte : token.text) {
        hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
      }
      one["bytes"] = hex;
    }
    if (token.control) one["control"] = true;
  }
  return list;
}

std::string Dump(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string TokensText(const std::vector<PromptToken>& tokens, TokenStyle style, bool color) {
  std::string text;
  for (const PromptToken& token : tokens) {
    if (style == TokenStyle::kIds) {
      text += fmt::format("{}{}", text.empty() ? "" : " ", token.id);
    } else {
      text +=
          fmt::format("{:>7}  {}{}\n", token.id,
                      Painted(Quoted(token.text), token.control ? kControl : Tone::kPlain, color),
                      token.control ? "  control" : "");
    }
  }
  return style == TokenStyle::kIds ? text + "\n" : text;
}

std::string PromptText(const Prompt& prompt, bool color) {
  std::string text;
  size_t begin = 0;
  for (const Stretch& stretch : StretchesOf(prompt)) {
    text += Painted(std::string_view(prompt.text).substr(begin, stretch.end - begin), stretch.tone,
                    color);
    begin = stretch.end;
  }
  return prompt.text.ends_with('\n') ? text : text + "\n";
}

std::string PromptSummary(const Prompt& prompt, bool color) {
  const auto control =
      static_cast<size_t>(std::count_if(prompt.tokens.begin(), prompt.tokens.end(),
                                        [](const PromptToken& token) { return token.control; }));
  std::string text = fmt::format("{} ({} control), {}, {} of them the caller's",
                                 Counted(prompt.tokens.size(), "token"), control,
                                 Counted(prompt.text.size(), "byte"), CallerBytes(prompt));
  if (color) {
    text += fmt::format("\n{}, {}, {}", Painted("control tokens", kControl, true),
                        Painted("the caller's words", kCaller, true),
                        Painted("the template's", kTemplate, true));
  }
  return text + "\n";
}

std::string PromptToJson(const Prompt& prompt, const std::string& model) {
  ordered_json json;
  json["model"] = model;
  json["text"] = prompt.text;
  json["runs"] = ordered_json::array();
  for (const PromptRun& run : prompt.runs) {
    json["runs"].push_back({{"end", run.end}, {"author", run.by_caller ? "caller" : "template"}});
  }
  json["count"] = prompt.tokens.size();
  json["tokens"] = JsonOf(prompt.tokens);
  return Dump(json);
}

std::string TokensToJson(const std::vector<PromptToken>& tokens, std::string_view text) {
  ordered_json json;
  json["count"] = tokens.size();
  json["bytes"] = text.size();
  json["tokens"] = JsonOf(tokens);
  return Dump(json);
}

}  // namespace conclave::cli
