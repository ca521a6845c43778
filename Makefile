# What a person types. Every target may be repeated: what is there already is left as it is, and quickly.

PYTHON ?= python3
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
SANDMILL := $(TARGET)/release/sandmill
FUNCTIONS := file-type digits angle embed
# In other languages than Rust: served where their tools could be installed; see guest-sdk/build.py.
OTHERS := digits-js digits-py
# What bench/sandbox measures.
BENCHED := pass table runs
WASM_TARGETS := wasm32-unknown-unknown wasm32-wasip2

.PHONY: help run test check fuzz fuzz-api asan plugins bench setup setup-tests clean tools build components warm

help:
	@echo "make run      serve the examples on 127.0.0.1:8080"
	@echo "make test     all tests"
	@echo "make check    format, lints, the house's own test, documentation"
	@echo "make fuzz     mutated plugins, loaded and called: a minute, or FUZZ_SECONDS"
	@echo "make fuzz-api the control API, asked by its own description"
	@echo "make plugins  build the examples' plugins"
	@echo "make bench    measure the examples' functions, and other servers beside them; needs wrk"
	@echo "make setup    fetch what the others need: Wasm targets, ONNX Runtime, models"
	@echo "make clean    remove what was built and fetched"

run: setup plugins
	@echo
	@others=; for name in $(OTHERS); do [ ! -e examples/$$name/plugin.wasm ] || others="$$others --function examples/$$name"; done; \
	exec $(SANDMILL) serve $(FUNCTIONS:%=--function examples/%) $$others --listen 127.0.0.1:8080 --control 127.0.0.1:8081

# The tests' binary is built with the tests, so that dependencies are compiled once; it then builds the plugins.
test: setup-tests
	$(CARGO) test --workspace --locked --no-run
	@$(MAKE) --no-print-directory components SANDMILL=$(TARGET)/debug/sandmill
	@$(MAKE) --no-print-directory warm SANDMILL=$(TARGET)/debug/sandmill
	$(CARGO) test --workspace --locked

check: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test --workspace --locked --test house
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# Runs of models whose callers are dropped, under AddressSanitizer, which the pinned compiler has but does not own up to.
asan: tools
	RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 SANDMILL_TEST_ASAN=1 \
	$(CARGO) test --target x86_64-unknown-linux-gnu --target-dir $(TARGET)/asan -p sandmill-sandbox --test sandbox handling

CARGO_FUZZ := $(CURDIR)/.sandmill/cargo-fuzz
FUZZ_SECONDS ?= 60

# Mutated components, loaded and called; an hour is `make fuzz FUZZ_SECONDS=3600`. Builds with the pinned compiler, which has no
# sanitizers. The seeds are larger than libFuzzer's default lengths, and one mutation at a time keeps more of them loadable.
fuzz: tools
	@command -v c++ >/dev/null || { echo "a C++ compiler is missing; type: apt-get install build-essential" >&2; exit 1; }
	$(CARGO) install --quiet cargo-fuzz --version 0.13.2 --locked --root $(CARGO_FUZZ)
	PATH="$(CARGO_FUZZ)/bin:$$PATH" CARGO_TARGET_DIR=$(TARGET)/fuzz CARGO_INCREMENTAL=0 \
	$(CARGO) fuzz run -s none --fuzz-dir host/sandbox/fuzz load -- \
		-max_total_time=$(FUZZ_SECONDS) -timeout=30 -rss_limit_mb=3000 -max_len=131072 -mutate_depth=1

bench: setup plugins
	$(CARGO) build --release --locked -p sandmill-bench-sandbox -p sandmill-bench-bare
	$(CARGO) build --release --locked -p sandmill-engine --example sessions
	$(CARGO) build --release --locked -p sandmill-telemetry --example recording
	$(CARGO) build --profile dist --locked -p sandmill
	SANDMILL=$(TARGET)/dist/sandmill bench/run
	SANDMILL=$(TARGET)/dist/sandmill bench/compare

# The control API, asked what its own description says; FUZZ_EXAMPLES for each of its operations.
fuzz-api: setup build
	$(PYTHON) tests/fuzz_api.py $(SANDMILL)

plugins: build
	@$(MAKE) --no-print-directory components

build: tools
	$(CARGO) build --release --locked -p sandmill

components:
	@set -e; for name in $(FUNCTIONS); do $(SANDMILL) build plugins/$$name -o examples/$$name/plugin.wasm; done
	@$(SANDMILL) build bench/loops -o bench/loops/plugin.wasm
	@set -e; for name in $(BENCHED); do $(SANDMILL) build bench/guests/$$name -o bench/guests/$$name/plugin.wasm; done
	@$(PYTHON) guest-sdk/build.py

# Language runtimes take half a minute to compile, more beside other tests: into the tests' own cache, before them.
warm:
	@set -e; for name in $(OTHERS); do [ ! -e examples/$$name/plugin.wasm ] || \
	XDG_CACHE_HOME=$(CURDIR)/target/test-cache XDG_STATE_HOME=$(CURDIR)/target/test-state $(SANDMILL) check examples/$$name; done

setup: tools
	@$(PYTHON) examples/fetch.py

# The clients of others that the tests run, in a virtual environment.
setup-tests: setup
	@$(PYTHON) tests/venv.py

# The checks of the machine; each failure says what to type.
tools:
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing; type: apt-get install python3 python3-pip python3-venv" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "a linker is missing; type: apt-get install build-essential" >&2; exit 1; }
	@command -v $(CARGO) >/dev/null || { echo "cargo is missing; install rustup: see https://rustup.rs" >&2; exit 1; }
	@missing=; libraries=$$(rustc --print sysroot)/lib/rustlib; \
	for target in $(WASM_TARGETS); do [ -d $$libraries/$$target ] || missing="$$missing $$target"; done; \
	[ -z "$$missing" ] || command -v rustup >/dev/null || { echo "rustup is missing, so install the Rust targets yourself:$$missing" >&2; exit 1; }; \
	[ -z "$$missing" ] || rustup target add $$missing

clean:
	$(CARGO) clean
	rm -rf host/sandbox/fuzz/corpus host/sandbox/fuzz/artifacts
	rm -rf .sandmill $(FUNCTIONS:%=examples/%/plugin.wasm) bench/loops/plugin.wasm $(BENCHED:%=bench/guests/%/plugin.wasm) examples/embed/tokenizer.json \
		$(patsubst %,examples/%/model.onnx,file-type angle embed) \
		$(OTHERS:%=examples/%/plugin.wasm) $(OTHERS:%=examples/%/model.onnx)
