# Everything below works on a machine with nothing but Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
UNIT = not servers
PYTEST = $(BIN)/python -m pytest -n auto --dist loadgroup
BENCHMARKS = redis_memory store_ops scale revocation_lag cold_path warm_path flood observers

.PHONY: demo test unit check bench bench-quick clean

## A guarded FastAPI app on http://127.0.0.1:8000, and the curl commands to use it
demo: $(VENV)/demo.stamp
	$(BIN)/jwtguard demo

## The whole test suite, with branch coverage
test: $(VENV)/test.stamp
	$(BIN)/coverage erase
	COVERAGE_PROCESS_START=pyproject.toml $(PYTEST)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

## The tests that start no server
unit: $(VENV)/test.stamp
	$(PYTEST) -m "$(UNIT)"

## Lint, format and types
check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## Every measurement, with servers of its own: some minutes. BENCH=--quick, or bench-quick, is a tenth of it
bench: $(VENV)/test.stamp
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(BENCH) || exit 1; done

bench-quick:
	$(MAKE) bench BENCH=--quick

clean:
	rm -rf $(VENV) build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "jwtguard needs Python 3.11 or newer, and $(PYTHON) is `$(PYTHON) --version`: run make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip

$(VENV)/demo.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --editable '.[cli,fastapi]' uvicorn
	touch $@

$(VENV)/test.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --editable '.[test]'
	touch $@

$(VENV)/dev.stamp: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --editable '.[test,dev]'
	touch $@
