# Everything runs from .venv, made on first use. `make demo` is the main job, `make test` the tests.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo serve test lint types unit install constraints bench-adapt clean

demo: install
	$(BIN)/python examples/digits.py build/digits.zip
	$(BIN)/archprior adapt build/digits.zip --name digits --out build/demo

serve: install
	$(BIN)/archprior serve

test: lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# Threads of torch that wait give up their CPU: tests run several processes on two cores.
unit: install
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --durations=15

bench-adapt: install
	$(BIN)/python -m benchmarks.adapt

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# After a change of the dependencies: pins what an unconstrained installation resolved to.
constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --editable '.[dev]'
	build/constraints/bin/python -m pip freeze --exclude-editable | grep -viE '^(pip|setuptools)==' > constraints.txt

# The checkpoint of a prior in training goes too.
clean:
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache

# Needs the packed ImageNet classes, and about 40 minutes of one core; goes on from its checkpoint when stopped.
PRIOR_DATA ?= ../shared/data/imagenet32_200c.npz
PRIOR_DIR := workers/priors/bundled/nas_bench_201-v1
.PHONY: prior-nas_bench_201
prior-nas_bench_201: install
	$(BIN)/archprior meta-train --data $(PRIOR_DATA) --terms 'ImageNet: non-commercial research' \
		--split $(PRIOR_DIR)/split.json --config $(PRIOR_DIR)/config.json --out build/nas_bench_201-v1
	cp build/nas_bench_201-v1/card.json build/nas_bench_201-v1/prior.safetensors $(PRIOR_DIR)/
