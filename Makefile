# The two commands: `make demo` installs and runs the main job; `make test` installs and passes the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint kernel clean

install: $(STAMP)

$(STAMP): pyproject.toml hatch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $(STAMP)

$(VENV)/.demo: $(STAMP)
	$(BIN)/pip install --quiet --editable '.[demo]'
	$(BIN)/python examples/flights/prepare.py
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python examples/flights/replay.py

kernel: $(STAMP)
	$(BIN)/python penstock/algebra/build_kernel.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP) kernel lint
	$(BIN)/python -m pytest -n auto

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
