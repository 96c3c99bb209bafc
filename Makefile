# Everything on a fresh machine with Python >= 3.11: `make demo` and `make test` install what they need into .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test format lint types unit wheel-test clean help

help:
	@echo "make demo    train on the bundled kanji, sample, and write runs/demo/report.html"
	@echo "make test    format check, lint, types and tests"
	@echo "make format  rewrite the sources in the house's format"
	@echo "make clean   remove .venv and caches (never runs/)"

.venv/.core: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kakusan needs Python >= 3.11: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/.dev: .venv/.core
	$(PIP) -e '.[dev]'
	@touch $@

demo: .venv/.core
	$(BIN)/kakusan demo

test: lint types unit

lint: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/.dev
	$(BIN)/mypy

unit: .venv/.dev
	$(BIN)/python -m pytest -n auto --dist loadscope

# The built wheel, alone in an empty environment, trains and reports.
wheel-test: .venv/.core
	rm -rf dist .wheel && $(PIP) build && $(BIN)/python -m build --wheel --outdir dist . > /dev/null
	$(PYTHON) -m venv .wheel && .wheel/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd .wheel && bin/kakusan demo --run run --steps 20 && test -s run/report.html
	rm -rf .wheel

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist
