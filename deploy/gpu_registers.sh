#!/bin/bash
# What each kernel of a library takes: registers of a thread, static shared memory of a block, stack (spills). The most first.
#   gpu_registers.sh build/release/bin/libconclave_cuda.so
set -euo pipefail
printf '%9s %7s %6s  %s\n' registers shared stack kernel
cuobjdump -res-usage "$1" 2>/dev/null | c++filt | awk '
  / Function / { name = $0; sub(/.* Function /, "", name); gsub(/conclave::worker::cuda::|\(anonymous namespace\)::|void /, "", name)
                 sub(/\(.*$/, "", name); sub(/:$/, "", name) }
  /REG:/ { split("", v); for (i = 1; i <= NF; ++i) { split($i, pair, ":"); v[pair[1]] = pair[2] }
           printf "%9d %7d %6d  %s\n", v["REG"], v["SHARED"], v["STACK"], name }' | sort -k1,1nr -k4,4 | uniq
