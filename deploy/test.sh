#!/bin/bash
# Configures, builds with sanitizers and runs every test (address and undefined), and before them those that have
# threads and are free of gRPC under the thread sanitizer; prints where the time went. The last thing is CTest's summary.
#   PRESETS="dev"  only these presets
set -euo pipefail
cd "$(dirname "$0")/.."
read -ra presets <<<"${PRESETS:-tsan dev}"
declare -a names=() seconds=()
timed() {
  local name=$1 start=$SECONDS status=0
  shift
  "$@" || status=$?
  names+=("$name") seconds+=($((SECONDS - start)))
  return "$status"
}
build() { cmake --build --preset "$1" | grep -Ev '^\[[0-9]+/[0-9]+\] (Building|Linking|Generating|Creating)' || test "${PIPESTATUS[0]}" -eq 0; }
run_tests() { ctest --preset "$1" -j "$(nproc)" --no-tests=error >"build/$1/ctest.log" 2>&1; }

failed=0
for preset in "${presets[@]}"; do
  timed "$preset configure" cmake --preset "$preset" --log-level=WARNING
  timed "$preset build" build "$preset"
  timed "$preset tests" run_tests "$preset" || failed=$?
  log=build/$preset/ctest.log
  [ "$failed" -eq 0 ] || grep -v ' Passed ' "$log" | sed -n '1,400p'
  grep -E '\(Skipped\)|simulated|^\| ' "$log" | sed 's/ *# GetParam.*(/ (/' || true
  grep -oE 'Test +#[0-9]+: [^ ]+ .* [0-9.]+ sec' "$log" |
    sed -E 's/Test +#[0-9]+: ([^ ]+) .* ([0-9.]+) sec/\2 \1/' | sort -rn | sed -n "1,5s/^\(.*\)\$/$preset, slowest: \1 (s first)/p"
done
echo "where the time went:"
for i in "${!names[@]}"; do printf '  %-15s %4d s\n' "${names[$i]}" "${seconds[$i]}"; done
for preset in "${presets[@]}"; do
  echo "$preset:"
  sed -n '/tests passed/,$p' "build/$preset/ctest.log" | sed 's/ *# GetParam.*(/ (/'
done
exit "$failed"
