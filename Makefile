# The project's commands. `make demo` and `make test` do all the set-up they need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help demo test lint docs setup-build setup-test

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

setup-build:  ## install what a build needs
	@scripts/setup build

setup-test: setup-build  ## install what the tests need besides
	@scripts/setup test

demo: setup-build  ## build and run the main job on generated data (KEEP=1 to look around afterwards)
	@scripts/demo

lint: setup-build  ## format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked

test: setup-test lint  ## everything: lint, unit, doc and integration tests
	cargo build --workspace --all-targets --locked
	THALWEG_NO_SKIPS=1 cargo test --workspace --locked --no-fail-fast

docs: setup-build  ## write the generated pages of docs/ anew
	UPDATE_EXPECT=1 cargo test --quiet --locked -p thalweg-metrics
