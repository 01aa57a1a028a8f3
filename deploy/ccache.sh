#!/bin/sh
# Compiler launcher: ccache where it is installed, with what precompiled headers need, and the same for every clone; else the
# compiler alone.
command -v ccache >/dev/null 2>&1 || exec "$@"
: "${CCACHE_BASEDIR:=$(cd "$(dirname "$0")/.." && pwd)}"
export CCACHE_BASEDIR CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_NOHASHDIR=1
exec ccache "$@"
