// Prints, for each model folder, how far its logits are from the golden and whether rule 2 of the
// architecture holds.
//
//   equality_table MODEL_DIR...

#include <cstdio>

#include "tests/golden/equality.h"

namespace {

const char* Word(bool equal) { return equal ? "yes" : "NO"; }

}  // namespace

int main(int argc, char** argv) {
  using conclave::worker::Equality;
  std::printf(
      "| model | f32 max relative error | greedy = golden | TP 1/2/4 | batch 1 vs 16 | chunks | "
      "prefix hit | resumed | "
      "instruction sets |\n|---|---|---|---|---|---|---|---|---|\n");
  bool all = true;
  for (int i = 1; i < argc; ++i) {
    const auto golden = conclave::worker::ReadGolden(argv[i]);
    const auto equality =
        conclave::worker::Compare(argv[i], golden.ok() ? std::optional(*golden) : std::nullopt,
                                  {5,  17, 33, 2, 9, 40, 41, 42, 5,  17, 33, 2, 9,  40, 41,
                                   42, 7,  7,  7, 1, 30, 31, 32, 99, 98, 97, 5, 17, 33, 2});
    if (!equality.ok()) {
      std::fprintf(stderr, "%s: %s\n", argv[i], equality.status().ToString().c_str());
      return 1;
    }
    const Equality& e = *equality;
    char error[32] = "-";
    if (e.relative_error) std::snprintf(error, sizeof error, "%.1e", *e.relative_error);
    std::printf("| %s | %s | %s | %s%s | %s | %s | %s | %s | %s |\n", argv[i], error,
                golden.ok() ? Word(e.greedy_equal) : "-", Word(e.tp_equal),
                e.tp_skipped ? " (not all divide)" : "", Word(e.batch_equal), Word(e.chunks_equal),
                Word(e.prefix_equal), Word(e.resumed_equal), Word(e.sets_equal));
    all = all && e.greedy_equal && e.tp_equal && e.batch_equal && e.chunks_equal &&
          e.prefix_equal && e.resumed_equal && e.sets_equal &&
          (!e.relative_error || *e.relative_error < 1e-4);
  }
  return all ? 0 : 1;
}
