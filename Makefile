# make demo   the whole of alpine on a small model, offline (about three minutes on two cores)
# make test   every test
# make lint, make typecheck, make clean
#
# Each target sets up .venv from nothing; once that stands it is left alone until pyproject.toml
# or constraints.txt changes. PYTHON picks the interpreter (3.11 or newer), WORKERS the number of
# test processes, PYTEST_ARGS adds to the command line of pytest.

PYTHON      ?= python3
VENV        ?= .venv
WORKERS     ?= 2
PYTEST_ARGS ?=
DEMO_OUTPUT ?= demo-output

BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint format typecheck clean

help:
	@sed -n '1,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(STAMP)

# The stamp is written last: an interrupted installation is taken up again by the next call.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "make: $(PYTHON) must be Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,graph]'
	@touch $@

demo: $(STAMP)
	$(BIN)/alpine demo --output $(DEMO_OUTPUT) --force

# One thread a worker: the tensors of the tests are small, and threads would fight over the cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(DEMO_OUTPUT) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
