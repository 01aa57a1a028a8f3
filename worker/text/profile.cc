#include "worker/text/profile.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "common/config.h"
#include "common/file.h"
#include "common/status.h"
#include "worker/text/json_text.h"

namespace conclave::worker {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 20;
constexpr int kMaxVariables = 32;
constexpr int kMaxEfforts = 16;
constexpr int kMaxFormats = 64;
constexpr int kMaxCandidates = 64;
constexpr int kMaxTokens = 1 << 24;

// A text that is empty or holds all of its placeholders.
void ReadText(ConfigNode& node, std::string_view key, std::string* target,
              std::initializer_list<std::string_view> placeholders) {
  node.Read(key, target);
  if (target->empty()) return;
  for (const std::string_view placeholder : placeholders) {
    if (target->find(placeholder) == std::string::npos) {
      node.Fail(key, fmt::format("lacks the placeholder {}", placeholder));
    }
  }
}

TemplateVariables ReadVariables(ConfigNode& node, std::string_view key) {
  TemplateVariables variables;
  for (ConfigNode& item : node.Items(key, kMaxVariables)) {
    std::string name, text;
    bool flag = false;
    int64_t number = 0;
    item.Read("name", &name);
    item.Read("text", &text);
    item.Read("flag", &flag);
    item.Read("number", &number, {INT64_MIN, INT64_MAX});
    if (name.empty()) item.Fail("name", "is missing");
    if (item.Has("text") + item.Has("flag") + item.Has("number") != 1) {
      item.Fail("", "has to have one of: text, flag, number");
    }
    if (item.Has("text")) variables[name] = text;
    if (item.Has("flag")) variables[name] = flag;
    if (item.Has("number")) variables[name] = number;
  }
  return variables;
}

ThinkingFormat ReadFormat(ConfigNode& node) {
  ThinkingFormat format;
  node.Read("start", &format.start);
  node.Read("end", &format.end);
  node.Read("force_end", &format.force_end);
  node.Read("answer_start", &format.answer_start);
  if (format.start.empty() != format.end.empty()) {
    node.Fail("", "has only one of the markers start and end");
  }
  if (!format.end.empty() && format.force_end.find(format.end) == std::string::npos) {
    node.Fail("force_end", "does not hold the end marker");
  }
  return format;
}

void SetFormat(const ThinkingFormat& format, Profile& profile) {
  profile.think_start = format.start;
  profile.think_end = format.end;
  profile.force_think_end = format.force_end;
  profile.answer_start = format.answer_start;
}

void ReadThinking(ConfigNode node, Profile& profile) {
  SetFormat(ReadFormat(node), profile);
  for (ConfigNode& item : node.Items("formats", kMaxFormats)) {
    ThinkingFormat format = ReadFormat(item);
    item.Read("seen", &format.seen);
    if (format.seen.empty()) item.Fail("seen", "is missing");
    if (format.end.empty()) item.Fail("end", "is missing");
    profile.formats.push_back(std::move(format));
  }
  node.Read("tokens", &profile.thinking_tokens, {0, kMaxTokens});
  profile.when_on = ReadVariables(node, "when_on");
  profile.when_off = ReadVariables(node, "when_off");
  for (ConfigNode& effort : node.Items("efforts", kMaxEfforts)) {
    std::string name;
    effort.Read("name", &name);
    if (name.empty()) effort.Fail("name", "is missing");
    profile.efforts[name] = ReadVariables(effort, "variables");
  }
}

void ReadAnswer(ConfigNode node, Profile& profile) {
  using Kind = AnswerKeySpec::Kind;
  node.ReadChoice("key", &profile.answer_key.kind,
                  {{"boxed", Kind::kBoxed},
                   {"answer_line", Kind::kAnswerLine},
                   {"json_field", Kind::kJsonField},
                   {"regex", Kind::kRegex},
                   {"last_line", Kind::kLastLine},
                   {"whole_text", Kind::kWholeText}});
  node.Read("argument", &profile.answer_key.argument);
  node.Read("tokens", &profile.answer_tokens, {0, kMaxTokens});
  const absl::Status status = AnswerKey::Parse(profile.answer_key).status();
  if (!status.ok()) node.Fail("key", MessageOf(status));
}

void ReadWording(ConfigNode root, Profile& profile) {
  ConfigNode aggregation = root.Section("aggregation");
  ReadText(aggregation, "text", &profile.aggregate_text, {"{question}", "{candidates}"});
  ReadText(aggregation, "candidate_line", &profile.candidate_line, {"{answer}"});
  aggregation.Read("max_candidates", &profile.max_candidates, {2, kMaxCandidates});
  ConfigNode selection = root.Section("selection");
  ReadText(selection, "text", &profile.select_text, {"{question}", "{candidates}"});
  ConfigNode splitting = root.Section("splitting");
  ReadText(splitting, "text", &profile.split_text, {"{question}"});
  ConfigNode joining = root.Section("joining");
  ReadText(joining, "text", &profile.join_text, {"{question}", "{candidates}"});
  ReadText(joining, "candidate_line", &profile.join_line, {"{part}", "{answer}"});
  if (profile.join_text.empty() != profile.join_line.empty()) {
    joining.Fail("", "has only one of text and candidate_line");
  }
  ConfigNode refining = root.Section("refining");
  ReadText(refining, "text", &profile.refine_text, {"{question}", "{candidates}"});
  if (profile.aggregate_text.empty() || profile.candidate_line.empty()) {
    aggregation.Fail("", "has to have text and candidate_line");
  }
}

void ReadSampling(ConfigNode root, Profile& profile) {
  if (!root.Has("sampling")) return;
  ConfigNode node = root.Section("sampling");
  Sampling sampling;
  node.Read("temperature", &sampling.temperature, {0.0f, 2.0f});
  node.Read("top_k", &sampling.top_k, {0, 1024});
  node.Read("top_p", &sampling.top_p, {1e-6f, 1.0f});
  node.Read("min_p", &sampling.min_p, {0.0f, 0.999f});
  node.Read("repetition_penalty", &sampling.repetition_penalty, {0.01f, 10.0f});
  node.Read("presence_penalty", &sampling.presence_penalty, {-2.0f, 2.0f});
  node.Read("frequency_penalty", &sampling.frequency_penalty, {-2.0f, 2.0f});
  profile.sampling = sampling;
}

}  // namespace

void Profile::TakeFormat(std::string_view chat_template) {
  if (thinks()) return;
  const auto known =
      std::find_if(formats.begin(), formats.end(), [&](const ThinkingFormat& format) {
        return std::all_of(format.seen.begin(), format.seen.end(), [&](const std::string& text) {
          return chat_template.find(text) != std::string_view::npos;
        });
      });
  if (known != formats.end()) SetFormat(*known, *this);
}

absl::StatusOr<Profile> ParseProfile(const std::string& yaml, const std::string& name) {
  absl::StatusOr<Config> config = Config::Parse(yaml, name);
  if (!config.ok()) return config.status();
  ConfigNode root = config->root();
  Profile profile;
  ReadThinking(root.Section("thinking"), profile);
  ReadAnswer(root.Section("answer"), profile);
  ReadWording(root, profile);
  root.Read("recommended_tokens", &profile.recommended_tokens, {0, kMaxTokens});
  ReadSampling(root, profile);
  if (absl::Status status = config->Finish(); !status.ok()) return status;
  return profile;
}

absl::StatusOr<LoadedProfile> LoadProfile(const std::filesystem::path& dir,
                                          const std::filesystem::path& fallback) {
  LoadedProfile loaded;
  loaded.path = dir / "conclave.yaml";
  ASSIGN_OR_RETURN(auto own, ReadFileIfThere(loaded.path, kMaxFileBytes));
  if (!own) loaded.path = fallback;
  absl::StatusOr<std::string> source = own ? *std::move(own) : ReadFile(fallback, kMaxFileBytes);
  if (!source.ok()) return Annotate(source.status(), "model's profile");
  loaded.source = *std::move(source);
  absl::StatusOr<Profile> profile = ParseProfile(loaded.source, loaded.path.string());
  if (!profile.ok()) return profile.status();
  loaded.profile = *std::move(profile);
  return loaded;
}

}  // namespace conclave::worker
