# make demo   sets up .venv and runs the main job: train on the built-in corpus, then watch it answer
# make test   sets up .venv with everything for development and runs all tests
# make check  lint, format and types
# make package  builds wheel and sdist, installs the wheel into an empty environment and uses it
# make audit  known vulnerabilities in the locked dependencies (needs the advisory service of the package index)
# make fuzz   100,000 hostile inputs for every reader and command

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test check package audit fuzz lock clean

demo: $(VENV)/.core
	$(BIN)/diffuseq demo

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto  # one thread a worker

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

package: $(VENV)/.dev
	$(PIP) build
	$(BIN)/python benchmarks/package.py

audit: $(VENV)/.dev
	$(PIP) pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

fuzz: $(VENV)/.dev
	$(BIN)/python benchmarks/fuzz.py --cases 100000

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is too old: Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[dev]"
	touch $@ $(VENV)/.core

# Rewrites the versions that development and CI use, from what is installed now.
lock: $(VENV)/.dev
	$(BIN)/python -m pip --disable-pip-version-check freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
