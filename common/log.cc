#include "common/log.h"

#include <absl/time/clock.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <utility>

namespace conclave {

struct Logger::Output {
  LogOptions options;
  std::function<void(std::string_view)> write;
};

namespace {

constexpr std::string_view kLevelNames[] = {"debug", "info", "warning", "error"};

// JSON's escapes; they also keep a line of text one line.
void AppendQuoted(std::string_view text, std::string& line) {
  line += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else if (c == '\n') {
      line += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      line += fmt::format("\\u{:04x}", byte);
    } else {
      line += c;
    }
  }
  line += '"';
}

bool IsPlain(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f || c == '"' || c == '\\' || c == '=') return false;
  }
  return !text.empty();
}

void AppendJson(const LogField& field, std::string& line) {
  line += ',';
  AppendQuoted(field.key, line);
  line += ':';
  if (field.quoted) return AppendQuoted(field.value, line);
  // JSON has no word for infinities.
  if (field.value.find("inf") == std::string::npos &&
      field.value.find("nan") == std::string::npos) {
    line += field.value;
  } else {
    AppendQuoted(field.value, line);
  }
}

void AppendText(const LogField& field, std::string& line) {
  line += ' ';
  line += field.key;
  line += '=';
  if (IsPlain(field.value)) {
    line += field.value;
  } else {
    AppendQuoted(field.value, line);
  }
}

// A message in the text form: as it is, with control characters escaped.
void AppendMessage(std::string_view message, std::string& line) {
  std::string quoted;
  AppendQuoted(message, quoted);
  bool plain = true;
  for (const char c : message) plain = plain && static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  line += plain ? message : std::string_view(quoted);
}

}  // namespace

Logger::Logger(LogOptions options) {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>("conclave", std::move(sink));
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);
  output_ = std::make_shared<Output>(
      Output{options, [logger = std::move(logger)](std::string_view line) {
               logger->info(spdlog::string_view_t(line.data(), line.size()));
             }});
}

Logger::Logger(LogOptions options, std::function<void(std::string_view line)> write)
    : output_(std::make_shared<Output>(Output{options, std::move(write)})) {}

Logger Logger::With(std::initializer_list<LogField> fields) const {
  Logger logger = *this;
  logger.fields_.insert(logger.fields_.end(), fields);
  return logger;
}

void Logger::Write(LogLevel level, std::string_view message,
                   std::initializer_list<LogField> fields) const {
  if (output_ == nullptr || level < output_->options.level) return;
  const std::string time =
      absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  const std::string_view name = kLevelNames[static_cast<size_t>(level)];
  const bool json = output_->options.format == LogFormat::kJson;

  std::string line;
  if (json) {
    line = fmt::format(R"({{"time":"{}","level":"{}","message":)", time, name);
    AppendQuoted(message, line);
  } else {
    line = fmt::format("{} {} ", time, name);
    AppendMessage(message, line);
  }
  for (const LogField& field : fields_) json ? AppendJson(field, line) : AppendText(field, line);
  for (const LogField& field : fields) json ? AppendJson(field, line) : AppendText(field, line);
  if (json) line += '}';
  output_->write(line);
}

}  // namespace conclave
