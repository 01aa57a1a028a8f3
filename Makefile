# The commands of the house. Everything else is a CMake preset: dev, release, tsan, tidy.
.PHONY: run serve test bench gpu-bundle image format install build
SHELL := /bin/bash

QUESTION ?= Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have now?

run: build
	@deploy/serve.sh ask "$(QUESTION)"

serve: build
	@deploy/serve.sh

build: install
	@cmake --preset release -DCONCLAVE_TESTS=OFF --log-level=WARNING >/dev/null
	@cmake --build --preset release

test: install
	@deploy/test.sh

# What this machine makes of it, each figure beside its ceiling. About three minutes after the build.
bench: install
	@cmake --preset release -DCONCLAVE_TESTS=ON --log-level=WARNING >/dev/null
	@cmake --build --preset release --target conclave_bench
	@build/release/bin/conclave_bench

# Tests, benchmarks and programs to carry to a machine with a GPU: build/gpu-bundle, and in it run.sh.
gpu-bundle: install
	@deploy/gpu_bundle.sh

# The container image, with buildah, podman or docker: deploy/README.md.
image:
	@deploy/image.sh

format: install
	@command -v clang-format >/dev/null || apt-get install -y -qq clang-format
	@git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format -i

install:
	@deploy/install.sh
