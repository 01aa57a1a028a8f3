#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave {

// A number of bytes, written "64MiB", "500kB" or "4096".
struct ByteSize {
  int64_t bytes = 0;

  auto operator<=>(const ByteSize&) const = default;
};

// The values that a key may have, both ends included, and what they count, for messages.
template <typename T>
struct Range {
  T least, most;
  const char* unit = "";
};

// Whether a check of a config looks at the files that it names too.
enum class NamedFiles { kIgnore, kCheck };

struct ConfigValue;  // A node of the document: config_value.h.
struct ConfigErrors;
struct ParsedText;

// One mapping of a config file. Reading a key that is absent leaves the target, which holds the
// default, as it is. Every key that was read is known; Config::Finish refuses the others. Errors
// are gathered, not returned, so that a parser is a plain list of reads. A value that refers to its
// Config, which must outlive it. One thread.
class ConfigNode {
 public:
  void Read(std::string_view key, bool* target);
  void Read(std::string_view key, std::string* target);
  void Read(std::string_view key, std::vector<std::string>* target);
  void Read(std::string_view key, int* target,
            Range<int> range = {0, std::numeric_limits<int>::max()});
  void Read(std::string_view key, int64_t* target,
            Range<int64_t> range = {0, std::numeric_limits<int64_t>::max()});
  void Read(std::string_view key, double* target, Range<double> range);
  void Read(std::string_view key, float* target, Range<float> range);
  // A number with a unit: "250ms", "5s", "1m30s", "2h".
  void Read(std::string_view key, absl::Duration* target,
            Range<absl::Duration> range = {absl::ZeroDuration(), absl::Hours(24 * 365)});
  void Read(std::string_view key, ByteSize* target,
            Range<ByteSize> range = {{0}, {std::numeric_limits<int64_t>::max()}});

  // One of a few words.
  template <typename E>
  void ReadChoice(std::string_view key, E* target,
                  std::initializer_list<std::pair<std::string_view, E>> choices) {
    std::vector<std::string_view> words;
    for (const auto& [word, value] : choices) words.push_back(word);
    const int index = ReadWord(key, words);
    if (index >= 0) *target = (choices.begin() + index)->second;
  }

  // Whether the key is there with a value. Makes it known.
  bool Has(std::string_view key);
  // The mapping under `key`; an empty one when it is absent.
  ConfigNode Section(std::string_view key);
  // The mappings of the list under `key`; none when it is absent. At most `most`.
  std::vector<ConfigNode> Items(std::string_view key, int most = 10'000);

  // Records an error that the caller found in the value of `key` (or in this mapping, when empty);
  // nothing when that value could not even be read.
  void Fail(std::string_view key, std::string_view what);

  // "server.limits": where this mapping stands.
  const std::string& path() const { return path_; }

 private:
  friend class Config;
  ConfigNode(ConfigValue* value, ConfigErrors* errors, std::string path)
      : value_(value), errors_(errors), path_(std::move(path)) {}

  const ConfigValue* Scalar(std::string_view key, std::string_view expected);
  const ConfigValue* Find(std::string_view key);
  template <typename T, typename R>
  void ReadParsed(std::string_view key, const char* expected,
                  ParsedText (*parse)(const std::string&, T*), R range, T* target);
  int ReadWord(std::string_view key, const std::vector<std::string_view>& words);
  std::string PathOf(std::string_view key) const;
  void FailAt(const ConfigValue& at, std::string_view key, std::string_view what);

  ConfigValue* value_;  // Null: an absent section, in which every key is absent.
  ConfigErrors* errors_;
  std::string path_;
};

// A YAML document with the command line's overrides laid over it. Messages read
// "configs/router.yaml:12:3: server.listn: unknown key; did you mean \"server.listen\"?".
class Config {
 public:
  // `overrides`: "a.b=value", the value in YAML; they replace or add one key each. Numbers in a
  // path index lists. kNotFound: no such file. kInvalidArgument: not YAML, or larger than any
  // config may be (1 MiB). What is wrong with one key or override is left to Finish().
  static absl::StatusOr<Config> Load(const std::string& path,
                                     const std::vector<std::string>& overrides = {});
  // The same from memory; `name` stands for the file in messages.
  static absl::StatusOr<Config> Parse(const std::string& text, const std::string& name,
                                      const std::vector<std::string>& overrides = {});

  Config(Config&&) noexcept;
  Config& operator=(Config&&) noexcept;
  ~Config();

  ConfigNode root();
  // The first level of keys, as they stand there.
  std::vector<std::string> keys() const;

  // OK when everything that was read was right and no unknown key is left; otherwise
  // kInvalidArgument with every complaint, one a line in the order of the document, at most 20.
  // Call it last.
  absl::Status Finish();

 private:
  Config(std::unique_ptr<ConfigValue> root, std::unique_ptr<ConfigErrors> errors);

  std::unique_ptr<ConfigValue> root_;
  std::unique_ptr<ConfigErrors> errors_;
};

// A status of many lines for people: each begins with "program: " and ends with a line break.
std::string ComplaintText(const std::string& program, const absl::Status& status);

// The word of `known` that is nearest to `word`; empty when none is near enough to be meant.
std::string NearestWord(std::string_view word, const std::vector<std::string>& known);

}  // namespace conclave
