// How fast a tokenizer reads: encodes standard input over and over for a second and prints
//
//   measure_tokenizer MODEL_DIR < text
//   MODEL_DIR: 1048576 bytes, 250000 tokens, 12.3 MB/s encoded, 45.6 MB/s decoded

#include <chrono>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "common/status.h"
#include "worker/text/tokenizer.h"

namespace conclave::worker {
namespace {

// Bytes a second of `work`, which goes through `bytes` of them.
template <typename Work>
double Rate(size_t bytes, const Work& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  size_t done = 0;
  std::chrono::duration<double> took{};
  do {
    work();
    done += bytes;
    took = Clock::now() - start;
  } while (took.count() < 1);
  return static_cast<double>(done) / took.count() / 1e6;
}

absl::Status Measure(const char* dir, const std::string& text) {
  ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Load(dir));
  ASSIGN_OR_RETURN(const auto ids, tokenizer->Encode(text));
  const double encoded = Rate(text.size(), [&] { (void)tokenizer->Encode(text); });
  const double decoded = Rate(text.size(), [&] { (void)tokenizer->Decode(ids); });
  std::printf("%s: %zu bytes, %zu tokens, %.1f MB/s encoded, %.1f MB/s decoded\n", dir, text.size(),
              ids.size(), encoded, decoded);
  return absl::OkStatus();
}

}  // namespace
}  // namespace conclave::worker

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: measure_tokenizer MODEL_DIR < text\n";
    return 2;
  }
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  const absl::Status status = conclave::worker::Measure(argv[1], text);
  if (!status.ok()) std::cerr << status.ToString() << '\n';
  return status.ok() ? 0 : 1;
}
