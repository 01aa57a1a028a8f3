#include "common/status_details.h"

#include <absl/strings/cord.h>
#include <fmt/format.h>

#include <charconv>
#include <string_view>

namespace conclave {
namespace {

constexpr char kPayload[] = "conclave/details";

// One item: a letter for its kind and two texts, each behind its length.
void Append(char kind, std::string_view first, std::string_view second, std::string& bytes) {
  bytes += fmt::format("{}{}:{}{}:{}", kind, first.size(), first, second.size(), second);
}

// Reads what Append wrote; false at the end or at damage.
class ItemReader {
 public:
  explicit ItemReader(std::string_view bytes) : rest_(bytes) {}

  bool Next(char* kind, std::string* first, std::string* second) {
    if (rest_.empty()) return false;
    *kind = rest_.front();
    rest_.remove_prefix(1);
    return Text(first) && Text(second);
  }

 private:
  bool Text(std::string* text) {
    size_t size = 0;
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), size);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<size_t>(end - rest_.data()));
    if (rest_.size() <= size || rest_.front() != ':') return false;
    text->assign(rest_.substr(1, size));
    rest_.remove_prefix(1 + size);
    return true;
  }

  std::string_view rest_;
};

}  // namespace

StatusDetails DetailsOf(const absl::Status& status) {
  StatusDetails details;
  const auto payload = status.GetPayload(kPayload);
  if (!payload) return details;
  const std::string bytes(*payload);
  ItemReader reader(bytes);
  char kind = 0;
  for (std::string first, second; reader.Next(&kind, &first, &second);) {
    if (kind == 'f') details.fields.emplace_back(first, second);
    if (kind == 'q') details.quotas.emplace_back(first, second);
    if (kind == 'm') details.metadata[first] = second;
    if (kind == 'i') details.request_id = first;
    if (kind == 'e') details.reason = first;
    if (kind == 'r') {
      int64_t nanoseconds = 0;
      std::from_chars(first.data(), first.data() + first.size(), nanoseconds);
      details.retry_after = absl::Nanoseconds(nanoseconds);
    }
  }
  return details;
}

absl::Status WithDetails(absl::Status status, const StatusDetails& details) {
  if (status.ok()) return status;
  std::string bytes;
  for (const auto& [field, what] : details.fields) Append('f', field, what, bytes);
  for (const auto& [subject, what] : details.quotas) Append('q', subject, what, bytes);
  for (const auto& [key, value] : details.metadata) Append('m', key, value, bytes);
  if (!details.request_id.empty()) Append('i', details.request_id, "", bytes);
  if (!details.reason.empty()) Append('e', details.reason, "", bytes);
  if (details.retry_after) {
    Append('r', fmt::to_string(absl::ToInt64Nanoseconds(*details.retry_after)), "", bytes);
  }
  if (bytes.empty()) {
    status.ErasePayload(kPayload);
  } else {
    status.SetPayload(kPayload, absl::Cord(bytes));
  }
  return status;
}

absl::Status WithRetryAfter(const absl::Status& status, absl::Duration retry_after) {
  StatusDetails details = DetailsOf(status);
  details.retry_after = retry_after;
  return WithDetails(status, details);
}

absl::Status WithRequestId(const absl::Status& status, const std::string& request_id) {
  StatusDetails details = DetailsOf(status);
  details.request_id = request_id;
  return WithDetails(status, details);
}

}  // namespace conclave
