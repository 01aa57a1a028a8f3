#!/bin/bash
# Shows on a machine with a GPU all that needs one, and ends with a line for each part: what it is, how it ended, seconds.
#   show.sh [PART...]      parts, in this order when none is named: card tests ask memcheck racecheck bench rule peer sums
#   LIMIT=600              seconds that a part may take
#   MODELS="1B,8B,8B-fp8"  what bench and peer measure
#   FOLDER=folder          where these are written, of random weights: 19 GB, which stay
#   WORKER_FLAGS="--set ..."  more of the flags of the workers that ask starts
# The last lines are the result: passed, partly (something was skipped), skipped, FAILED, out of time. It exits with 1 when a
# part failed. What a part prints stays in show/PART.log.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
[ -n "${BIN:-}" ] || exec "$here/run.sh" "$here/show.sh" "$@"
cd "$here"
export CONCLAVE_SOURCE_DIR="$here" PATH="$here/sanitizer:$PATH"
limit=${LIMIT:-600} models=${MODELS:-1B,8B,8B-fp8} folder=${FOLDER:-/tmp/conclave-gpu-bench}
question="Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?"
mkdir -p show

card() { nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader; }

# Every test of kernels, device, models and ranks.
tests() {
  local failed=0 said
  said=$(mktemp)
  for program in cuda_test cuda_device_test gpu_golden_test nccl_ranks_test; do
    echo "== $program"
    "$BIN/$program" --gtest_brief=1 2>&1 | tee -a "$said"
    [ "${PIPESTATUS[0]}" -eq 0 ] || failed=1
  done
  [ "$failed" -eq 1 ] || ! grep -q SKIPPED "$said" || failed=78
  rm "$said"
  return "$failed"
}

# Asks one group one question: NAME, the hash of the receipt, and how rank 0 sums. More flags of its worker.
ask_group() {
  local name=$1 hash sums
  hash=$(WORKER_FLAGS="--set group.device=cuda ${WORKER_FLAGS:-} $2" PATIENCE=180 LOGS=show \
    deploy/serve.sh ask "$question" --agents 8 --seed 7 --json |
    sed -n 's/.*"result_hash":"\([0-9a-f]*\)".*/\1/p' | tail -1)
  sums=$(sed -n 's/.*loaded rank=0 .*sums=\("[^"]*"\|[^ ]*\).*/\1/p' show/worker.log | tail -1)
  hashes+=("$hash")
  printf '%-22s %s  %s\n' "$name" "$hash" "$sums"
  [ -n "$hash" ]
}

free_port() {
  local port
  while port=$((20000 + RANDOM % 12000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

# The same question of one rank, of two that meet in one another's memory, of two through NCCL alone, and of two that are on two
# hosts (here both on this one). The ranks of each group sum in the same order: groups of two have one hash.
ask() {
  local hashes=() both any host1 status
  ask_group "one rank" "--set group.tensor_parallel=1" || return 1
  ask_group "two" "--set group.tensor_parallel=2" || return 1
  NCCL_P2P_DISABLE=1 ask_group "two, NCCL alone" "--set group.tensor_parallel=2" || return 1
  both="--set group.tensor_parallel=2 --set group.hosts.count=2 --set group.hosts.leader=127.0.0.1"
  both="$both --set group.hosts.port=$(free_port)"
  any="--set server.listen=127.0.0.1:0 --set health.listen=127.0.0.1:0 --set metrics.listen=127.0.0.1:0"
  export NCCL_NET=Socket NCCL_IB_DISABLE=1
  # shellcheck disable=SC2086
  NCCL_HOSTID=second "$BIN/conclave-worker" --config configs/worker.yaml --set group.device=cuda ${WORKER_FLAGS:-} $both $any \
    --set group.hosts.index=1 >show/host1.log 2>&1 &
  host1=$!
  NCCL_HOSTID=first ask_group "two, on two hosts" "$both --set group.hosts.index=0"
  status=$?
  kill "$host1" 2>/dev/null && wait "$host1"
  [ "$status" -eq 0 ] && [ "${hashes[1]}" = "${hashes[2]}" ] && [ "${hashes[1]}" = "${hashes[3]}" ]
}

sanitized() {
  command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer here"; return 77; }
  compute-sanitizer --tool "$1" --error-exitcode 1 "$BIN/cuda_test" --gtest_brief=1 --gtest_filter="${FILTER:-*}"
}
memcheck() { sanitized memcheck; }
racecheck() { sanitized racecheck; }

# Beside the peer's figures, where peer has been.
bench() {
  local peer=()
  [ -s show/peer.txt ] && peer=(--peer show/peer.txt)
  "$BIN/gpu_bench" --folder "$folder" --models "$models" "${peer[@]}"
}

# What it costs that no bit of a row depends on its company.
rule() { "$BIN/gpu_rule_bench"; }

# PyTorch and transformers on the same models and card, and the ratios to them.
peer() {
  local python="env -u LD_LIBRARY_PATH python3"  # Its own libraries, not the bundle's.
  $python -c 'import torch, transformers' || return 77
  "$BIN/gpu_bench" --folder "$folder" --models "$models" --rows none >/dev/null || return 1  # Writes the models.
  # shellcheck disable=SC2046
  $python torch_peer.py "$folder" $(tr ',' '\n' <<<"$models" | sed 's/-.*//' | sort -u) | tee show/peer.part
  [ "${PIPESTATUS[0]}" -eq 0 ] && mv show/peer.part show/peer.txt && bench
}

# A sum of a step over all GPUs of this machine, or two ranks on its only one.
sums() {
  local gpus
  gpus=$(nvidia-smi --list-gpus | grep -c '^GPU ')
  "$BIN/gpu_sums_bench" "$((gpus > 1 ? gpus : 2))"
}

if [ "${1:-}" = --part ]; then
  "$2"
  exit
fi
parts=("$@")
if [ ${#parts[@]} -eq 0 ]; then
  card || { echo "no GPU here: nothing to show" >&2; exit 1; }
  parts=(card tests ask memcheck racecheck bench rule peer sums)
fi
results=() failed=0
for part in "${parts[@]}"; do
  echo "==== $part"
  begin=$SECONDS
  # timeout has a process group of its own, and passes a TERM on to all of it.
  timeout "$limit" "$here/show.sh" --part "$part" > >(tee "show/$part.log") 2>&1 &
  running=$!
  trap 'kill "$running"; exit 130' INT TERM
  wait "$running"
  case "$?" in
    0) how=passed ;;
    77) how=skipped ;;
    78) how=partly ;;
    124) how="out of time" failed=1 ;;
    *) how=FAILED failed=1 ;;
  esac
  results+=("$(printf '%-10s %-12s %5d s' "$part" "$how" $((SECONDS - begin)))")
done
echo "==== result"
printf '%s\n' "${results[@]}"
exit "$failed"
