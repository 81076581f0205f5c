PYTHON ?= python3
# The virtual environment is made for this folder: a copy of the checkout makes its own.
HERE := $(shell pwd | cksum | cut -d ' ' -f 1)
BIN := .venv/bin
LOCKED := .venv/locked-$(HERE)
READY := .venv/ready-$(HERE)

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-bits test-paper test-faults fuzz bench bench-scaling bench-peers bench-return results compare
.PHONY: lint format lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | awk -F '|' '{ printf "%-18s %s\n", $$1, $$2 }'

install: $(READY) ## make .venv from the lock

demo: $(READY) ## train a QMIX team on SMAX 3m and draw its learning curve (runs/demo)
	$(BIN)/comarl demo

# These tests compile thousands of programs and run each for moments: LLVM's optimisations cost more than they earn.
test: lint ## the checks and the fast tests
	XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0" \
		$(BIN)/python -m pytest -m "not paper and not faults and not bits" --numprocesses 2 --dist loadfile

test-bits: $(READY) ## the first iterations of every preset, run twice: the same bits (minutes)
	XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0" $(BIN)/python -m pytest -m bits --numprocesses 2

test-paper: $(READY) ## the papers' exact results over 10 seeds (slow)
	$(BIN)/python -m pytest -m paper --capture=no

test-faults: $(READY) ## put known faults back, which must be noticed; kill runs; give bad input (slow)
	$(BIN)/python -m pytest -m faults --capture=no

results: $(READY) ## learning results of every preset, and the table in README.md (slow; goes on where it stopped)
	$(BIN)/python benchmarks/learning.py

compare: $(READY) ## methods side by side: docs/comparisons.md (hours; goes on where it stopped)
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/crossplay.py

fuzz: $(READY) ## bad input in more than 10,000 ways; with atheris, 10,000 more for each parser (slow)
	$(BIN)/python -m pytest tests/fuzzing -m faults --capture=no

bench: $(READY) ## measure speed and memory
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/host.py
	$(BIN)/python benchmarks/checkpoints.py

bench-scaling: $(READY) ## how time grows with agents, environments, steps, width and seeds: docs/speed.md (goes on where it stopped)
	$(BIN)/python benchmarks/scaling.py

bench-peers: $(READY) ## speed beside other libraries, in environments of their own (METHODS="qmix vdn iql mappo"): docs/speed.md
	$(BIN)/python benchmarks/peers/run.py $(METHODS)

bench-return: $(READY) ## time to the return of JaxMARL's QMIX on simple_spread (COMARL_JAXMARL=PATH): docs/speed.md
	$(BIN)/python benchmarks/peers/time_to_return.py

lint: $(READY) ## ruff and pyright
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(READY) ## let ruff repair and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

lock: $(READY) ## bring the lock up to date with pyproject.toml (all pins anew: make lock UPGRADE=--upgrade)
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" --quiet $(UPGRADE) --output-file requirements/dev.txt

clean: ## remove .venv and every cache (runs stay)
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis build dist
	find src tests benchmarks docs examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# No stamp stands before its step is done, so an interrupted install starts again. The virtual environment has no pip of its
# own to begin with: some systems keep python3's ensurepip in another package, and pip comes with the lock anyway.
$(LOCKED): requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("comarl needs Python 3.11 or newer, and $(PYTHON) is %d.%d: name another with make PYTHON=..." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "making .venv from requirements/dev.txt: about a minute and 1.4 GB, this once"
	$(PYTHON) -m venv --clear --without-pip .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps -e .
	@touch $@
