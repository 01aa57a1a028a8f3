#include "common/config_text.h"

#include <fmt/format.h>
#include <strings.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <iterator>
#include <utility>

#include "common/config_value.h"

namespace conclave {
namespace {

using Unit = std::pair<std::string_view, int64_t>;

// Greatest first.
constexpr Unit kSizeUnits[] = {
    {"GiB", 1 << 30}, {"GB", 1000'000'000}, {"MiB", 1 << 20}, {"MB", 1000'000},
    {"KiB", 1 << 10}, {"kB", 1000},         {"B", 1},         {"", 1}};

constexpr size_t kMostMeant = 64;       // A longer word is no misspelt one.
constexpr size_t kMostMeantKeys = 100;  // More than complaints are shown.

constexpr char kSizeForm[] =
    "is not a size: a number of bytes with B, kB, MB, GB, KiB, MiB, GiB or nothing behind it, as "
    "in \"64MiB\"";
constexpr char kDurationForm[] =
    "is not a duration: a number with ns, us, ms, s, m or h behind it, as in \"250ms\" or "
    "\"1m30s\"";

bool SameWord(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

// How people write units of time that absl::ParseDuration does not know.
std::string_view TimeUnit(std::string_view word) {
  static constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"ms", "ms"}, {"msec", "ms"},  {"millisecond", "ms"}, {"s", "s"},  {"sec", "s"},
      {"m", "m"},   {"second", "s"}, {"min", "m"},          {"mn", "m"}, {"minute", "m"},
      {"h", "h"},   {"hr", "h"},     {"hour", "h"}};
  for (const auto& [name, unit] : kWords) {
    if (SameWord(word, name) || SameWord(word, std::string(name) + "s")) return unit;
  }
  return "";
}

// `text` as a number and what stands behind it, without the spaces between them.
std::pair<std::string, std::string_view> SplitUnit(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  std::string_view unit = text.substr(digits);
  unit.remove_prefix(std::min(unit.find_first_not_of(' '), unit.size()));
  return {std::string(text.substr(0, digits)), unit};
}

ParsedText Wrong(std::string words, const std::string& meant = {}) {
  if (!meant.empty()) words += fmt::format("; did you mean \"{}\"?", meant);
  return {false, std::move(words)};
}

template <typename T>
std::errc ParseNumber(const std::string& text, T* number) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stopped != end ? std::errc::invalid_argument : error;
}

// "server.tls.key" as "server.tls" and "key".
std::pair<std::string_view, std::string_view> SplitPath(std::string_view path) {
  const size_t dot = path.rfind('.');
  if (dot == std::string_view::npos) return {"", path};
  return {path.substr(0, dot), path.substr(dot + 1)};
}

}  // namespace

ParsedText ParseWhole(const std::string& text, int64_t* number) {
  const std::errc error = ParseNumber(text, number);
  if (error == std::errc::result_out_of_range) return Wrong("is too great a number");
  return error == std::errc() ? ParsedText{true, ""} : Wrong("is not a whole number");
}

ParsedText ParseReal(const std::string& text, double* number) {
  const bool right = ParseNumber(text, number) == std::errc() && std::isfinite(*number);
  return right ? ParsedText{true, ""} : Wrong("is not a number");
}

ParsedText ParseLength(const std::string& text, absl::Duration* duration) {
  absl::Duration parsed;
  if (absl::ParseDuration(text, &parsed) && parsed != absl::InfiniteDuration() &&
      parsed != -absl::InfiniteDuration()) {
    *duration = parsed;
    return {true, ""};
  }
  const auto [number, word] = SplitUnit(text);
  const std::string_view unit = TimeUnit(word);
  if (!number.empty() && word.empty()) {
    return Wrong(kDurationForm, fmt::format("{}s", number));
  }
  return Wrong(kDurationForm,
               number.empty() || unit.empty() ? "" : fmt::format("{}{}", number, unit));
}

ParsedText ParseSize(const std::string& text, ByteSize* size) {
  const auto [digits, unit] = SplitUnit(text);
  int64_t number = 0;
  const std::errc error = ParseNumber(digits, &number);
  if (error == std::errc::result_out_of_range) return Wrong("is too great a size");
  if (error != std::errc()) return Wrong(kSizeForm);
  for (const auto& [name, factor] : kSizeUnits) {
    if (unit != name) continue;
    int64_t bytes = 0;
    if (__builtin_mul_overflow(number, factor, &bytes)) return Wrong("is too great a size");
    size->bytes = bytes;
    return {true, ""};
  }
  for (const auto& [name, factor] : kSizeUnits) {
    const bool brief = SameWord(unit, name.substr(0, 1)) && name.size() == 3;  // "64M".
    if (!SameWord(unit, name) && !brief) continue;
    return Wrong(kSizeForm, fmt::format("{}{}", number, name));
  }
  return Wrong(kSizeForm);
}

std::string ShowValue(int64_t number) { return fmt::to_string(number); }
std::string ShowValue(double number) { return fmt::to_string(number); }
std::string ShowValue(absl::Duration duration) { return absl::FormatDuration(duration); }
std::string ShowValue(ByteSize size) {
  for (const auto& [name, factor] : kSizeUnits) {
    if (size.bytes > 0 && size.bytes % factor == 0) {
      return fmt::format("{}{}", size.bytes / factor, name);
    }
  }
  return fmt::format("{}B", size.bytes);
}

// Optimal string alignment: no part is edited twice.
int EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int>> rows(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      int& here = rows[i][j];
      if (i == 0 || j == 0) {
        here = static_cast<int>(i + j);
        continue;
      }
      here = std::min({rows[i - 1][j] + 1, rows[i][j - 1] + 1,
                       rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        here = std::min(here, rows[i - 2][j - 2] + 1);
      }
    }
  }
  return rows[a.size()][b.size()];
}

int MeantDistance(size_t length, size_t other) {
  return static_cast<int>(std::max<size_t>(2, std::max(length, other) / 3));
}

std::string NearestWord(std::string_view word, const std::vector<std::string>& known) {
  std::string nearest;
  if (word.size() > kMostMeant) return nearest;
  int least = INT_MAX;
  for (const std::string& candidate : known) {
    const int distance = EditDistance(word, candidate);
    if (distance >= least || distance > MeantDistance(word.size(), candidate.size())) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest;
}

std::string AnyIndex(std::string_view path) {
  std::string any;
  for (size_t i = 0; i < path.size(); ++i) {
    const bool digit = path[i] >= '0' && path[i] <= '9';
    if (!digit || any.empty() || any.back() != '[') any += path[i];
  }
  return any;
}

std::string MeantPaths(std::string_view path, const std::set<std::string>& known) {
  const auto [section, key] = SplitPath(path);
  if (key.size() > kMostMeant) return "";
  const std::string home = AnyIndex(section);
  int least = INT_MAX;
  std::vector<std::string> meant;
  for (const std::string& candidate : known) {
    const auto [other_section, other_key] = SplitPath(candidate);
    // A key of another section must resemble it more than one of its own does.
    const bool elsewhere = other_section != home;
    int distance = EditDistance(key, other_key);
    if (elsewhere && distance++ > static_cast<int>(key.size()) / 4) continue;
    if (distance > least || distance > MeantDistance(key.size(), other_key.size())) continue;
    if (distance < least) meant.clear();
    least = distance;
    meant.push_back(elsewhere ? candidate : JoinPath(section, other_key));
  }
  std::string text;
  const size_t shown = std::min<size_t>(meant.size(), 3);
  for (size_t i = 0; i < shown; ++i) {
    text += fmt::format("{}\"{}\"", i == 0 ? "" : i + 1 == shown ? " or " : ", ", meant[i]);
  }
  return text;
}

void AddUnknownKeys(const ConfigValue& value, const std::string& path, ConfigErrors& errors) {
  for (size_t i = 0; i < value.entries.size(); ++i) {
    const auto& [key, child] = value.entries[i];
    const std::string full = JoinPath(path, key);
    if (std::find(value.known.begin(), value.known.end(), key) == value.known.end()) {
      // Looking for what was meant takes long, and only the first complaints are shown.
      const bool shown = errors.complaints.size() < kMostMeantKeys;
      const std::string meant = shown ? MeantPaths(full, errors.known_paths) : "";
      errors.Add(value.key_places[i], full,
                 "unknown key" + (meant.empty() ? "" : fmt::format("; did you mean {}?", meant)));
      continue;
    }
    if (errors.unread.contains(full)) continue;
    // A mapping whose keys nobody asked for was read as a whole.
    if (!child->known.empty() || child->kind == ConfigValue::Kind::kList) {
      AddUnknownKeys(*child, full, errors);
    }
  }
  for (size_t i = 0; i < value.items.size(); ++i) {
    AddUnknownKeys(*value.items[i], fmt::format("{}[{}]", path, i), errors);
  }
}

}  // namespace conclave
