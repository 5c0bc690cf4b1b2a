# `make` alone lists the targets. Every target sets up what it needs; set-up happens again only when the lock changed.

PYTHON ?= python3
# CUDA=1 takes TensorFlow with NVIDIA's libraries in place of the CPU build.
LOCK := $(if $(CUDA),requirements-cuda.txt,requirements.txt)
BIN := .venv/bin
SWEEP = $(if $(TRIALS),--trials $(TRIALS)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(STUDY),--study $(STUDY)) \
  $(if $(BUDGET),--budget $(BUDGET))
NETWORK = $(if $(VARIANT),--variant $(VARIANT)) $(if $(DATA),--data $(DATA))
SEEDED = $(if $(SEEDS),--seeds $(SEEDS))
# In the environment, not on the command line, where every user of the machine could read a password.
ifdef STORAGE
export CNNLAB_STORAGE := $(STORAGE)
endif
STAMP := .venv/set-up-$(shell cat $(LOCK) pyproject.toml | cksum | tr -s ' \t' '-')
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url
export PATH := $(CURDIR)/$(BIN):$(PATH)
# As cnnlab says it to its own processes: MLflow's server sends nothing about its users.
export MLFLOW_DISABLE_TELEMETRY ?= true

.DEFAULT_GOAL := help
.PHONY: help setup repro train sweep sweep-status sweep-ui anatomy see compare predict demo export serve sync doctor ui test lint bench lock clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## build .venv from the lock (CUDA=1: with NVIDIA's libraries)

# uv comes from the lock itself, so its hash is checked too; where it cannot install, plain pip can, more slowly.
# Compiled at once: without, the import of TensorFlow and MLflow takes 15 s in place of 5 until Python has cached them.
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else "error: Python " + \
	  sys.version.split()[0] + " cannot run cnnlab. Expected 3.11, 3.12 or 3.13. Name one: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo 'error: $(PYTHON) lacks the module venv. Install it (Debian: apt-get install python3-venv).' >&2; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	@awk '/^uv==/ {p = 1; print; next} p && /^ / {print; next} {p = 0}' $(LOCK) > .venv/uv.txt
	$(BIN)/pip install --quiet --require-hashes -r .venv/uv.txt
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r $(LOCK) \
	  || { echo 'uv could not install the lock: pip does it, which takes minutes' >&2; \
	       $(BIN)/pip install --quiet --require-hashes -r $(LOCK); }
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

repro: $(STAMP)  ## fetch, preprocess, train, evaluate, report: whatever is not up to date
	@$(BIN)/python -m cnnlab.params
	$(BIN)/dvc repro

train: $(STAMP)  ## train and evaluate one variant, those of on_demand too (VARIANT=speedrun SEEDS=)
	@$(BIN)/dvc repro --quiet preprocess
	$(BIN)/python pipeline/train.py $(or $(VARIANT),$(error Name one: make train VARIANT=speedrun)) $(SEEDED)
	$(BIN)/python pipeline/evaluate.py $(VARIANT) $(SEEDED)

sweep: $(STAMP)  ## begin or continue a sweep (TRIALS= WORKERS= STUDY= BUDGET= STORAGE=postgresql://…)
	@$(BIN)/dvc repro --quiet preprocess
	@$(BIN)/python pipeline/sweep.py $(SWEEP)

sweep-status: $(STAMP)  ## print how a sweep stands (STUDY= BUDGET= STORAGE=)
	@$(BIN)/python pipeline/sweep.py --status $(SWEEP)

sweep-ui: $(STAMP)  ## open Optuna's dashboard, on this machine only (PORT=8080 STORAGE=)
	$(BIN)/python pipeline/dashboard.py $(or $(PORT),8080)

anatomy: $(STAMP)  ## print a network layer by layer: sizes, parameters, FLOPs, what a unit sees (NET=improved)
	@$(BIN)/python pipeline/anatomy.py $(or $(NET),$(error Name one: make anatomy NET=improved))

see: $(STAMP)  ## draw what a trained network sees, of a picture of yours too (VARIANT=improved PICTURE=cat.jpg)
	@$(BIN)/python pipeline/see.py $(or $(VARIANT),$(error Name one: make see VARIANT=improved)) $(if $(PICTURE),"$(PICTURE)")

compare: $(STAMP)  ## print the variants and transfers that MLflow holds, data set by data set
	@$(BIN)/python pipeline/compare.py

predict: $(STAMP)  ## tell what pictures show: IMAGES="a.png folder *.jpg" (VARIANT=improved or DATA=mnist, TOP=5)
	@$(BIN)/python pipeline/predict.py $(NETWORK) $(if $(TOP),--top $(TOP)) -- \
	  $(or $(IMAGES),$(error Name some: make predict IMAGES="a.png b.jpg"))

demo: $(STAMP)  ## open a page that tells what a picture shows, on this machine only (PORT=7860)
	@$(BIN)/python pipeline/demo.py --port $(or $(PORT),7860)

export: $(STAMP)  ## write a network for other programs: SavedModel and LiteRT, into exports/ (VARIANT= or DATA=)
	@$(BIN)/python pipeline/export.py $(NETWORK)

serve: $(STAMP)  ## answer over HTTP with the champion, on this machine only (DATA=mnist PORT=5001)
	@$(BIN)/python pipeline/serve.py $(if $(DATA),--data $(DATA)) --port $(or $(PORT),5001)

sync: $(STAMP)  ## send to MLflow what trainings kept while its server was down
	$(BIN)/python -m cnnlab.track

doctor: $(STAMP)  ## look at what a run needs: Python, packages, devices, memory, disk, data, MLflow, DVC
	@$(BIN)/python pipeline/doctor.py

ui: $(STAMP)  ## open the MLflow UI, on this machine only (PORT=5000)
	$(BIN)/mlflow server --host 127.0.0.1 --port $(or $(PORT),5000) --workers 1 --default-artifact-root mlruns/artifacts \
	  --backend-store-uri "$$($(BIN)/python -c 'from cnnlab.track import tracking_uri; print(tracking_uri())')"

test: $(STAMP)  ## run the tests, on real data
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## check style (ruff) and types (mypy)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(STAMP)  ## measure the training engine against its bars, in pairs; the table goes to benchmarks/results/
	$(BIN)/dvc repro --quiet preprocess@cifar10
	$(BIN)/python benchmarks/bench.py

lock: $(STAMP)  ## renew requirements.txt and requirements-cuda.txt from requirements.in
	$(COMPILE) --upgrade requirements.in --output-file requirements.txt
	@echo "tensorflow-cpu ; python_version < '3'" > .venv/never.txt
	$(COMPILE) requirements.in pyproject.toml --extra cuda --override .venv/never.txt --constraint requirements.txt \
	  --output-file requirements-cuda.txt

clean:  ## remove what can be made again: environment, processed data, models, caches; keeps mlruns/ and downloads
	rm -rf .venv .checkpoints data models exports dvc_plots .mypy_cache .ruff_cache .pytest_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
