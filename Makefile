.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EVENT ?= events/scheduled.json
export PYTHONPATH := functions/keepalive:.

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/.installed: requirements/dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	@touch $@

.venv-sam/.installed: requirements/sam.txt
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/pip install --quiet --no-deps --require-hashes -r requirements/sam.txt
	@touch $@

install: $(VENV)/.installed  ## Make the development environment in .venv

run: install  ## Run the function once in a local world (EVENT=events/..., KEEP=1 keeps the world)
	@$(BIN)/python -m local.run $(EVENT) $(if $(KEEP),--keep)

down: install  ## End a world that `make run KEEP=1` left up
	@$(BIN)/python -m local.world --stop

test: install  ## Run the tests
	$(BIN)/python -m pytest

check: install .venv-sam/.installed  ## Lint, type-check and validate the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/cfn-lint template.yaml
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=eu-west-1 .venv-sam/bin/sam validate --lint

build: .venv-sam/.installed  ## Build the function as it is deployed
	SAM_CLI_TELEMETRY=0 .venv-sam/bin/sam build

lock:  ## Compile the requirements, with hashes (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-header --no-annotate -q functions/keepalive/requirements.in -o functions/keepalive/requirements.txt
	for name in dev sam; do uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-header --no-annotate -q requirements/$$name.in -o requirements/$$name.txt; done

clean:  ## Remove everything that was built or installed
	rm -rf .venv .venv-sam .aws-sam .build .local .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install run down test check build lock clean
