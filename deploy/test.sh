#!/bin/bash
# Configures, builds with sanitizers and runs every test; prints where the time went. The last thing is CTest's summary.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${PRESET:-dev}
declare -a names=() seconds=()
timed() {
  local name=$1 start=$SECONDS status=0
  shift
  "$@" || status=$?
  names+=("$name") seconds+=($((SECONDS - start)))
  return "$status"
}
build() { cmake --build --preset "$preset" | grep -Ev '^\[[0-9]+/[0-9]+\] (Building|Linking|Generating)' || test "${PIPESTATUS[0]}" -eq 0; }
run_tests() { ctest --preset "$preset" -j "$(nproc)" --no-tests=error >"build/$preset/ctest.log" 2>&1; }

timed configure cmake --preset "$preset" --log-level=WARNING
timed build build
failed=0
timed tests run_tests || failed=$?
[ "$failed" -eq 0 ] || grep -v ' Passed ' "build/$preset/ctest.log" | sed -n '1,400p'
grep -E 'Skipped|simulated|^\| ' "build/$preset/ctest.log" || true
echo "where the time went:"
for i in "${!names[@]}"; do printf '  %-10s %4d s\n' "${names[$i]}" "${seconds[$i]}"; done
grep -oE 'Test +#[0-9]+: [^ ]+ .* [0-9.]+ sec' "build/$preset/ctest.log" |
  sed -E 's/Test +#[0-9]+: ([^ ]+) .* ([0-9.]+) sec/\2 \1/' | sort -rn | sed -n '1,5s/^\(.*\)$/  slowest: \1 (s first)/p'
tail -n 12 "build/$preset/ctest.log" | sed -n '/tests passed/,$p'
exit "$failed"
