# Everything runs from .venv, made on first use. `make demo` is the main job, `make test` the tests.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo serve test lint types unit install constraints bench-adapt bench-task-gradients bench-actor bench-meta bench-faults clean

demo: install
	$(BIN)/python examples/digits.py build/digits.zip
	$(BIN)/archprior adapt build/digits.zip --name digits --out build/demo

# Two minutes of meta-learning by two workers, then an adaptation that uses what they learned.
.PHONY: meta-demo
meta-demo: install
	$(BIN)/python examples/glyphs.py build/glyphs.zip
	$(BIN)/python examples/digits.py build/digits.zip
	$(BIN)/python examples/meta_demo.py build/glyphs.zip build/digits.zip build/meta-demo

serve: install
	$(BIN)/archprior serve

test: lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# Threads of torch that wait give up their CPU at once: tests run several processes on two cores. Two at a time, a file of tests
# in one of them; then those that start a Ray.
unit: install
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -m 'not alone' --numprocesses 2 --dist loadfile --durations=15 --ignore tests/cluster
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -m alone --durations=15 --ignore tests/cluster

bench-adapt: install
	$(BIN)/python -m benchmarks.adapt

bench-task-gradients: install
	$(BIN)/python -m benchmarks.meta_runs.task_gradients

# One thread a process, which gives up its CPU while it waits; Ray on loopback only, with its token.
bench-actor bench-meta bench-faults: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 RAY_AUTH_MODE=token \
		$(BIN)/python -m benchmarks.meta_runs.$(@:bench-%=%)

# A service that is killed at each step of its way, and what it needs taken away.
.PHONY: bench-recovery
bench-recovery: install
	$(BIN)/python -m benchmarks.recovery

# Requests of one and of 100 clients to a service with 100,000 records; Ray is a fake, then real.
.PHONY: bench-api
bench-api: install
	$(BIN)/python -m benchmarks.service.api

# A dataset of SIZE_MB, sent in every way.
SIZE_MB ?= 2000
.PHONY: bench-upload
bench-upload: install
	$(BIN)/python -m benchmarks.service.upload --size-mb $(SIZE_MB)

# Invented requests and broken archives for FUZZ_S seconds.
FUZZ_S ?= 3600
.PHONY: bench-fuzz
bench-fuzz: install
	$(BIN)/python -m benchmarks.service.fuzz --seconds $(FUZZ_S)

# What priors learn from, of more than one kind, and what they never see; fetched by npm and apt-get. See docs/domains.md.
DOMAINS := build/domains
.PHONY: domains
domains: install
	$(BIN)/python -m benchmarks.domains $(DOMAINS)

SUITE_DATA := build/suite/.written

# To learn from, with their weights; without the classes of ImageNet and the emoji that name what CIFAR-10 shows.
IMAGENET_WEIGHT := 2
THREE_DOMAINS = \
	--data $(DOMAINS)/imagenet32/imagenet32.npz:$(IMAGENET_WEIGHT) \
	--split $(DOMAINS)/imagenet32/split_without_cifar10.json --terms 'ImageNet: non-commercial research' \
	--data $(DOMAINS)/emoji/emoji.npz:1 --split $(DOMAINS)/emoji/split_without_cifar10.json \
	--terms 'Apache 2.0 (Noto Emoji), CC BY 4.0 (Twemoji)' \
	--data $(DOMAINS)/scripts/scripts.npz:1 --split $(DOMAINS)/scripts/split.json \
	--terms 'SIL Open Font License 1.1 (Noto fonts)'
FOUR_DOMAINS = $(THREE_DOMAINS) \
	--data $(DOMAINS)/mnist/mnist.npz:0.5 --split $(DOMAINS)/mnist/split.json --terms 'MNIST: CC BY-SA 3.0'
BUNDLED := workers/priors/bundled

# What a prior is worth in a domain that it never saw: one prior for each domain left out, BUDGET_CPU_S seconds each.
BUDGET_CPU_S ?= 150
.PHONY: bench-leave-one-out
bench-leave-one-out: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.priors.leave_one_out --budget-cpu-s $(BUDGET_CPU_S)

# What more meta-training is worth: the bundled prior, and its recipe shortened to an eighth ... a thirty-second.
# Needs `make domains`.
.PHONY: bench-meta-compute
bench-meta-compute: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.priors.meta_compute

# What helps a prior to learn: variants of a configuration, 40 CPU seconds each, after one warm-up of 120
# and from the start; what they taught stands in benchmarks/priors/experiments.md. Needs `make domains`.
.PHONY: bench-meta-training
bench-meta-training: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.priors.meta_training --warm-up-cpu-s 120
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.priors.meta_training \
		--spec benchmarks/priors/meta_training_from_start.json --tasks 4

# How well a prior ranks architectures that it never tried, on classes that it never met, beside counting parameters; of
# PRIOR=FOLDER, which must leave many open. Needs `make domains`.
DEEP := $(BUNDLED)/nas_bench_201-deep
RANKING ?= --num-steps 150 --domain imagenet32 --domain emoji
.PHONY: bench-ranking
bench-ranking: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.priors.ranking \
		--prior $(or $(PRIOR),$(DEEP)) $(RANKING)

# What each part of what a prior's trials teach is worth; trains nothing. PRIOR=FOLDER names one with the records of its
# trials: what meta-train wrote; of the bundled ones only this.
.PHONY: bench-trials
bench-trials: install
	$(BIN)/python -m benchmarks.priors.trials --prior $(or $(PRIOR),$(DEEP))

# The first steps on datasets that a prior never saw, from its weights and from fresh ones; needs
# `make domains` and the packed CIFAR-10.
.PHONY: bench-few-steps
bench-few-steps: install $(SUITE_DATA)
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.priors.few_steps

# Which supernet of the mobile space ranks better: weights of each block's own, or slices; needs the packed CIFAR-10.
.PHONY: bench-mobile-sharing
bench-mobile-sharing: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.search.mobile_sharing

# How fast a search step is, against that of DARTS, and in each space; threads give up their CPU while they wait.
.PHONY: bench-step bench-step-ranking
bench-step: install
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.search.step

# How long either takes to rank cells equally well; needs the packed CIFAR-10 and the table of NAS-Bench-201.
bench-step-ranking: install
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m benchmarks.search.step_ranking

# Suites of adaptations, hours long; each goes on where it was stopped (docs/bench.md). More options by BENCH='--only-seed 0'.
.PHONY: bench-tasks bench-anytime bench-namesakes
bench-tasks: prior-fixed
bench-namesakes: prior-namesakes-unmet prior-namesakes-met
bench-tasks bench-anytime bench-namesakes: install $(SUITE_DATA)
	$(BIN)/archprior bench benchmarks/suites/$(@:bench-%=%).json --out build/$@ --json \
		--results benchmarks/results/$(@:bench-%=%).json $(BENCH)

# The prior of the cell that bench-tasks compares with: the recipe of the bundled one, for about as many CPU seconds (trials,
# which it does not need, apart; how many steps these are was estimated by the former recipe), but for this cell only.
.PHONY: prior-fixed
prior-fixed: install
	$(BIN)/archprior meta-train --threads 2 --out build/priors/fixed --config benchmarks/suites/fixed.json $(FOUR_DOMAINS)

# One cell, 4,000 steps: without the classes that name what CIFAR-10 shows, and with.
.PHONY: prior-namesakes-unmet prior-namesakes-met
prior-namesakes-unmet: install
	OMP_NUM_THREADS=1 $(BIN)/archprior meta-train --out build/priors/namesakes-unmet \
		--config benchmarks/suites/namesakes_prior.json $(FOUR_DOMAINS)

prior-namesakes-met: install
	OMP_NUM_THREADS=1 $(BIN)/archprior meta-train --out build/priors/namesakes-met \
		--config benchmarks/suites/namesakes_prior.json $(subst split_without_cifar10,split,$(FOUR_DOMAINS))

# Needs what `make domains` writes, and the packed CIFAR-10.
$(SUITE_DATA): benchmarks/suites/data.py | $(INSTALLED)
	$(BIN)/python -m benchmarks.suites.data build/suite
	touch $@

# How good the cells are that a minute chooses, by NAS-Bench-201; more options by NAS201='--seeds 3 --arms ours'. Needs the
# packed CIFAR-10, the table, and for the arm `constant_by_ours` `make domains`.
.PHONY: bench-nas201
bench-nas201: install
	$(BIN)/python -m benchmarks.nas_bench_201 --prior $(DEEP) $(NAS201)

# The page of results, docs/results.md with its pictures, from benchmarks/results; a test compares it with them.
.PHONY: results
results: install
	$(BIN)/python -m benchmarks.results_page

# The one image. Its dependencies come from wheels that this machine's pip fetches, with settings a build does not see.
IMAGE ?= archprior:latest
BASE_IMAGE ?= python:3.11-slim-bookworm
WHEELS := deploy/wheels/.fetched
.PHONY: image
image: $(WHEELS)
	DOCKER_BUILDKIT=1 docker build --quiet --file deploy/Dockerfile --build-arg BASE_IMAGE=$(BASE_IMAGE) --tag $(IMAGE) .

$(WHEELS): pyproject.toml constraints.txt | $(INSTALLED)
	rm -f deploy/wheels/*.whl
	$(BIN)/python -m pip wheel --disable-pip-version-check --quiet --wheel-dir deploy/wheels \
		--constraint constraints.txt '.[image]' 'setuptools>=80' wheel
	rm -f deploy/wheels/archprior-*.whl
	touch $@

# Builds the image and takes a cluster of containers through its faults; needs docker and docker-compose.
.PHONY: test-cluster
test-cluster: install
	IMAGE=$(IMAGE) BASE_IMAGE=$(BASE_IMAGE) BIN=$(abspath $(BIN)) $(BIN)/pytest tests/cluster --capture=no --verbose

# After a change of the API: its document, which a test compares with the routes.
.PHONY: openapi
openapi: install
	$(BIN)/python -m service.openapi docs/openapi.json

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

# Everything under build goes: domains, priors that took hours, what benchmarks go on from.
clean:
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache

# The bundled priors, from what `make domains` writes; each takes an hour or two of two cores, and goes on from its checkpoint
# when stopped.
BUNDLED_PRIORS := prior-nas_bench_201-v4 prior-mobile-v1 prior-darts-v1
.PHONY: $(BUNDLED_PRIORS)
$(BUNDLED_PRIORS): prior-%: install
	$(BIN)/archprior meta-train --threads 2 --out build/priors/$* --config $(BUNDLED)/$*/config.json $(FOUR_DOMAINS)
	cp build/priors/$*/card.json build/priors/$*/prior.safetensors $(BUNDLED)/$*/

# It foretells training from scratch in a skeleton as deep as NAS-Bench-201's: trials with fresh weights only.
.PHONY: prior-nas_bench_201-deep
prior-nas_bench_201-deep: IMAGENET_WEIGHT := 4
prior-nas_bench_201-deep: install
	OMP_NUM_THREADS=1 $(BIN)/archprior meta-train --out build/priors/nas_bench_201-deep \
		--config $(DEEP)/config.json $(THREE_DOMAINS)
	cp $(addprefix build/priors/nas_bench_201-deep/,card.json prior.safetensors trials.jsonl) $(DEEP)/
