# Every target sets up what it needs: a bare machine with Python 3.11+, a C++ compiler, make and pip is enough.
# Stamp files in .venv remember what is done, so a second run starts at once.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# The shell in $(BIN) first, so that tools which call each other find the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
# Some systems forbid it: then each of the thousand processes that the tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

MODEL  ?= smollm2
PROMPT ?= Give me three tips for a good night's sleep.
JOBS   ?= 2
# Seconds per fuzz target.
SECONDS_EACH ?= 600
# Of the soak test.
MINUTES ?= 30

PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
NATIVE := CMakeLists.txt $(wildcard native/*) $(wildcard native/*/*)
VENV_STAMP   := $(VENV)/.stamp-venv
BUILD_STAMP  := $(VENV)/.stamp-build
CHECK_STAMP  := $(VENV)/.stamp-check
TEST_STAMP   := $(VENV)/.stamp-test
DOCS_STAMP   := $(VENV)/.stamp-docs
FUZZ_STAMP   := $(VENV)/.stamp-fuzz

.DEFAULT_GOAL := help
.PHONY: help demo test test-isas model check format build docs docs-generate docs-serve fuzz soak schemathesis bench bench-limits coverage web web-test screenshots lm-eval clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

# --- setting up -------------------------------------------------------------------------------------------

$(VENV_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "apportion needs Python 3.11 or newer; say which with: make PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@touch $@

# Editable, so that Python changes need no build; build isolation brings CMake and Ninja where they are missing.
$(BUILD_STAMP): $(VENV_STAMP) pyproject.toml $(NATIVE)
	@echo "building apportion ..."
	$(PIP) -e .
	@touch $@

# Extras are installed by themselves: installing the package again would build it again.
define install_extra
@echo "installing the extra $(1) ..."
@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$(1)"], sep="\n")' > $(VENV)/$(1).txt
$(PIP) -r $(VENV)/$(1).txt
@touch $@
endef

$(CHECK_STAMP): $(VENV_STAMP) pyproject.toml
	$(call install_extra,check)

$(TEST_STAMP): $(VENV_STAMP) pyproject.toml
	$(call install_extra,test)

$(DOCS_STAMP): $(VENV_STAMP) pyproject.toml
	$(call install_extra,docs)

$(FUZZ_STAMP): $(VENV_STAMP) pyproject.toml
	$(call install_extra,fuzz)

build: $(BUILD_STAMP) ## Make the virtual environment and build the native core

# --- using ------------------------------------------------------------------------------------------------

demo: $(BUILD_STAMP) ## Build, obtain a small real model and stream an answer from it
	apportion pull $(MODEL)
	apportion run $(MODEL) "$(PROMPT)"

bench: $(BUILD_STAMP) ## Measure prefill and decode of the demo model
	apportion bench $(MODEL)

bench-limits: $(BUILD_STAMP) ## Compare with llama.cpp under limits of memory: FILE=MODEL.gguf LLAMA=its build/bin
	python benchmarks/under_limits.py $(FILE) $(if $(LLAMA),--llama $(LLAMA))

lm-eval: $(BUILD_STAMP) ## Judge tasks through the server by lm-eval, and in process: FILES=.. [LM_EVAL=its program]
	python benchmarks/lm_eval_side_by_side.py $(MODEL) $(FILES) $(if $(LM_EVAL),--lm-eval $(LM_EVAL))

# --- judging ----------------------------------------------------------------------------------------------

test: check model $(TEST_STAMP) $(DOCS_STAMP) ## All checks, then the whole test suite
	pytest -n $(JOBS) --verbosity=0

model: $(BUILD_STAMP) ## Obtain the demo model, where there is a network
	@apportion pull --offline $(MODEL) > /dev/null 2>&1 || apportion pull $(MODEL) || \
	  echo "without the model $(MODEL) the tests that need it are skipped"

check: $(BUILD_STAMP) $(CHECK_STAMP) ## Format, lint, types, import layers, dependencies, spelling, generated docs
	@tools/check

format: $(CHECK_STAMP) ## Rewrite the code in the project's format
	ruff format src tests docs tools benchmarks
	ruff check --fix src tests docs tools benchmarks
	clang-format -i $$(git ls-files -- 'native/*.cpp' 'native/*.h' 'tests/native/*.cpp' 'tests/native/*.h')

coverage: $(BUILD_STAMP) $(TEST_STAMP) ## Branch coverage of the suite, by file
	coverage erase
	coverage run -m pytest
	coverage combine --quiet || true
	coverage report --skip-covered

test-isas: $(BUILD_STAMP) $(TEST_STAMP) ## Kernels of instruction sets that this processor lacks, emulated (minutes)
	@tools/test-isas

fuzz: $(BUILD_STAMP) $(TEST_STAMP) $(FUZZ_STAMP) ## Fuzz each reader for SECONDS_EACH seconds (default 600)
	@tools/fuzz $(SECONDS_EACH)

soak: $(BUILD_STAMP) $(TEST_STAMP) ## A server under mixed requests for MINUTES minutes (default 30)
	@$(BIN)/python -m tests.soak --minutes $(MINUTES)

schemathesis: $(BUILD_STAMP) $(TEST_STAMP) ## Ask a server whatever its API allows for SECONDS_EACH seconds
	@$(BIN)/python -m tests.serve.api_fuzz --seconds $(SECONDS_EACH)

# --- documentation ----------------------------------------------------------------------------------------

docs-generate: $(BUILD_STAMP) ## Write the generated pages of the documentation
	python docs/generate.py

docs: docs-generate $(DOCS_STAMP) ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict
	@echo "open site/index.html"

docs-serve: docs-generate $(DOCS_STAMP) ## Serve the documentation and rebuild it on change
	mkdocs serve

# --- the dashboard ----------------------------------------------------------------------------------------

# Built files are committed, so that nobody needs node who does not change the page. The lock file names no
# registry: whichever is configured serves.
WEB_STAMP := web/node_modules/.stamp

$(WEB_STAMP): web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund --omit-lockfile-registry-resolved
	@touch $@

web: $(WEB_STAMP) ## Build the dashboard into the package (needs node 20.19 or newer)
	cd web && npm run check && npm run build

web-test: $(WEB_STAMP) ## Test the dashboard's pure parts
	cd web && npm test

screenshots: $(BUILD_STAMP) $(TEST_STAMP) ## Take the documentation's pictures of the dashboard (needs Chromium)
	SCREENSHOTS=1 pytest tests/serve/browser/test_screenshots.py

clean: ## Remove what was built (not the virtual environment, not the models)
	rm -rf build dist site .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	rm -f $(VENV)/.stamp-build $(VENV)/.stamp-check $(VENV)/.stamp-test $(VENV)/.stamp-docs $(VENV)/.stamp-fuzz
