# mien: `make demo` starts everything, `make test` passes the tests, `make check` is what a commit must pass.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint check bench clean

demo: $(VENV)/.serve
	$(BIN)/mien demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: $(VENV)/.test
	$(BIN)/python benchmarks/latency.py

clean:
	rm -rf $(VENV) build dist *.egg-info

# Each stamp stands for one set of packages; it is older than what it was made from only when something changed.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e ".[test]"
	touch $@ $(VENV)/.serve

$(VENV)/.check: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e ".[check]"
	touch $@ $(VENV)/.test $(VENV)/.serve
