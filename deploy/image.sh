#!/bin/bash
# Builds the container image from deploy/Dockerfile with buildah, podman or docker, whichever is there.
#   TAG=conclave:0.1.0          its name
#   BASE=debian:12-slim         what it is built on; one of that name that is here already is taken as it is. Where no registry
#                               is reached, deploy/image_base.sh makes it
#   BUILD_FLAGS="..."           more of the builder's flags: buildah within a container may need
#                               "--isolation chroot --network host"
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^project(conclave VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
tag=${TAG:-conclave:$version} base=${BASE:-debian:12-slim}
read -ra flags <<<"${BUILD_FLAGS:-}"
revision=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
build=""
for tool in buildah podman docker; do
  if command -v "$tool" >/dev/null; then build=$tool; break; fi
done
case $build in
  buildah) command=(buildah build --layers) ;;
  podman) command=(podman build --layers) ;;
  docker) command=(docker build) ;;
  *) echo "no buildah, podman or docker: apt-get install buildah podman" >&2; exit 1 ;;
esac
"${command[@]}" "${flags[@]}" --build-arg BASE="$base" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
  -f deploy/Dockerfile -t "$tag" .
"$build" images "$tag"
