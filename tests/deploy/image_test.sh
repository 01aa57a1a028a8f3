#!/bin/bash
# Builds the container image and asks it: a router and a worker with everything taken away, then the pods of the cluster's
# manifests, by podman. Needs root, buildah and podman; exits with 77 without them. Minutes, so CTest runs it only with
# -DCONCLAVE_IMAGE_TEST=ON.
#   IMAGE=conclave:0.1.0   does not build: this one
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in buildah podman python3; do
  command -v "$tool" >/dev/null || { echo "skipped: there is no $tool"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "skipped: not root"; exit 77; }
limit=60000000 seed=7 question="What is 12 * 34?"
name=conclave-test-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/conclave-image.XXXXXX")
failed=0
{ podman volume ls -q; echo; } >"$work/volumes"  # The tester's own.

# Within a container, or where control groups are old: no limits raised, and the runtime that asks least.
if [ -z "${CONTAINERS_CONF:-}" ]; then
  {
    printf '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
    if command -v runc >/dev/null; then printf '[engine]\nruntime = "runc"\n'; fi
  } >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf
fi

down() {  # Pods that were played, and the volumes that their config maps became.
  for each in router follower worker; do
    if [ -e "$work/$each.yaml" ]; then
      podman play kube --down "$work/$each.yaml" >/dev/null 2>&1 || true
      volumes_of "$work/$each.yaml" | xargs -r podman volume rm >/dev/null 2>&1 || true
    fi
    rm -f "$work/$each.yaml"
  done
}
# What the config maps of a file became, but for volumes that were there before.
volumes_of() {
  python3 -c 'import sys, yaml; print(*(each["metadata"]["name"] for each in yaml.safe_load_all(sys.stdin) if each["kind"] == "ConfigMap"), sep="\n")' \
    <"$1" | grep -Fxv -f "$work/volumes"
}
# shellcheck disable=SC2317  # It is the trap's.
stop() {
  trap - EXIT
  down
  podman rm -f -t 0 "$name-router" "$name-worker" >/dev/null 2>&1 || true
  podman network rm -f "$name" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap stop EXIT

expect() {  # expect WHAT COMMAND...: says whether it holds.
  local what=$1
  shift
  if "$@" >"$work/output" 2>&1; then
    echo "ok    $what"
  else
    echo "WRONG $what"
    sed 's/^/      /' "$work/output"
    failed=1
  fi
}
# Until the program is ready, by its own probe; not for ever.
await() {
  for _ in $(seq 300); do
    if podman exec "$1" conclave health "127.0.0.1:$2" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  podman exec "$1" conclave health "127.0.0.1:$2" || true
  podman logs --tail 20 "$1"
  exit 1
}
# The answer, and the receipt's hash behind it.
ask() { podman exec "$1" conclave ask --json --seed "$seed" "$question" | python3 tests/deploy/answer.py; }

if [ -z "${IMAGE:-}" ]; then
  IMAGE=localhost/conclave:test
  podman image exists debian:12-slim || deploy/image_base.sh debian:12-slim
  TAG=$IMAGE BUILD_FLAGS="--isolation chroot --network host" deploy/image.sh >"$work/build.log" 2>&1 || { tail -n 30 "$work/build.log"; exit 1; }
fi
size=$(podman image inspect --format '{{.Size}}' "$IMAGE")
expect "the image has $size bytes of at most $limit" test "$size" -lt "$limit"
expect "it runs as nobody" test "$(podman image inspect --format '{{.User}}' "$IMAGE")" = 65532:65532
expect "it has no shell" test "$(podman run --rm "$IMAGE" sh -c true >/dev/null 2>&1; echo $?)" = 127
for program in conclave conclave-router conclave-worker; do
  expect "$program runs" podman run --rm --read-only "$IMAGE" "$program" --version
done

bare=(--read-only --read-only-tmpfs=false --cap-drop all --security-opt no-new-privileges --network "$name" -d)
podman network create "$name" >/dev/null
podman run "${bare[@]}" --name "$name-worker" --network-alias worker -v "$PWD/deploy/compose/worker.yaml:/etc/conclave/worker.yaml:ro" \
  --tmpfs /flights:mode=1777 "$IMAGE" conclave-worker --config /etc/conclave/worker.yaml >/dev/null
podman run "${bare[@]}" --name "$name-router" -v "$PWD/deploy/compose/router.yaml:/etc/conclave/router.yaml:ro" \
  "$IMAGE" conclave-router --config /etc/conclave/router.yaml >/dev/null
await "$name-worker" 9102
await "$name-router" 9104
pair=$(ask "$name-router")
echo "      $question -> $pair"
expect "two containers answer" test -n "$pair"
for each in router worker; do
  podman stop -t 60 "$name-$each" >/dev/null
  expect "the $each drains when it is told to stop" test "$(podman inspect --format '{{.State.ExitCode}}' "$name-$each")" = 0
done
podman rm "$name-router" "$name-worker" >/dev/null

# play FILE NETWORK ARGUMENT...: a component of the rendered installation; the pod's container is named NAME-pod-0-COMPONENT.
play() {
  local file=$work/$1.yaml network=$2
  shift 2
  python3 tests/deploy/podman_pods.py "$@" <"$work/rendered.yaml" >"$file"
  podman play kube --network "$network" "$file" >/dev/null
}
for overlay in cpu cpu-hosts; do
  if ! command -v kubectl >/dev/null || ! kubectl kustomize "deploy/kubernetes/overlays/$overlay" >"$work/rendered.yaml" 2>"$work/output"; then
    echo "skipped: the overlay $overlay, there is no kubectl that renders it"
    continue
  fi
  # Names of services are names of pods: the headless one, and a LeaderWorkerSet's for its leader.
  if [ "$overlay" = cpu ]; then
    play worker "$name:alias=conclave-workers" worker "$IMAGE"
    worker=conclave-worker-pod-0-worker
  else
    play worker "$name:alias=conclave-workers,alias=conclave-worker-0.conclave-worker.conclave" worker "$IMAGE" 0
    play follower "$name" worker "$IMAGE" 1
    worker=conclave-worker-1-pod-0-worker
  fi
  play router "$name" router "$IMAGE"
  await "$worker" 9102
  await conclave-router-pod-0-router 9104
  pods=$(ask conclave-router-pod-0-router)
  echo "      $question -> $pods"
  if [ "$overlay" = cpu ]; then
    expect "the pods of $overlay give the same answer, to the hash" test "$pods" = "$pair"
  else
    expect "the pods of $overlay answer the same" test "${pods% *}" = "${pair% *}"
    podman pod restart "${worker%-worker}" >/dev/null
    await "$worker" 9102
    expect "the same, to the hash, after a pod was restarted" test "$(ask conclave-router-pod-0-router)" = "$pods"
  fi
  down
done
exit "$failed"
