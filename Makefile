# Everything happens in .venv; `make demo` and `make test` set it up when it is not there.

PYTHON ?= python3
BIN := .venv/bin
# The CPU build is enough for the embedded model, but where pip knows only PyPI, Linux gets the CUDA build:
# TORCH='torch --index-url https://download.pytorch.org/whl/cpu' takes the small one. A torch already in .venv is kept.
TORCH ?= torch==2.13.0

.PHONY: demo test check clean

demo: .venv/installed
	$(BIN)/n2g-index build -o demo.n2g --replace
	$(BIN)/n2g-index scores --index demo.n2g
	$(BIN)/n2g-index search " import" --index demo.n2g --limit 10
	$(BIN)/n2g-index show "$$($(BIN)/n2g-index search " import" --names --limit 1 --index demo.n2g)" --index demo.n2g --svg demo.svg

test: .venv/installed
	$(BIN)/pytest

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/test_readme.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv demo.n2g demo.svg
