# `make demo` and `make test` need python3 and make alone: every target makes .venv first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests run in several processes, one thread each: threads of one process would fight those of the others.
# A process that crashes ends the run: pytest-xdist 3.8 waits forever for the rest of its file if it is replaced.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help install demo fmt lint type test test-all check coverage counts docs dist bench bench-amx soak serve clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*##/\t/' | expand -t 12

install: $(STAMP)  ## make .venv with the versions of constraints.txt (takes minutes: torch is large)

# BasicSR builds in a second where torch is installed already; in an isolated build it would fetch a second torch.
$(STAMP): setup.py constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(None if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; try: make install PYTHON=python3.12')"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## prepare data, train both stages of a small DASR, test it, and write one page that shows everything
	$(BIN)/dasr demo

fmt: $(STAMP)  ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lint: $(STAMP)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)  ## mypy --strict on the packages
	$(BIN)/mypy

test: $(STAMP)  ## the tests: CPU, offline, ten minutes on two cores
	$(TEST)

test-all: $(STAMP)  ## the tests and those marked slow, for minutes; what needs a GPU or a network runs where there is one
	$(TEST) -m ''

check: lint type test  ## what .ci/run runs: lint, type, test

coverage: $(STAMP)  ## all tests under coverage; writes docs/results/coverage.md
	$(TEST) -m '' --timeout 1800 --cov --cov-report=json:build/coverage.json --cov-report=html:build/coverage
	$(BIN)/python tools/write_coverage.py build/coverage.json docs/results/coverage.md

counts: $(STAMP)  ## lines, files per folder and imports beside their targets
	$(BIN)/python tools/count_lines.py --check

docs: $(STAMP)  ## build the manual into site/
	$(BIN)/mkdocs build --strict

dist: $(STAMP)  ## build the sdist and the wheel into dist/
	$(BIN)/python -m build --no-isolation

bench: $(STAMP)  ## time and memory of inference and training on this machine
	$(BIN)/dasr bench

bench-amx: $(STAMP)  ## the table of docs/performance.md for a processor with AMX; ten minutes
	$(BIN)/dasr bench --networks DASR DASR-S --operations inference stage_1 stage_2 --repeats 5 --out results/bench/amx.json

soak: $(STAMP)  ## tests of reliability that take hours; not in CI
	OMP_NUM_THREADS=1 $(BIN)/python tools/soak.py all

serve: $(STAMP)  ## the upscaler as a page and an HTTP API on this machine
	$(BIN)/dasr serve

clean:  ## remove caches and builds; .venv, data and experiments stay
	rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find dasr_arch dasr_cli tests -name __pycache__ -type d -prune -exec rm -rf {} +
