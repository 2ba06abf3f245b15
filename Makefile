# Each target sets up what it needs by itself: a virtual environment with the versions of requirements.lock.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
CORES ?= $(shell $(PYTHON) -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RESULTS = $(filter-out results/README.md,$(wildcard results/*))
PEERS := $(VENV)/.peers
CLUSTER := $(VENV)/.cluster
SITE := $(VENV)-site
APP := $(VENV)/.app
BROWSER := $(VENV)/.browser
SNAKEMAKE := PATH="$(abspath $(BIN)):$$PATH" snakemake --cores $(CORES)
QUIETLY := --quiet rules host reason  # leaves the progress of the jobs

.PHONY: help install demo mini_full tune app publish bench cluster test browser test_browser lint format docs site wheels unlock clean clean_results

help:  ## this list
	@grep -hE '^[a-z_]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z_]+):.*## (.*)/make \1\t\2/' | expand -t 20

install: $(INSTALLED)  ## the packages into .venv; then source .venv/bin/activate

demo: $(INSTALLED)  ## the whole study at small scale, in minutes: results/mini/report.html
	@$(SNAKEMAKE) $(QUIETLY)
	@echo "Done. Open results/mini/report.html in a browser; tables and figures lie beside it."
	@echo "Next, separate one of its mixtures, or a song of yours: $(BIN)/gmsdi separate results/mini/gallery/separator-1-01.flac"

mini_full: $(INSTALLED)  ## the same on more test pieces, with more rows, in hours: results/mini_full/report.html
	@$(SNAKEMAKE) $(QUIETLY) --configfile config/mini_full.yaml
	@echo "Done. Open results/mini_full/report.html in a browser; tables and figures lie beside it."

app: $(APP)  ## the four tasks as a page in your browser; PORT=7860
	@$(BIN)/gmsdi app --open --port $(or $(PORT),7860)

tune: $(INSTALLED)  ## the searches on validation data that the defaults come from, in hours: docs/tuning; RUN=by_others: those of that configuration
	@$(SNAKEMAKE) $(QUIETLY) --configfile config/$(or $(RUN),tuning).yaml -- tune
	@mkdir -p docs/tuning/$(RUN) && cp results/$(or $(RUN),tuning)/tuning/$(if $(RUN),separation.)* docs/tuning/$(RUN)
	@echo "docs/tuning/$(RUN) has the tables."

publish: $(INSTALLED)  ## the tables and figures of mini_full as docs/mini_full, and in the README; RUN=mini_clap: of that
	@$(BIN)/python -m benchmarks.publish $(or $(RUN),mini_full)
	@echo "docs/$(or $(RUN),mini_full)/README.md shows the tables and figures of results/$(or $(RUN),mini_full)."

bench: $(PEERS)  ## times beside those of other packages, in minutes: docs/speed.md; ARGS="--channels 128": larger
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed $(ARGS)
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scoring

cluster: $(CLUSTER)  ## what submits jobs to SLURM: then snakemake --workflow-profile slurm
	@echo "Set account and partitions in workflow/profiles/slurm/config.yaml, then: $(BIN)/snakemake --workflow-profile slurm"

test: $(PEERS)  ## unit, integration and peer tests; after make cluster and make browser, those of SLURM and of the page, too
	@PATH="$(abspath $(BIN)):$$PATH" GMSDI_PEERS=required OMP_NUM_THREADS=1 python -m pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

browser: $(BROWSER)  ## what the tests of the page need, besides Chromium

test_browser: $(BROWSER)  ## the page in Chromium, apt-get install chromium; FIGURE=docs/figures/app.png: takes its picture, too
	@PATH="$(abspath $(BIN)):$$PATH" GMSDI_BROWSER=required GMSDI_FIGURE="$(FIGURE)" python -m pytest tests/browser

lint: $(INSTALLED)  ## ruff, mypy, snakefmt, snakemake --lint
	@export PATH="$(abspath $(BIN)):$$PATH"; set -x; \
	ruff check .; ruff format --check .; mypy; snakefmt --check workflow; snakemake --lint

format: $(INSTALLED)  ## let the formatters rewrite the sources
	@export PATH="$(abspath $(BIN)):$$PATH"; ruff check --fix .; ruff format .; snakefmt workflow

docs: $(INSTALLED)  ## write config/README.md and the JSON schema of the configuration from its models
	@$(BIN)/python -m gmsdi.study.config_reference

site: $(SITE)/.installed  ## the documentation as pages, build/site/index.html; with players after make demo
	@NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --quiet
	@echo "Done. $(SITE)/bin/python -m http.server --bind 127.0.0.1 --directory build/site shows it on http://127.0.0.1:8000"

wheels: $(INSTALLED)  ## dist/: the wheels of gmsdi, of the model general and of the baselines' weights, to be installed with pip
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist . ./packages/general ./packages/baselines
	@ls -sh dist

unlock: $(INSTALLED)  ## after a power cut: release the lock that Snakemake keeps on this folder
	@$(SNAKEMAKE) --unlock

clean:  ## remove the environments and caches; no results, models or downloads
	rm -rf $(VENV) $(SITE) build dist packages/*/build .snakemake/conda .snakemake/conda-archive .mypy_cache .pytest_cache .ruff_cache
	find gmsdi benchmarks tests workflow -name __pycache__ -prune -exec rm -rf {} +

clean_results:  ## remove all results, trained models and downloads, after asking; YES=1 does not ask
	@du -sh $(RESULTS) /dev/null | sed '/null/d; s/^/to be removed: /'
	@[ -n "$(YES)" ] || { read -rp "Trained models and downloads go, too. Type yes to remove them: " answer && [ "$$answer" = yes ]; }
	rm -rf $(RESULTS)

# demucs is taken for its networks alone, and what else it asks for is not needed.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit(f"gmsdi needs Python 3.11 or newer, \
	this is {v[0]}.{v[1]}; run: make PYTHON=/path/to/python3.11")'
	@echo "Installing into $(VENV) (once, a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps demucs==4.1.0
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -e .
	@touch $@

$(PEERS): $(INSTALLED) requirements-peers.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-peers.lock
	@touch $@

$(SITE)/.installed: requirements-docs.lock
	@$(PYTHON) -m venv $(SITE)
	@$(SITE)/bin/python -m pip install -qq --disable-pip-version-check -r requirements-docs.lock
	@touch $@

$(CLUSTER): $(INSTALLED) requirements-cluster.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-cluster.lock
	@touch $@

$(APP): $(INSTALLED) requirements-app.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-app.lock
	@touch $@

$(BROWSER): $(APP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps playwright==1.65.2
	@touch $@
