# Everything a person or a machine runs here. `make test` and `make run` need only Python >= 3.11 and make.
#   make run ARGS="--seconds 20"            make test ARGS="tests/core -k ladder"
#   make setup PYTHON=/usr/bin/python3.13   uses that Python for a new .venv

PYTHON ?=
ARGS   ?=

VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
LOCKS  := requirements/run.txt requirements/dev.txt
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input
BENCH  := $(wildcard bench)
# A run of chosen tests cannot cover the core, so only the whole suite is held to it; and it takes all cores.
JOBS   ?= auto
WHOLE  := $(if $(strip $(ARGS)),,--numprocesses=$(JOBS) --dist=worksteal \
            --cov=orderbell.core --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100)

LOCK_OPTIONS := --quiet --no-config --no-emit-index-url --no-emit-find-links --generate-hashes --universal \
                --python-version 3.11 --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help setup run test bench lock format clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile
	@echo 'ARGS="..." is passed on to the command, PYTHON=... chooses the Python of a new .venv.'

setup: $(READY) ## prepare .venv from the lock (quick when nothing changed)

run: $(READY) ## start the demo: database, sandbox, API, worker and a simulated shop
	$(BIN)/orderbell demo $(ARGS)

test: $(READY) ## run the tests; without ARGS all of them, and the core must be covered
	$(BIN)/python -m pytest $(WHOLE) $(ARGS)

bench: $(READY) ## run the benchmarks
	$(BIN)/orderbell bench $(ARGS)

lock: $(READY) ## write the lock files anew, keeping versions that fit (ARGS=--upgrade: newest)
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --output-file requirements/run.txt $(ARGS) pyproject.toml
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --output-file requirements/dev.txt $(ARGS) \
	  --constraints requirements/run.txt --group dev pyproject.toml

format: $(READY) ## format the code and mend what ruff can mend
	$(BIN)/ruff format src tests $(BENCH)
	$(BIN)/ruff check --fix src tests $(BENCH)

clean: ## remove .venv, caches and build products
	rm -rf $(VENV) build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests $(BENCH) -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python that the lock was made for; failing that, any newer one, which may have to compile packages.
define FIND_PYTHON
	found=; newer=; \
	for candidate in $(if $(PYTHON),'$(PYTHON)',python3 python3.13 python3.12 python3.11 python3.14 python); do \
	  version=$$("$$candidate" -c 'import sys; print(sys.version_info[0] * 100 + sys.version_info[1])' 2>/dev/null) || continue; \
	  if [ "$$version" -ge 311 ] && [ "$$version" -le 314 ]; then found=$$candidate; break; fi; \
	  if [ "$$version" -gt 314 ] && [ -z "$$newer" ]; then newer=$$candidate; fi; \
	done; \
	if [ -z "$$found" ] && [ -n "$$newer" ]; then \
	  found=$$newer; \
	  echo "Note: $$newer is newer than 3.14, the last version the lock was tried with; packages may have to be compiled." >&2; \
	fi; \
	if [ -z "$$found" ]; then \
	  echo "OrderBell needs Python 3.11 or newer$(if $(PYTHON),; $(PYTHON) is not one,; none was found as python3 or python3.11 to python3.14)." >&2; \
	  echo "Install one (Debian, Ubuntu: apt install python3 python3-venv), or name yours: make setup PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi
endef

define CHECK_VENV_MODULE
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$found cannot make virtual environments: its modules venv and ensurepip are missing." >&2; \
	  echo "Debian, Ubuntu: install the package python3-venv as root (apt install python3-venv)." >&2; \
	  echo "Without root: name a complete Python, as from pyenv or conda: make setup PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi
endef

# An environment that no longer starts (its Python was removed or the folder was moved) is made anew.
$(READY): $(LOCKS) pyproject.toml
	@if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  $(FIND_PYTHON); \
	  $(CHECK_VENV_MODULE); \
	  echo "Making $(VENV) with $$("$$found" --version)"; \
	  rm -rf $(VENV) && "$$found" -m venv $(VENV); \
	fi
	@echo 'Installing the locked packages (a minute or two the first time)'
	@$(PIP) install -qq --no-compile --require-hashes --requirement requirements/dev.txt
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $(READY)
