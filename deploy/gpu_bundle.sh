#!/bin/bash
# Makes build/gpu-bundle: tests, benchmarks and programs that run on a bare machine with a GPU, its driver and the CUDA
# runtime libraries, with every other library that they need beside them. `show.sh` in it shows all that needs a GPU, `run.sh` runs
# one of them.
#   ARCHITECTURES="90a-real"   what the kernels are compiled for
#   PROGRAMS="..."             only these
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/release bundle=build/gpu-bundle
read -ra programs <<<"${PROGRAMS:-cuda_test cuda_device_test gpu_golden_test nccl_ranks_test gpu_bench gpu_sums_bench gpu_rule_bench cuda_kernels_bench cuda_attend_bench cuda_rows_bench conclave conclave-router conclave-worker}"
cmake --preset release -DCONCLAVE_TESTS=ON -DCONCLAVE_CUDA=ON -DCONCLAVE_CUDA_ARCHITECTURES="${ARCHITECTURES:-90a-real}" --log-level=WARNING >/dev/null
cmake --build "$build" --target "${programs[@]}" conclave_cuda
rm -rf "$bundle"
mkdir -p "$bundle/bin" "$bundle/lib"
for program in "${programs[@]}" libconclave_cuda.so; do
  strip --strip-unneeded -o "$bundle/bin/$program" "$build/bin/$program"
done
# Not those of the C and C++ runtimes, which belong to the machine, nor CUDA's.
for program in "${programs[@]}"; do ldd "$build/bin/$program"; done | awk '$3 ~ /^\// {print $3}' | sort -u |
  grep -Ev '/(lib(c|m|dl|rt|pthread|resolv|stdc\+\+|gcc_s)|ld-linux.*|libcuda.*|libcublas.*|libnccl.*|libnv.*)\.so' |
  while read -r library; do cp -L "$library" "$bundle/lib/"; done
install -m 755 deploy/gpu_run.sh "$bundle/run.sh"
install -m 755 deploy/gpu_show.sh "$bundle/show.sh"
cp tests/bench/torch_peer.py "$bundle/"
# What tests and programs read.
mkdir -p "$bundle/deploy" "$bundle/models" "$bundle/tests/golden"
cp deploy/serve.sh "$bundle/deploy/"
cp -r configs "$bundle/"
cp -r models/conclave-demo "$bundle/models/"
cp -r tests/golden/data "$bundle/tests/golden/"
if command -v compute-sanitizer >/dev/null; then
  mkdir "$bundle/sanitizer"
  find "$(dirname "$(readlink -f "$(command -v compute-sanitizer)")")" -maxdepth 1 -type f -exec cp {} "$bundle/sanitizer/" \;
fi
if command -v cuobjdump >/dev/null; then deploy/gpu_registers.sh "$bundle/bin/libconclave_cuda.so" >"$bundle/registers.txt"; fi
du -sh "$bundle"
