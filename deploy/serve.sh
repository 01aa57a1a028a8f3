#!/bin/bash
# Starts one router and one worker group on free loopback ports. With arguments, runs `conclave ARGUMENTS` against them and stops
# everything; without, serves until Ctrl-C.
#   WORKER_FLAGS="--set group.tensor_parallel=4"   more of the worker's flags
#   PATIENCE=30                                    seconds that a program may take to start
#   LOGS=folder                                    where the programs' logs are left
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-build/release/bin}
run=$(mktemp -d "${TMPDIR:-/tmp}/conclave.XXXXXX")
pids=()
stop() {
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  [ -z "${LOGS:-}" ] || cp "$run"/*.log "$LOGS/" || true
  rm -rf "$run"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

port_of() { sed -n "s/^$2=//p" "$run/$1.ports"; }
await() {  # await NAME PID: until it has written its ports.
  for _ in $(seq $((${PATIENCE:-30} * 20))); do
    [ -s "$run/$1.ports" ] && return
    kill -0 "$2" 2>/dev/null || break
    sleep 0.05
  done
  echo "$1 did not start:" >&2
  cat "$run/$1.log" >&2
  exit 1
}
any=127.0.0.1:0
fixed=()
[ $# -gt 0 ] && fixed=(--set "server.listen=$any" --set "health.listen=$any" --set "metrics.listen=$any")

read -ra flags <<<"${WORKER_FLAGS:-}"
"$bin/conclave-worker" --config configs/worker.yaml --set "ports_file=$run/worker.ports" "${fixed[@]}" "${flags[@]}" >"$run/worker.log" 2>&1 &
pids+=($!)
await worker $!
"$bin/conclave-router" --config configs/router.yaml --set "ports_file=$run/router.ports" \
  --set "workers.addresses=[127.0.0.1:$(port_of worker server)]" "${fixed[@]}" >"$run/router.log" 2>&1 &
pids=($! "${pids[@]}")
await router "${pids[0]}"

if [ $# -gt 0 ]; then
  for _ in $(seq 200); do  # Until the router has found its group: a line below the heading.
    [ "$("$bin/conclave" models --router "127.0.0.1:$(port_of router server)" | wc -l)" -gt 1 ] && break
    sleep 0.05
  done
  "$bin/conclave" "$@" --router "127.0.0.1:$(port_of router server)"
else
  echo "router  127.0.0.1:$(port_of router server)   metrics http://127.0.0.1:$(port_of router metrics)/metrics"
  echo "worker  127.0.0.1:$(port_of worker server)   metrics http://127.0.0.1:$(port_of worker metrics)/metrics"
  echo "ask     $bin/conclave ask \"What is 12 * 34?\"        stop with Ctrl-C"
  tail -n +1 -f "$run/worker.log" "$run/router.log" &
  pids+=($!)
  wait "${pids[0]}" "${pids[1]}"
fi
