# Needs python3 (3.11 or newer) with venv, and GNU make. Everything else is installed into the
# virtual environments beside this file, from lists of pinned and hashed versions.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:

PYTHON ?= python3
# Arguments of `make` demo, example, test, soak and bench: make test ARGS="-k codec -x"
ARGS ?=

PIP := bin/python -m pip --quiet --no-input --disable-pip-version-check
BIN := .venv/bin
PACKAGES := $(sort $(notdir $(patsubst %/__init__.py,%,$(wildcard */__init__.py))))
# Folders too: theirs is the only time that changes when a file is deleted.
SOURCES := $(shell find $(PACKAGES) src tests config -name __pycache__ -prune -o -name '*.egg-info' -prune \
	-o \( -type d -o -name '*.py' -o -name '*.lua' -o -name '*.yaml' \) -print)

# The tests start hundreds of processes; each would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

# Absolute, so that worker processes started elsewhere record into the same place.
export COVERAGE_FILE := $(CURDIR)/.coverage

.PHONY: help
help: ## Show this list
	@echo 'Usage: make TARGET [ARGS="..."]'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: .venv-demo/.installed ## Watch a small trading pipeline run: make demo ARGS="--seconds 10"
	@exec .venv-demo/bin/streamatiq demo $(ARGS)

.PHONY: example
example: .venv-demo/.installed ## Run examples/trading, kill a worker of it, and check its ledgers
	@cd examples && exec ../.venv-demo/bin/python -m trading $(ARGS)

.PHONY: test
test: .venv/.installed ## Run the tests (some five minutes on two cores, four side by side), recording coverage for `make check`
	@rm -f .coverage .coverage.* .tested
	@$(BIN)/coverage run -m pytest --numprocesses 4 $(ARGS)
	@$(if $(strip $(ARGS)),,touch .tested)

# What `make check` measures: written by a whole `make test` that passed, out of date after an edit.
.tested: $(SOURCES) pyproject.toml docker-compose.yml Dockerfile .dockerignore | .venv/.installed
	@$(MAKE) test ARGS=

.PHONY: check
check: .venv/.installed .tested ## Lint, types, layers, containers, coverage; runs the tests only if they are out of date
	@echo 'ruff check';   $(BIN)/ruff check --quiet .
	@echo 'ruff format';  $(BIN)/ruff format --quiet --check . || \
		{ echo 'These files are not formatted; run `.venv/bin/ruff format`:'; $(BIN)/ruff format --check .; exit 1; }
	@echo 'mypy';         $(BIN)/mypy --no-error-summary -p streamatiq
	@echo 'mypy example'; MYPYPATH=examples $(BIN)/mypy --no-error-summary -p trading
	@echo 'lint-imports'; $(BIN)/lint-imports > .lint-imports.log 2>&1 || { cat .lint-imports.log; exit 1; }
	@echo 'yamllint';     $(BIN)/yamllint --strict docker-compose.yml .yamllint
	@echo 'compose';      $(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yml
	@echo 'hadolint';     $(BIN)/hadolint Dockerfile
	@echo 'coverage';     if ls .coverage.* > /dev/null 2>&1; then $(BIN)/coverage combine --quiet --append; fi
	@$(BIN)/coverage report
	@echo 'All checks passed.'

.PHONY: soak
soak: .venv/.installed ## Run the long proofs, up to an hour each
	@$(BIN)/pytest -m "soak or hypothesis" --hypothesis-profile long --timeout 3600 $(ARGS)

.PHONY: bench
bench: .venv/.installed ## Measure drain rate and latency beside other brokers
	@$(BIN)/python -m benchmarks $(ARGS)

COMPILE = uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" $(1)

.PHONY: lock
lock: ## Pin the newest versions that fit pyproject.toml (needs uv; ARGS=--upgrade moves existing pins)
	@command -v uv > /dev/null || { echo 'make lock needs the program uv on the PATH.'; exit 1; }
	@$(call COMPILE,--extra embedded --group dev) $(ARGS) -o requirements-dev.txt > /dev/null
	@$(call COMPILE,--extra embedded --group build) $(ARGS) -c requirements-dev.txt -o requirements-demo.txt > /dev/null
	@$(call COMPILE,--group build) $(ARGS) -c requirements-dev.txt -o requirements-image.txt > /dev/null
	@echo 'Wrote requirements-dev.txt, requirements-demo.txt and requirements-image.txt.'

.PHONY: clean
clean: ## Remove environments, caches and reports (not the data of embedded servers)
	@rm -rf .venv .venv-demo build dist htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .lint-imports.log .tested .coverage .coverage.* src/*.egg-info
	@find $(PACKAGES) src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# $(1): the environment, $(2): its list. A stamp is written last, so an interrupted installation is
# begun again; a changed list is installed again; a changed pyproject.toml renews only the project.
define ENVIRONMENT
$(1)/.requirements: $(2)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Python 3.11 or newer is needed, $(PYTHON) is older. Try: make PYTHON=python3.12'; exit 1; }
	@echo 'Installing $(2) into $(1) (once, up to a minute) ...'
	@$(PYTHON) -m venv $(1) || { echo 'Install the venv module: apt install python3-venv'; exit 1; }
	@$(1)/$(PIP) install --require-hashes -r $(2)
	@touch $$@

$(1)/.installed: $(1)/.requirements pyproject.toml
	@$(1)/$(PIP) install --no-deps --no-build-isolation -e .
	@touch $$@
endef
$(eval $(call ENVIRONMENT,.venv,requirements-dev.txt))
$(eval $(call ENVIRONMENT,.venv-demo,requirements-demo.txt))
