# `make` alone lists the targets. What CI runs is `.ci/run`.

ARGS ?=
NODE ?=
FUZZ_SECONDS ?= 60
CRD := charts/krypton/files/crds/agents.yaml
TESTBED := cargo run --quiet -p krypton-e2e --bin krypton-testbed --

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Play the guided tour without a cluster (ARGS=--once: play it, then exit)
	@.ci/needs rust cc make cmake
	cargo build --profile demo -p krypton-gateway -p krypton-controller -p krypton-example-agent -p krypton-demo
	@exec "$${CARGO_TARGET_DIR:-target}/demo/krypton-demo" $(ARGS)

.PHONY: demo-cluster
demo-cluster: ## Play it on a Kubernetes node made for it: pods, rollouts, kubectl; needs root (ARGS as above)
	@[ "$$(id -u)" = 0 ] || { echo "demo-cluster needs root: its node has mounts, control groups and a network" >&2; exit 1; }
	@.ci/needs rust cc make cmake node-tools
	cargo build --profile demo -p krypton-gateway -p krypton-controller -p krypton-example-agent -p krypton-demo -p krypton-e2e
	@programs="$${CARGO_TARGET_DIR:-target}/demo"; "$$programs/krypton-testbed" can node && \
	  exec "$$programs/krypton-testbed" run --node -- "$$programs/krypton-demo" --cluster $(ARGS)

.PHONY: build
build: ## Build everything, unoptimised
	@.ci/needs rust cc make cmake
	cargo build --workspace --all-targets

.PHONY: release-pgo
release-pgo: ## Build the gateway for release, optimised by a profile of itself, and test that very program
	@.ci/needs rust cc make cmake
	@.ci/pgo
	KRYPTON_PROGRAMS="$$(realpath "$${CARGO_TARGET_DIR:-target}")/release-pgo" .ci/test --test process

.PHONY: test
test: ## Run every tier of tests; sets up what they need (ARGS go to `cargo test`)
	@.ci/test $(ARGS)

.PHONY: cluster
cluster: ## Start a Kubernetes control plane and leave it running (NODE=1: with a node); prints its KUBECONFIG line
	@.ci/needs rust cc $(if $(NODE),make cmake node-tools)
	@$(if $(NODE),cargo build --quiet -p krypton-example-agent)
	@$(TESTBED) up $(if $(NODE),--node)

.PHONY: cluster-down
cluster-down: ## End what `make cluster` started
	@$(TESTBED) down

.PHONY: clean-cluster
clean-cluster: ## End it too, sweep what killed runs left, and delete the built Kubernetes programs
	@$(TESTBED) clean

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
	cargo fmt --all --manifest-path fuzz/Cargo.toml

.PHONY: clippy
clippy: ## Lint; a warning is an error
	cargo clippy --workspace --all-targets --all-features -- -D warnings

.PHONY: doc
doc: ## Build the API documentation; a broken link is an error
	@# For readers of this code: module docs may link to the private items that they explain.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items

.PHONY: deny
deny: ## Check licences, banned and duplicate crates, sources (and advisories where their database is)
	@.ci/deny

.PHONY: direction
direction: ## Check which crate may depend on which, and the limits on files
	@.ci/direction

.PHONY: crds
crds: ## Regenerate the CRD that the chart ships
	@mkdir -p $(dir $(CRD))
	cargo run --quiet -p krypton-crd --bin crdgen > $(CRD).tmp
	mv $(CRD).tmp $(CRD)

.PHONY: reference
reference: ## Rewrite what the reference pages take from the code
	UPDATE_REFERENCE=1 cargo test --quiet -p krypton-crd -p krypton-controller -p krypton-gateway -p krypton-cli --test reference -- --test-threads=1

.PHONY: links
links: ## Check that every link and path in the Markdown files exists
	@.ci/docs

.PHONY: bench
bench: ## Measure the gateway beside nginx, HAProxy, Envoy and a Go gateway: hours (ARGS, see bench/README.md)
	@.ci/bench $(ARGS)

.PHONY: bench-quick
bench-quick: ## A look at the same, in under five minutes once it is built
	@.ci/bench --quick $(ARGS)

.PHONY: bench-steps
bench-steps: ## Time single steps: look-up, change, decode, headers (ARGS go to criterion)
	@.ci/needs rust cc make cmake
	cargo bench -p krypton-bench --bench gateway --bench controller -- $(ARGS)

.PHONY: bench-instructions
bench-instructions: ## Count the instructions of single steps, by valgrind (ARGS go to gungraun)
	@.ci/needs rust cc make cmake
	cargo bench -p krypton-bench --bench instructions -- $(ARGS)

.PHONY: bench-scale
bench-scale: ## Time the shipped programs with 5,000 agents (ARGS, see bench/README.md)
	@.ci/needs rust cc make cmake
	cargo build --release -p krypton-gateway -p krypton-controller
	cargo run --release -p krypton-bench --bin gateway-at-scale -- $(ARGS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZ_SECONDS (60)
	@.ci/needs rust cc cargo-fuzz
	@for target in $$(cargo fuzz list); do \
	  cargo fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) || exit 1; \
	done
