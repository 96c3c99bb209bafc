# Everything on a fresh machine with Python >= 3.11: `make demo` and `make test` install what they need into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PYTEST := $(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

# The definitions and their identities: tests that open no file of a run and start no process.
MATHEMATICS := tests/test_architecture.py tests/test_randomness.py tests/statistics tests/diffusion tests/samplers \
	tests/networks tests/training/test_losses.py tests/training/test_timesteps.py

.PHONY: demo docs test check format lint types unit mathematics wheel-test bench help-texts clean help

help:
	@echo "make demo        train on the bundled kanji, sample, and write runs/demo/report.html"
	@echo "make docs        the documents as a site to be opened from a folder: build/site/index.html"
	@echo "make check       format check, lint, types, tests of the mathematics: before each commit, under a minute"
	@echo "make test        format check, lint, types and all tests"
	@echo "make wheel-test  the built wheel alone, in an empty environment"
	@echo "make bench       speed beside diffusers, overhead, a shared machine; into results.jsonl, its tables and docs/speed.png"
	@echo "make format      rewrite the sources in the house's format"
	@echo "make help-texts  write docs/help anew, after a change of a flag"
	@echo "make clean       remove .venv and caches (never runs/)"

$(VENV)/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kakusan needs Python >= 3.11: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	$(PIP) -e '.[docs]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.core
	$(BIN)/kakusan demo

# From nothing each time, so that no page of an older state is left.
docs: $(VENV)/.docs
	rm -rf build/site
	$(BIN)/python -m sphinx --quiet --fail-on-warning --fresh-env --doctree-dir build/doctrees docs build/site
	@echo "open build/site/index.html"

test: lint types unit

check: lint types mathematics

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(PYTEST)

mathematics: $(VENV)/.dev
	$(PYTEST) $(MATHEMATICS)

wheel-test: $(VENV)/.dev
	.ci/wheel $(BIN)/python

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/tables.py

help-texts: $(VENV)/.core
	$(BIN)/python tests/help_texts.py
	$(BIN)/python tests/exercise_texts.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache build dist
