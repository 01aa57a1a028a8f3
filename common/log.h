#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>
#include <fmt/format.h>

#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace conclave {

enum class LogLevel { kDebug, kInfo, kWarning, kError };
enum class LogFormat { kText, kJson };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;

  bool operator==(const LogOptions&) const = default;
};

// A named value beside a message. What a caller wrote (messages, answers) never becomes one: sizes
// and ids do.
struct LogField {
  LogField(std::string_view name, std::string_view text) : key(name), value(text), quoted(true) {}
  LogField(std::string_view name, const char* text) : LogField(name, std::string_view(text)) {}
  LogField(std::string_view name, const std::string& text)
      : LogField(name, std::string_view(text)) {}
  LogField(std::string_view name, bool truth) : key(name), value(truth ? "true" : "false") {}
  template <typename T>
  requires std::integral<T> || std::floating_point<T> LogField(std::string_view name, T number)
      : key(name), value(fmt::to_string(number)) {}
  LogField(std::string_view name, absl::Duration duration)
      : key(name), value(absl::FormatDuration(duration)), quoted(true) {}
  LogField(std::string_view name, const absl::Status& status)
      : key(name), value(status.ToString()), quoted(true) {}

  std::string key;
  std::string value;
  bool quoted = false;  // A text: JSON puts it in quotes.
};

// Writes lines "time level message key=value ..." or one JSON object a line. Control characters in
// any text are escaped, so that nobody forges a line. Thread-safe; copies are cheap and write to
// the same place. Passed in, never global.
class Logger {
 public:
  // Writes nothing.
  Logger() = default;
  // Writes to standard error.
  explicit Logger(LogOptions options);
  // Gives each line, without its end, to `write`, which any thread may call.
  Logger(LogOptions options, std::function<void(std::string_view line)> write);

  // A logger that adds `fields` to each of its lines: a request's id, a group's address.
  Logger With(std::initializer_list<LogField> fields) const;

  void Debug(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    Write(LogLevel::kDebug, message, fields);
  }
  void Info(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    Write(LogLevel::kInfo, message, fields);
  }
  void Warning(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    Write(LogLevel::kWarning, message, fields);
  }
  void Error(std::string_view message, std::initializer_list<LogField> fields = {}) const {
    Write(LogLevel::kError, message, fields);
  }

 private:
  struct Output;

  void Write(LogLevel level, std::string_view message,
             std::initializer_list<LogField> fields) const;

  std::shared_ptr<const Output> output_;  // Shared by copies, which all write to the one place.
  std::vector<LogField> fields_;
};

}  // namespace conclave
