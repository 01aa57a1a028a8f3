#!/bin/bash
# Shows on a machine with a GPU all that needs one, and ends with a line for each part: what it is, how it ended, seconds.
#   show.sh [PART...]      parts, in this order when none is named: card tests ask memcheck racecheck bench rule peer sums
#   LIMIT=600              seconds that a part may take
#   MODELS="1B,8B,8B-fp8"  what bench and peer measure
#   WORKER_FLAGS="--set ..."  more of the flags of the workers that ask starts
# The last lines are the result; it exits with 1 when a part failed. What a part prints stays in show/PART.log.
set -uo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
[ -n "${BIN:-}" ] || exec "$here/run.sh" "$here/show.sh" "$@"
cd "$here"
export CONCLAVE_SOURCE_DIR="$here" PATH="$here/sanitizer:$PATH"
limit=${LIMIT:-600} models=${MODELS:-1B,8B,8B-fp8} folder=${FOLDER:-/dev/shm/conclave-gpu-bench}
question="Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?"
mkdir -p show

card() { nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader; }

# Every test of kernels, device, models and ranks.
tests() {
  local failed=0
  for program in cuda_test cuda_device_test gpu_golden_test nccl_ranks_test; do
    echo "== $program"
    "$BIN/$program" --gtest_brief=1 || failed=1
  done
  return "$failed"
}

# Asks one group one question: the hash of its receipt. More flags of its worker.
hash_of() {
  WORKER_FLAGS="--set group.device=cuda ${WORKER_FLAGS:-} $1" deploy/serve.sh ask "$question" --agents 8 --seed 7 --json |
    python3 -c '
import json, sys
events = [json.loads(line) for line in sys.stdin]
completed = events[-1]["completed"]
print(completed["receipt"].get("resultHash") or completed["receipt"]["result_hash"])'
}

# The same question of one rank, of two that meet in one another's memory, of two through NCCL alone, and of two that are on two
# hosts (here both on this one): the ranks of each group sum in the same order, so groups of two have one hash.
ask() {
  local one peers nccl hosts port host1
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  one=$(hash_of "--set group.tensor_parallel=1") && echo "one rank:              $one" || return 1
  peers=$(hash_of "--set group.tensor_parallel=2") && echo "two, peers:            $peers" || return 1
  nccl=$(NCCL_P2P_DISABLE=1 hash_of "--set group.tensor_parallel=2") && echo "two, NCCL alone:       $nccl" || return 1
  local both="--set group.tensor_parallel=2 --set group.hosts.count=2 --set group.hosts.leader=127.0.0.1 --set group.hosts.port=$port"
  local any="--set server.listen=127.0.0.1:0 --set health.listen=127.0.0.1:0 --set metrics.listen=127.0.0.1:0"
  export NCCL_NET=Socket NCCL_IB_DISABLE=1
  # shellcheck disable=SC2086
  NCCL_HOSTID=second "$BIN/conclave-worker" --config configs/worker.yaml --set group.device=cuda ${WORKER_FLAGS:-} $both $any \
    --set group.hosts.index=1 >show/host1.log 2>&1 &
  host1=$!
  hosts=$(NCCL_HOSTID=first hash_of "$both --set group.hosts.index=0")
  local status=$?
  kill "$host1" 2>/dev/null && wait "$host1"
  unset NCCL_NET NCCL_IB_DISABLE
  [ "$status" -eq 0 ] && echo "two, on two hosts:     $hosts" || return 1
  [ "$peers" = "$nccl" ] && [ "$peers" = "$hosts" ]
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
  python3 -c 'import torch, transformers' || return 77
  "$BIN/gpu_bench" --folder "$folder" --models "$models" --rows none >/dev/null || return 1  # Writes the models.
  # shellcheck disable=SC2046
  python3 torch_peer.py "$folder" $(tr ',' '\n' <<<"$models" | sed 's/-.*//' | sort -u) | tee show/peer.txt
  [ "${PIPESTATUS[0]}" -eq 0 ] && bench
}

# A sum of a step over all GPUs of this machine, or two ranks on its only one.
sums() {
  local gpus
  gpus=$(nvidia-smi --list-gpus | wc -l)
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
  timeout "$limit" "$here/show.sh" --part "$part" 2>&1 | tee "show/$part.log"
  case "${PIPESTATUS[0]}" in
    0) how=passed ;;
    77) how=skipped ;;
    124) how="out of time" failed=1 ;;
    *) how=FAILED failed=1 ;;
  esac
  results+=("$(printf '%-10s %-12s %5d s' "$part" "$how" $((SECONDS - begin)))")
done
echo "==== result"
printf '%s\n' "${results[@]}"
exit "$failed"
