# recstream from a fresh clone; `make help` lists what there is.
#
#   PYTHON=python3.12          the interpreter that .venv is made with (3.10 to 3.12)
#   PIP_ARGS='--no-index ...'  more words for pip, such as where a CPU build of torch is found
#   ARGS='...'                 more words for `demo` (recstream demo) and the tests (pytest)
#   TESTS='tests/users'        which tests, in place of all
#   KAFKA_HOME=folder          an Apache Kafka download, for the tests in tests/kafka (skipped without)
#   WORKERS=1                  processes that share the tests, in place of one a core (8 at most); 0: none but pytest

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP_ARGS ?=
ARGS ?=
TESTS ?= tests recstream flows
WORKERS ?= auto

# the tokenizers' own threads and a process that forks do not agree
export TOKENIZERS_PARALLELISM := false

# the same examples in every run: a new failure is a new fault, not new luck. A file stays on one worker, which
# so makes what its tests share once; tests/conftest.py puts the longest files first.
SHARED := -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest -q -ra --hypothesis-profile=ci $(SHARED)

.PHONY: help demo test test-full test-kafka check bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## real events become real recommendations, live (ARGS='--events 20000' for less)
	@$(BIN)/recstream demo $(ARGS)

test: $(READY) ## every test but the slow ones, and every example in a docstring
	@$(PYTEST) -m 'not slow' $(ARGS) $(TESTS)

test-full: $(READY) ## every test, the slow ones too
	@$(PYTEST) $(ARGS) $(TESTS)

test-kafka: $(READY) ## the tests on Apache Kafka alone, the slow ones too (KAFKA_HOME=its folder; wants Java 17)
	@[[ -n "$$KAFKA_HOME" ]] || { echo "set KAFKA_HOME to the folder of an Apache Kafka download"; exit 2; }
	@$(PYTEST) $(ARGS) tests/kafka

check: $(READY) ## format, lint and types; changes nothing
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted as above: run $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

bench: $(READY) ## the benchmarks, one JSON line each (QUICK=1 to see that they run)
	@shopt -s nullglob; files=(tests/bench/bench_*.py); \
	[[ $${#files[@]} -gt 0 ]] || { echo "no tests/bench/bench_*.py"; exit 1; }; \
	for file in "$${files[@]}"; do \
		name=$${file%.py}; $(BIN)/python -m "$${name//\//.}" $(if $(QUICK),--quick) || exit 1; \
	done

clean: ## remove what make, the tests and the demo made (.venv too; never your stores)
	@rm -rf $(VENV) build dist *.egg-info .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find recstream flows tests -name __pycache__ -type d -prune -exec rm -rf {} +

# by name as well: `make .venv` sets up and does nothing else
.PHONY: $(VENV)
$(VENV): $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 13))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1 | head -1), wanted Python 3.10 to 3.12: make PYTHON=python3.12 ..."; \
		exit 1; }
	@echo "setting up $(VENV) (once; one to four minutes)"
	@start=$$SECONDS; \
	$(PYTHON) -m venv $(VENV) \
	&& $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check $(PIP_ARGS) \
		-c constraints.txt -e '.[dev]' \
	&& touch $@ && echo "ready after $$((SECONDS - start)) s"
