# Two commands: `make run` starts the whole network on this machine, `make test` tests it.
# Options of `sn46 localnet` go into ARGS: make run ARGS="--epochs 1 --validators 2"

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TESTS ?= tests
WORKERS ?= 2

.PHONY: run test check format env clean

run: $(VENV)/.base
	@$(BIN)/sn46 localnet $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)
