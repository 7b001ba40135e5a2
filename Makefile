# make demo | test | test-all | proofs | lint | types | sanitize | without-compiler | arm | bench | accuracy | readme | clean
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
comma := ,
NATIVE := CMakeLists.txt pyproject.toml $(wildcard csrc/*)

.PHONY: demo test test-all proofs lint types sanitize sanitize-memory sanitize-threads without-compiler arm bench accuracy readme clean

demo: $(VENV)/.installed
	@rm -rf runs/demo
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

# The install must succeed where nothing compiles, and say so.
without-compiler:
	rm -rf build/without-compiler
	$(PYTHON) -m venv build/without-compiler
	CC=/no/compiler CXX=/no/compiler build/without-compiler/bin/python -m pip install -q \
	  -C build-dir=build/without-compiler/cmake ".[cli,test]"
	build/without-compiler/bin/xhat info
	build/without-compiler/bin/python -c "from xhat import kernels; assert kernels.VARIANTS == ('reference',) and kernels.reason"
	build/without-compiler/bin/python -m pytest -q tests/contract/test_layers.py tests/layers

bench: $(VENV)/.test
	$(BIN)/xhat bench $(ARGS)
	$(BIN)/python benchmarks/overhead.py $(ARGS)
	$(BIN)/python benchmarks/threads.py $(ARGS)
	$(BIN)/python benchmarks/updates.py $(ARGS)
	$(BIN)/python benchmarks/softmax.py $(ARGS)
	$(BIN)/python benchmarks/fused.py $(ARGS)
	$(BIN)/python benchmarks/accuracy.py $(ARGS)
	$(BIN)/python benchmarks/convolution.py $(ARGS)
	$(BIN)/python benchmarks/check_faults.py $(ARGS)
	$(BIN)/python benchmarks/gradient_checkers.py $(ARGS)

# docs/accuracy.md and its picture, beside torch where it is installed: some ten minutes.
accuracy: $(VENV)/.test
	$(BIN)/python benchmarks/accuracy.py --csv benchmarks/results/accuracy.csv
	$(BIN)/python benchmarks/accuracy.py --page

# The loops on an emulated ARM processor give the bits that they give here. Needs g++-aarch64-linux-gnu and qemu-user.
LOOPS := tests/kernels/variant_check.cpp csrc/variant.cpp csrc/variant_fused.cpp \
  csrc/parallel.cpp csrc/workspace.cpp
FLAGS := -std=c++20 -O2 -Wall -Wextra -ffp-contract=off -DXHAT_VARIANT=baseline -pthread -Icsrc
arm:
	mkdir -p build/arm
	g++ $(FLAGS) $(LOOPS) -o build/arm/here
	aarch64-linux-gnu-g++ $(FLAGS) -static $(LOOPS) -o build/arm/there
	build/arm/here > build/arm/here.txt
	qemu-aarch64 build/arm/there > build/arm/there.txt
	diff build/arm/here.txt build/arm/there.txt

# Every gradient of the library by both engines, and all pairs of known mistakes against what is true on floats.
proofs: $(VENV)/.test
	$(BIN)/xhat prove
	$(BIN)/python -m pytest -q -m soak tests/verify/symbolic/test_soundness.py

# The kernel tests on builds that watch memory (address, undefined behaviour) and threads, in an environment of their
# own: an editable install would put the ordinary module before the watched one.
WATCHED := build/watched
ASAN := LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0
TSAN := LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" TSAN_OPTIONS=die_after_fork=0:halt_on_error=1 \
  OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=3

# With GCC 12's address sanitizer a child that was forked while other threads allocate was seen to hang once in some
# 5,000 forks; never in 4,500 without it. The likely cause is a lock of the sanitizer's own allocator that another thread
# held; the thread sanitizer does not promise to survive such forks either. `make test` runs that one test without them.
FORKS := --deselect tests/kernels/test_threads.py::test_fork_while_others_compute \
  --deselect tests/kernels/test_memory.py::test_fork_while_others_allocate

# $(call watch,name,sanitizers,environment,options of pytest,tests)
define watch
	$(WATCHED)/bin/python -m pip install -q --no-deps --force-reinstall -C build-dir=build/watched-$(1) \
	  -C cmake.define.XHAT_SANITIZE=$(2) .
	setarch -R env $(3) $(WATCHED)/bin/python -c \
	  "from xhat import kernels; assert kernels.native.__file__.startswith('$(CURDIR)/$(WATCHED)/'), kernels.reason"
	setarch -R env $(3) $(WATCHED)/bin/python -m pytest -q -s $(4) --ignore tests/kernels/test_grid.py $(5)
endef

sanitize: sanitize-memory sanitize-threads

sanitize-memory: $(WATCHED)/.made
	$(call watch,memory,address$(comma)undefined,$(ASAN),$(FORKS),tests/kernels)

# What threads share is the pool: these tests drive it.
sanitize-threads: $(WATCHED)/.made
	$(call watch,threads,thread,$(TSAN),$(FORKS),tests/kernels/test_threads.py tests/kernels/test_reproducibility.py)

$(WATCHED)/.made:
	$(PYTHON) -m venv $(WATCHED)
	$(WATCHED)/bin/python -m pip install -q numpy safetensors pytest hypothesis mpmath ml_dtypes
	@touch $@

# The numbers and the picture in README.md. Fashion-MNIST and torch take part where they are installed.
readme: demo $(VENV)/.test
	mkdir -p benchmarks/results
	$(BIN)/xhat bench --csv benchmarks/results/norms.csv --plot docs/norms.png
	rm -rf runs/readme-*
	$(BIN)/xhat train digits --compare none --out runs/readme-digits
	-$(BIN)/xhat train fashion-mnist --out runs/readme-fashion-mnist
	$(BIN)/python benchmarks/readme.py

clean:
	rm -rf $(VENV) build runs/demo .hypothesis .ruff_cache

$(VENV)/.installed: $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -e ".[cli]"
	@touch $@

# The extras of what is installed already: nothing is built again.
$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install -q "xhat[test]"
	@touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(BIN)/python -m pip install -q "xhat[lint]"
	@touch $@

$(VENV)/.peers: $(VENV)/.test
	$(BIN)/python -m pip install -q torch==2.13.0
	$(BIN)/python -m pip install -q onnx==1.23.2 expecttest jax jaxlib onnxruntime
	@touch $@
