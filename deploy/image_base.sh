#!/bin/bash
# Makes the image that deploy/Dockerfile builds on from Debian's packages, for where no registry is reached: a minimal
# Debian 12 of that name in the local store. Needs root, mmdebstrap and podman or docker.
#   image_base.sh [debian:12-slim]
set -euo pipefail
name=${1:-debian:12-slim}
folder=$(mktemp -d "${TMPDIR:-/tmp}/conclave-base.XXXXXX")
trap 'rm -rf "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  bookworm "$folder/base.tar"
store=$(command -v podman || command -v docker) || { echo "no podman or docker to keep it" >&2; exit 1; }
"$store" import "$folder/base.tar" "$name"
