# make demo | test | test-all | lint | types | sanitize | bench | clean
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt pyproject.toml $(wildcard csrc/*)

.PHONY: demo test test-all lint types sanitize bench clean

demo: $(VENV)/.installed
	$(BIN)/xhat train digits --norm batch --compare none --optimizer sgd --learning-rate 1 --out runs/demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -q -m "not peers"

test-all: $(VENV)/.peers
	$(BIN)/python -m pytest -q

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test $(VENV)/.lint
	$(BIN)/pyright

bench: $(VENV)/.test
	$(BIN)/python benchmarks/norms.py $(ARGS)

clean:
	rm -rf $(VENV) build runs

$(VENV)/.installed: $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[cli]"
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install -q -e ".[cli,test]"
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(BIN)/python -m pip install -q -e ".[lint]"
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q jax jaxlib onnx onnxruntime
	@touch $@
