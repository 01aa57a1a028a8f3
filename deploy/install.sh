#!/bin/sh
# Installs what Conclave is built and tested with, from Debian 12's own packages. Does nothing when all of it is there.
set -eu
packages="g++ cmake ninja-build ccache lld make python3 ca-certificates pkg-config
  libgrpc++-dev libprotobuf-dev protobuf-compiler protobuf-compiler-grpc libabsl-dev libre2-dev libpcre2-dev libicu-dev
  libssl-dev libyaml-cpp-dev prometheus-cpp-dev libspdlog-dev libfmt-dev libcli11-dev nlohmann-json3-dev libgloo-dev
  libgtest-dev libgmock-dev python3-protobuf python3-yaml"
missing=""
for package in $packages; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -q '^installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null 2>&1; then
  echo "missing packages:$missing" >&2
  echo "run as root: apt-get install$missing" >&2
  exit 1
fi
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
echo "installing:$missing"
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
