# The commands of the project; each works on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup test fuzz check demo bench clean

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(STAMP)

test: setup
	$(BIN)/python -m pytest

# ROUNDS: how often each property is tried, every time on other examples.
ROUNDS ?= 10

fuzz: setup
	for round in $$(seq $(ROUNDS)); do HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -q -m hypothesis || exit 1; done

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# BASE: a base model by name or file; without it the best one in the cache is used.
BASE ?=

demo: setup
	$(BIN)/goldeneye demo -o demo $(if $(BASE),--base $(BASE))

bench: setup
	$(BIN)/python benchmarks/finetune_seed.py
	$(BIN)/python benchmarks/detect.py
	$(BIN)/python benchmarks/bases.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/service.py
	$(BIN)/python benchmarks/annotate.py

clean:
	rm -rf $(VENV) demo
