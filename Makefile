.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EVENT ?= events/scheduled.json
export PYTHONPATH := functions/keepalive:.

help:  ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

.venv-sam/.installed: requirements/sam.txt
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/pip install --quiet --no-deps --require-hashes -r requirements/sam.txt
	@touch $@

# What stands in for Lambda's own Python; 3.13 where there is one, as in Lambda.
PYTHON313 = $(firstword $(foreach python,python3.13 $(wildcard $(PYENV_ROOT)/versions/3.13*/bin/python),\
  $(shell $(python) -c 'import sys; sys.version_info[:2] == (3, 13) and print("$(python)")' 2>/dev/null)))

.venv-runtime/.installed: requirements/runtime.txt
	$(or $(PYTHON313),$(PYTHON)) -m venv .venv-runtime
	.venv-runtime/bin/pip install --quiet --no-deps --require-hashes -r requirements/runtime.txt
	@touch $@

# Each client at its newest, with what that pins, in an environment of its own.
CLIENTS := binance-sdk ccxt python-binance
$(CLIENTS:%=.venv-%/.installed): .venv-%/.installed: requirements/clients-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --no-deps --require-hashes -r $<
	@touch $@

# checkov and bandit, in an environment of their own: checkov pins other versions of what the project uses.
.venv-checkov/.installed: requirements/checkov.txt
	$(PYTHON) -m venv .venv-checkov
	.venv-checkov/bin/pip install --quiet --no-deps --require-hashes -r requirements/checkov.txt
	@touch $@

$(VENV)/.browser-installed: requirements/browser.txt $(VENV)/.installed
	$(BIN)/pip install --quiet --no-deps --require-hashes -r $<
	@touch $@

AXE := .browser/node_modules/axe-core/axe.min.js
$(AXE):
	npm install --silent --no-save --no-package-lock --ignore-scripts --prefix .browser axe-core@4.14.1

install: $(VENV)/.installed  ## Make the development environment in .venv

run: install  ## Run the function once in a local world (EVENT=events/..., KEEP=1 keeps the world)
	@$(BIN)/python -m local.run $(EVENT) $(if $(KEEP),--keep)

up: install  ## Keep a local world up, run by its rules (SPEED=60: an hour takes a minute)
	@$(BIN)/python -m local.up --speed $(or $(SPEED),1)

down: install  ## End a world that `make up` or `make run KEEP=1` left up
	@$(BIN)/python -m local.world --stop

test: install  ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-deep: install  ## Run the state machine at length (some half an hour)
	DEEP=1 $(BIN)/python -m pytest tests/properties --timeout 7200

check: install .venv-sam/.installed .venv-checkov/.installed  ## Lint, type-check and validate the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint --include-checks I -- template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 .venv-sam/bin/sam validate --lint
	.venv-checkov/bin/checkov --file template.yaml --framework cloudformation --skip-download --quiet --compact
	.venv-checkov/bin/bandit --quiet --recursive functions listenkey_keeper

# With the Python of sam's environment: it has pip, which a system's own may lack.
build: .venv-sam/.installed  ## Build the function as it is deployed
	SAM_CLI_TELEMETRY=0 PYTHON=$(CURDIR)/.venv-sam/bin/python .venv-sam/bin/sam build

invoke: install build .venv-runtime/.installed  ## Run what was built under Lambda's runtime emulator (EVENT=, KEEP=1 as for run)
	@$(BIN)/python -m local.aws.runtime $(EVENT) $(if $(KEEP),--keep)

e2e: install build .venv-runtime/.installed  ## Run the end-to-end tests: built, deployed and invoked for real
	$(BIN)/python -m pytest -m e2e

clients: install $(CLIENTS:%=.venv-%/.installed)  ## Run the tests of others' clients against the Binance stand-in
	$(BIN)/python -m pytest -m clients tests/clients

CHROMIUM ?= $(firstword $(wildcard /usr/bin/chromium /usr/bin/google-chrome))
browser: install $(VENV)/.browser-installed $(AXE)  ## Test the page in a real browser (Debian's chromium, npm)
	@test -n "$(CHROMIUM)" || { echo "no browser found: apt-get install chromium, or give CHROMIUM=path"; exit 1; }
	CHROMIUM=$(CHROMIUM) AXE=$(AXE) $(BIN)/python -m pytest -m browser tests/browser

simulate: install  ## Simulate a month of outages, against other schedules
	@$(BIN)/python -m simulation.run

scale: install  ## Run 100,000 accounts through shards and several workers (some fifteen minutes)
	@$(BIN)/python -m benchmarks.scale

bench: install build .venv-runtime/.installed $(CLIENTS:%=.venv-%/.installed)  ## Measure CPU, time, memory and cold start (ROUNDS=5, QUICK=1)
	$(BIN)/python -m benchmarks --rounds $(or $(ROUNDS),5) $(if $(QUICK),--quick)

costs: install  ## Compute docs/costs.md's table from what was measured last
	$(BIN)/python -m benchmarks.costs

lock:  ## Compile the requirements, with hashes (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate -q functions/keepalive/requirements.in -o functions/keepalive/requirements.txt
	for name in dev browser sam runtime checkov simulate $(CLIENTS:%=clients-%); do uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate -q requirements/$$name.in -o requirements/$$name.txt; done

clean:  ## Remove everything that was built or installed
	rm -rf .venv .venv-sam .venv-runtime .venv-checkov $(CLIENTS:%=.venv-%) .aws-sam .browser .build .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install run up down test test-deep check build invoke e2e clients browser simulate scale bench costs lock clean
