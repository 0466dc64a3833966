# The commands of development. They need only make and Python 3.11; `make` alone lists the targets.

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-cloud bench notebooks docs lint format lock dist clean

# Compiled bytecode beside each module makes every later start fast: these variables would disable it.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPYCACHEPREFIX

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.complete

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(READY) ## make .venv from the locks; PYTHON=/path/to/python3.11 names the Python to use

$(READY): requirements.lock requirements-dev.lock pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" scripts/setup

demo: setup ## run the whole loop on real images
	@$(BIN)/adapt demo $(ARGS)

test: setup ## run all tests but the story's; ARGS="tests/pipeline -k settings" runs some
	-@scripts/browser
	$(BIN)/pytest --ignore=tests/story $(ARGS)

test-cloud: setup ## play the whole story in the cloud emulated on this machine; it takes some minutes
	$(BIN)/pytest --timeout=1800 tests/story $(ARGS)

bench: setup ## measure speed against baselines; BENCH=evaluation measures one subject
	@$(BIN)/python -m benchmarks $(BENCH)

notebooks: setup ## run the notebooks and store what they show
	$(BIN)/python notebooks/execution.py

docs: setup ## build the site of the documents and the API reference, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

lint: setup ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: setup ## renew the locks; UPGRADE=--upgrade takes the newest versions that fit
	@scripts/lock $(UPGRADE)

dist: setup ## build the sdist and the wheel, in dist/
	$(BIN)/uv build --no-build-isolation --python $(BIN)/python --out-dir dist

clean: ## remove .venv and all caches
	rm -rf $(VENV) build dist site *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find adaptation benchmarks cloud_function components emulators models pipeline tests \
		-name __pycache__ -type d -prune -exec rm -rf {} +
