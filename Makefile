# Every target works on a fresh Debian or macOS that has Python 3.11 or newer and make.

SHELL := /bin/sh
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
UNIT := not process and not docker and not postgres and not sshd

# Images for Python often forbid bytecode files; the tests start thousands of processes, and each would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup check test demo chaos docs bench clean

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: .venv/ready  ## Make .venv from uv.lock, with uv, which is fetched when it is missing

.venv/ready: uv.lock pyproject.toml | $(UV)
	@$(UV) sync --frozen --quiet --all-extras --all-groups
	@touch $@

.uv/bin/uv:
	@python3 .ci/get-uv.py .uv

check: setup  ## ruff, mypy --strict and unit tests: a minute or two
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 -m "$(UNIT)"

test: setup  ## Everything that this machine can run; says why it leaves something out
	@if docker version >/dev/null 2>&1; then tests/images/build.sh || echo "no test images: container tests are left out"; fi
	$(BIN)/pytest -rs -n 4 --dist worksteal

demo: setup  ## The main job: a network learns to read digits on this computer
	@GPUJOB_HOME="$(CURDIR)/.demo" $(BIN)/python .ci/demo.py

chaos: setup  ## Rounds of faults and kills on simulated clouds: make chaos ROUNDS=2000
	$(BIN)/python -m tests.chaos --rounds $(or $(ROUNDS),100)

docs: setup  ## Write docs/cli.md from the commands' own help
	$(BIN)/python docs/generate.py

bench: setup  ## Measure, and print the tables (bench/README.md)
	$(BIN)/python -m bench

clean:  ## Remove what the other targets made
	rm -rf .venv .venv-templates .venv-templates.lock .venv-focus .venv-focus.lock .uv .demo .mypy_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
