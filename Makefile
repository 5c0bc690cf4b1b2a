# `make` alone lists the targets. Every target runs the set-up if it is missing or the lock has changed.

PYTHON ?= python3
# CUDA=1 installs TensorFlow with NVIDIA's libraries instead of the CPU build.
LOCK := $(if $(CUDA),requirements-cuda.txt,requirements.txt)
BIN := .venv/bin
STATUS = $(if $(TRIALS),--trials $(TRIALS)) $(if $(STUDY),--study $(STUDY)) $(if $(BUDGET),--budget $(BUDGET))
SWEEP = $(if $(WORKERS),--workers $(WORKERS)) $(STATUS)
# The value of a variable, quoted for the shell.
quoted = '$(subst ','\'',$(value $(1)))'
NETWORK = $(if $(value VARIANT),--variant=$(call quoted,VARIANT)) $(if $(value DATA),--data=$(call quoted,DATA))
SEEDED = $(if $(SEEDS),--seeds $(SEEDS))
# In the environment, because every user of the machine can read a command line, and the URL may contain a password.
ifdef STORAGE
export CNNLAB_STORAGE := $(STORAGE)
endif
STAMP := .venv/set-up-$(shell cat $(LOCK) pyproject.toml | cksum | tr -s ' \t' '-')
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
export PATH := $(CURDIR)/$(BIN):$(PATH)
# For MLflow's server; cnnlab sets it for its own processes.
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: help setup repro train sweep sweep-status sweep-ui anatomy see compare predict demo export serve sync doctor ui test lint bench lock clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## build .venv from the lock (CUDA=1: with NVIDIA's libraries)

# uv itself comes from the lock, so its hash is checked too.
# Compiling bytecode here saves 10 s at the first import of TensorFlow and MLflow.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "error: Python " + \
	  sys.version.split()[0] + " cannot run cnnlab. Expected 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo 'error: $(PYTHON) lacks the module venv. Install it (Debian: apt-get install python3-venv).' >&2; exit 1; }
	@echo 'setup 1/4: virtual environment in .venv'
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@echo 'setup 2/4: uv, which installs packages in parallel'
	@awk '/^uv==/ {p = 1; print; next} p && /^ / {print; next} {p = 0}' $(LOCK) > .venv/uv.txt
	@$(BIN)/pip install --quiet --require-hashes -r .venv/uv.txt
	@echo "setup 3/4: $$(grep -c '^[a-z].*==' $(LOCK)) packages from $(LOCK), a minute or two"
	@$(BIN)/uv pip install --compile-bytecode --require-hashes -r $(LOCK) \
	  || { echo 'uv cannot install the lock; using pip instead, which takes minutes' >&2; \
	       $(BIN)/pip install --require-hashes -r $(LOCK); }
	@echo 'setup 4/4: cnnlab itself'
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

repro: $(STAMP)  ## run every stage that is not up to date: fetch, preprocess, train, evaluate, report
	@$(BIN)/python -m cnnlab.params
	$(BIN)/dvc repro

train: $(STAMP)  ## train and evaluate one variant, also of on_demand (VARIANT=speedrun SEEDS=)
	@$(BIN)/dvc repro --quiet preprocess
	$(BIN)/cnnlab train $(SEEDED) -- $(if $(value VARIANT),$(call quoted,VARIANT),$(error Name one: make train VARIANT=speedrun))

sweep: $(STAMP)  ## start or resume a sweep (TRIALS= WORKERS= STUDY= BUDGET= STORAGE=postgresql://…)
	@$(BIN)/dvc repro --quiet preprocess
	@$(BIN)/python pipeline/sweep.py $(SWEEP)

sweep-status: $(STAMP)  ## print the progress of a sweep (STUDY= BUDGET= STORAGE=)
	@$(BIN)/cnnlab sweep-status $(STATUS)

sweep-ui: $(STAMP)  ## serve Optuna's dashboard, on this machine only (PORT=8080 STORAGE=)
	$(BIN)/cnnlab sweep-ui $(if $(PORT),--port $(PORT))

anatomy: $(STAMP)  ## print a network layer by layer: sizes, parameters, FLOPs, receptive fields (NET=improved)
	@$(BIN)/cnnlab anatomy -- $(if $(value NET),$(call quoted,NET),$(error Name one: make anatomy NET=improved))

see: $(STAMP)  ## plot what a trained network sees, optionally for your own image (VARIANT=improved PICTURE=cat.jpg)
	@$(BIN)/cnnlab see -- $(if $(value VARIANT),$(call quoted,VARIANT),$(error Name one: make see VARIANT=improved)) \
	  $(if $(value PICTURE),$(call quoted,PICTURE))

compare: $(STAMP)  ## print the accuracies of variants, of their other recipes in MLflow, and of transfers
	@$(BIN)/cnnlab compare

predict: $(STAMP)  ## classify images: IMAGES="a.png folder *.jpg" (VARIANT=improved or DATA=mnist, TOP=5)
	@$(BIN)/cnnlab predict $(NETWORK) $(if $(TOP),--top $(TOP)) -- \
	  $(or $(IMAGES),$(error Name some: make predict IMAGES="a.png b.jpg"))

demo: $(STAMP)  ## serve a page that classifies images, on this machine only (PORT=7860)
	@$(BIN)/cnnlab demo $(if $(PORT),--port $(PORT))

export: $(STAMP)  ## export a network to exports/ as SavedModel and LiteRT (VARIANT= or DATA=)
	@$(BIN)/cnnlab export $(NETWORK)

serve: $(STAMP)  ## serve the champion over HTTP, on this machine only (DATA=mnist PORT=5001)
	@$(BIN)/cnnlab serve $(if $(value DATA),--data=$(call quoted,DATA)) $(if $(PORT),--port $(PORT))

sync: $(STAMP)  ## upload queued MLflow records
	$(BIN)/cnnlab sync

doctor: $(STAMP)  ## check Python, packages, devices, memory, disk, data, MLflow, DVC
	@$(BIN)/cnnlab doctor

ui: $(STAMP)  ## serve the MLflow UI, on this machine only (PORT=5000)
	$(BIN)/mlflow server --host 127.0.0.1 --port $(or $(PORT),5000) --workers 1 --default-artifact-root mlruns/artifacts \
	  --backend-store-uri "$$($(BIN)/python -c 'from cnnlab.tracking.store import tracking_uri; print(tracking_uri())')"

test: $(STAMP)  ## run the tests, on real data
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## check style (ruff) and types (mypy)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(STAMP)  ## benchmark the training engine against its targets; results in benchmarks/results/
	$(BIN)/dvc repro --quiet preprocess@cifar10
	$(BIN)/python benchmarks/bench.py

lock: $(STAMP)  ## update requirements.txt and requirements-cuda.txt from requirements.in
	$(COMPILE) --upgrade requirements.in --output-file requirements.txt
	@echo "tensorflow-cpu ; python_version < '3'" > .venv/never.txt
	$(COMPILE) requirements.in pyproject.toml --extra cuda --override .venv/never.txt --constraint requirements.txt \
	  --output-file requirements-cuda.txt

clean:  ## remove everything that can be rebuilt (.venv, data, models, caches), but not mlruns/ and downloads
	rm -rf .venv .checkpoints data models exports dvc_plots .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
