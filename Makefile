# What people do here, one target each. A target installs what it needs (.ci/needs.sh); .ci/run calls `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CACHE := $(or $(QWEX_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/qwex)
TARGET := $(or $(CARGO_TARGET_DIR),target)
DENY := $(CACHE)/tools/bin/cargo-deny
NEEDS := bash .ci/needs.sh
# One selection everywhere: with another one cargo unifies other features and builds the libraries again.
ALL := --workspace --all-targets --locked

# Queries are checked against .sqlx, whatever database happens to be named around here.
export SQLX_OFFLINE := true

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: test
test: lint integration ## everything CI asks for

.PHONY: lint
lint: ## format, clippy, arrows, lengths and words, dependencies
	@$(NEEDS) lint
	cargo fmt --all --check
	cargo clippy $(ALL) -- -D warnings
	cargo build $(ALL)
	$(TARGET)/debug/xtask check-deps
	$(TARGET)/debug/xtask tidy
	$(TARGET)/debug/xtask openapi --check
	$(DENY) --locked check bans licenses sources
	bash .ci/sqlx.sh --check

.PHONY: sqlx
sqlx: ## write .sqlx/, what each query is on the schema of migrations/
	@$(NEEDS) lint
	bash .ci/sqlx.sh

.PHONY: unit
unit: ## tests beside the code, no cluster
	@$(NEEDS) build
	cargo test --workspace --locked --lib --bins --no-fail-fast

.PHONY: integration
integration: ## every test: beside the code, and whole binaries against real Postgres, clusters, engines
	@$(NEEDS) test
	cargo build $(ALL)
	bash tests/generated-requests.sh
	# --tests, not --test '*': the latter builds every dependency once more.
	cargo test --workspace --locked --tests --no-fail-fast

.PHONY: conformance
conformance: ## run the laws on every backend and write down what they saw: docs/conformance/, the table of the README
	@$(NEEDS) test
	cargo build $(ALL)
	QWEX_CONFORMANCE=record cargo test --workspace --locked --no-fail-fast --test local --test engines --test ssh --test runner_k8s --test remote conformance::
	QWEX_CONFORMANCE=record cargo test --workspace --locked --lib conformance::table

.PHONY: demo
demo: ## one run end to end on this machine, no cluster needed
	@$(NEEDS) demo
	bash demo/demo.sh

.PHONY: demo-k8s
demo-k8s: ## the same on two clusters, with everything that can go wrong
	@$(NEEDS) demo-k8s
	bash demo/demo-k8s.sh

.PHONY: bench
bench: ## measure, as ratios to the floor of this machine
	@$(NEEDS) test
	cargo build --release --locked --package qwexcloud --package qwexctl --package qwex-bench
	cargo run --release --locked --package qwex-bench
