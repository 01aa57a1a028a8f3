#!/bin/sh
# Compiler launcher: ccache where it is installed, with what precompiled headers need, else the compiler alone.
command -v ccache >/dev/null 2>&1 || exec "$@"
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_NOHASHDIR=1
exec ccache "$@"
