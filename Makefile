# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first, and are quick when run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint layout site bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## run the whole loop on the bundled sample and print the table
	OMP_NUM_THREADS=1 $(BIN)/snakemake -s workflow/Snakefile --configfile workflow/demo.yaml --cores $(JOBS)
	@cat runs/demo/report/report.md workflow/demo.txt

test: $(VENV)/.dev ## run the tests (the default suite, a few minutes)
	$(BIN)/python -m pytest -n auto

test-slow: $(VENV)/.dev ## run the slow tests too
	$(BIN)/python -m pytest -n auto -m slow

lint: $(VENV)/.dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

layout: ## write the list of files in CONTRIBUTING.md anew
	$(PYTHON) tests/layout.py

site: $(VENV)/.dev ## build the documentation site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev ## measure; each line is a ratio against a peer on the same work
	$(BIN)/python -m benchmarks

clean: ## remove runs and caches; .venv stays
	rm -rf runs site .snakemake .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo
