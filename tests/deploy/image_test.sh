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

# Within a container, or where control groups are old: no limits raised, and the runtime that asks least.
if [ -z "${CONTAINERS_CONF:-}" ]; then
  {
    printf '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
    if command -v runc >/dev/null; then printf '[engine]\nruntime = "runc"\n'; fi
  } >"$work/containers.conf"
  export CONTAINERS_CONF=$work/containers.conf
fi

# shellcheck disable=SC2317  # It is the trap's.
stop() {
  trap - EXIT
  for each in router worker; do podman play kube --down "$work/$each.yaml" >/dev/null 2>&1 || true; done
  # Config maps become volumes.
  podman volume ls -q | grep -E '^conclave-(router|worker)-[a-z0-9]{10}$' | xargs -r podman volume rm >/dev/null 2>&1 || true
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

if ! command -v kubectl >/dev/null || ! kubectl kustomize deploy/kubernetes/overlays/cpu >"$work/rendered.yaml" 2>"$work/output"; then
  echo "skipped: the manifests, there is no kubectl that renders them"
else
  # The headless service is a name of the worker's pod.
  for each in worker router; do
    python3 tests/deploy/podman_pods.py "$each" "$IMAGE" <"$work/rendered.yaml" >"$work/$each.yaml"
    if [ "$each" = worker ]; then network=$name:alias=conclave-workers; else network=$name; fi
    podman play kube --network "$network" "$work/$each.yaml" >/dev/null
  done
  router=$(podman ps --format '{{.Names}}' | grep -m 1 'conclave-router-pod.*-router$')
  worker=$(podman ps --format '{{.Names}}' | grep -m 1 'conclave-worker-pod.*-worker$')
  await "$worker" 9102
  await "$router" 9104
  pods=$(ask "$router")
  echo "      $question -> $pods"
  expect "the pods of the manifests give the same answer, to the hash" test "$pods" = "$pair"
fi
exit "$failed"
