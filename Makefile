# The commands of the project; each works on a fresh clone.
# On Windows the recipes need the shell that comes with Git, as in "Git Bash".
ifeq ($(OS),Windows_NT)
PYTHON ?= python
PROGRAMS := Scripts
else
PYTHON ?= python3
PROGRAMS := bin
endif
VENV := .venv
BIN := $(VENV)/$(PROGRAMS)
STAMP := $(VENV)/.ready
# Many containers forbid Python to write bytecode; torch would be compiled anew in every process a test starts.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup test test-fast fuzz check demo bench reference docs wheel clean

setup: $(STAMP)

# All versions are pinned, so none is searched for, and two halves can be installed beside each other: it is mostly
# unpacking, which takes pip one core. What is imported is compiled when it is.
$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	grep -v '^#' requirements.txt | xargs -P 2 -n 80 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $(STAMP)

# As many processes as cores; the tests of a file stay together, as they share what takes long to make, and the
# files with the slowest tests come first.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST)

test-fast: setup
	$(PYTEST) -m "not slow"

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
	$(BIN)/fewbox demo -o demo $(if $(BASE),--base $(BASE))

bench: setup
	$(BIN)/python benchmarks/finetune_seed.py
	$(BIN)/python benchmarks/detect.py
	$(BIN)/python benchmarks/bases.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/service.py
	$(BIN)/python benchmarks/annotate.py

# The options in the reference, as the parser has them; a test compares.
reference: setup
	$(BIN)/python tools/reference_options.py docs/reference.md

# The site, into site/. Its tools have an environment of their own: they need neither torch nor fewbox installed.
DOCS_STAMP := .venv-docs/.ready

$(DOCS_STAMP): docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/$(PROGRAMS)/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
	touch $(DOCS_STAMP)

docs: $(DOCS_STAMP)
	NO_MKDOCS_2_WARNING=1 .venv-docs/$(PROGRAMS)/mkdocs build --quiet --strict
	@echo "wrote the site: open site/index.html; the search needs a server: python -m http.server --directory site"

# Installed alone, in an empty environment, at the pinned versions.
wheel: setup
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel -d dist
	$(BIN)/python tools/check_wheel.py --constraint requirements.txt dist/*.whl

clean:
	rm -rf $(VENV) .venv-docs demo dist site
