#!/bin/bash
# What the GPU bundle's show.sh asks, asked on emulated GPUs: a bundle of this build's programs, with the emulated GPU's
# folder in place of a GPU.
#   gpu_show_test.sh BIN EMULATED_GPU
set -euo pipefail
bin=$(realpath "$1") emulated=$(realpath "$2")
cd "$(dirname "$0")/../.."
bundle=$(mktemp -d "${TMPDIR:-/tmp}/conclave.XXXXXX")
trap 'rm -rf "$bundle"' EXIT
mkdir "$bundle/bin" "$bundle/deploy" "$bundle/models"
cp deploy/serve.sh "$bundle/deploy/"
cp deploy/gpu_show.sh "$bundle/show.sh"
cp deploy/gpu_run.sh "$bundle/run.sh"
cp -r configs "$bundle/"
cp -r models/conclave-demo "$bundle/models/"
cp -l "$emulated"/* "$bin/conclave" "$bin/conclave-router" "$bundle/bin/" 2>/dev/null ||
  cp "$emulated"/* "$bin/conclave" "$bin/conclave-router" "$bundle/bin/"
# Emulation is slow, and a worker tries its greatest steps before it serves: they are small.
export WORKER_FLAGS="--set group.kv_tokens=8192 --set group.max_agents=8 --set group.max_batched_tokens=64 --set launcher.beat=3s"
LD_LIBRARY_PATH="$bundle/bin" "$bundle/show.sh" ask | tee "$bundle/said"
grep -qE '^ask +passed' "$bundle/said"
[ "$(grep -cE '^(one|two).* [0-9a-f]{64} ' "$bundle/said")" -eq 4 ]
# How they sum: rank 0 of each group says.
grep -qE '^two  .*"nccl, small sums between peers"' "$bundle/said"
grep -qE '^two, NCCL alone .*NCCL_P2P_DISABLE' "$bundle/said"
grep -qE '^two, on two hosts .*several hosts' "$bundle/said"
