# Two commands: `make run` starts the whole network on this machine, `make test` tests everything.
# Options of `sn46 localnet` go into ARGS: make run ARGS="--epochs 1 --validators 2"

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TESTS ?= tests
# Two more than cores: many tests wait for a process or a moment.
WORKERS ?= 4
# What tests load stays compiled, also where the environment asks for the opposite.
PYTEST = env -u PYTHONDONTWRITEBYTECODE CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest
# Where to look for tests of whole networks.
NETWORKS = $(if $(filter tests,$(TESTS)),tests/localnet,$(TESTS))

# The first of these that is there and new enough; PYTHON=/path/to/python chooses another.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$name; break; fi; done)

# Packages by their hashes, nothing else. What is downloaded is told, with its size.
PIP := $(BIN)/python -m pip install --no-compile --require-hashes --no-deps \
	--disable-pip-version-check
TELL := sed -un 's/^ *Downloading \([^ ]*\) \(([^)]*)\).*/  \1 \2/p'

.DEFAULT_GOAL := help
.PHONY: help run test test-networks test-others check format env clean

help:
	@echo "make run     the whole network on this machine; options in ARGS=\"--epochs 1 …\""
	@echo "make test    all tests"
	@echo "make check   style, types and import rules"
	@echo "make env     the environment for all of these, in $(VENV)"
	@echo "make clean   remove the environment"

run: $(VENV)/.base
	@exec $(BIN)/sn46 localnet $(ARGS)

CHROMIUM ?= $(shell type -P chromium chromium-browser google-chrome google-chrome-stable | head -1)

# Whole networks mostly wait for real time: they run beside all others, which make room for them.
test: $(VENV)/.dev
	@test -n "$(CHROMIUM)" || echo "No Chromium is found: tests of the dashboard's pages are left" \
		"out. Install it (apt-get install chromium), or say where it is: make test CHROMIUM=…"
	@$(MAKE) --no-print-directory -j 2 test-networks test-others

test-networks:
	@said=$$($(PYTEST) -m slow $(NETWORKS) 2>&1) || code=$$?; \
	echo "$$said"; [ $${code:-0} -eq 0 -o $${code:-0} -eq 5 ]  # 5: there are none

test-others:
	@nice -n 15 $(PYTEST) -n $(WORKERS) --dist worksteal -m "not slow" $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(VENV)/.dev

clean:
	rm -rf $(VENV)

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found." \
		"Install it, or say where it is: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: requirements/base.txt requirements/build.txt pyproject.toml | $(VENV)/.python
	@echo "Installing packages into $(VENV) (once; the downloads are about 300 MB) …"
	@$(PIP) -r requirements/build.txt | $(TELL)
	@$(PIP) -r requirements/base.txt | $(TELL)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	@touch $@

$(VENV)/.dev: requirements/dev.txt | $(VENV)/.base
	@echo "Installing the tools of development …"
	@$(PIP) -r requirements/dev.txt | $(TELL)
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true
	@touch $@
