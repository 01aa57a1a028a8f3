#!/bin/bash
# Runs a program of this bundle, or any other, with the libraries beside it, and CUDA's where they are found:
# run.sh PROGRAM ARGUMENTS...
# Without arguments: what is here, and on what.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
found=""
add() { case ":$found:" in *":$1:"*) ;; *) found="$found:$1" ;; esac; }
for name in libcublasLt.so libnccl.so; do
  for library in /usr/local/cuda/lib64/"$name".* \
    $(python3 -c 'import sys; print(*sys.path)' 2>/dev/null | tr ' ' '\n' | sed -n 's|.*site-packages$|&/nvidia/*/lib/|p' | while read -r at; do echo $at"$name".*; done); do
    if [ -e "$library" ]; then add "$(dirname "$library")"; break; fi
  done
done
export LD_LIBRARY_PATH="$here/lib$found${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
if [ $# -eq 0 ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no nvidia-smi"
  echo "libraries: $LD_LIBRARY_PATH"
  ls "$here/bin"
  exit 0
fi
program="$1"
shift
[ -x "$here/bin/$program" ] && exec "$here/bin/$program" "$@"
BIN="$here/bin" exec "$program" "$@"
