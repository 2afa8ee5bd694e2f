# One command for each job. Everything goes through bootstrap.py, which is instant once all is installed.
ifdef FRESH
export ATTUNE_VENV := $(shell folder=$$(mktemp -d) && chmod 755 "$$folder" && echo "$$folder")/venv
endif
VENV := $(or $(ATTUNE_VENV),.venv)
PYTHON := $(VENV)/bin/python
PORT ?= 8000

.PHONY: help install run test test-slow check format bench bench-gpu screens demo-loop chaos clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

install: ## Install everything into .venv and static/vendor
	@python3 bootstrap.py

run: install ## Start everything, with the demo, and print sign-in links
	@$(PYTHON) -m app.cli up --port $(PORT)

test: install ## The quick tests
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n 2 --dist loadfile

test-slow: install ## The slow tests: whole runs, races, the loop
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m slow --timeout=1800

check: install ## Format, lint, types, import contracts, templates
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy
	@$(VENV)/bin/lint-imports --no-cache
	@$(PYTHON) -m djlint templates --lint --quiet

format: install ## Format and mend what can be mended
	@$(PYTHON) -m ruff check --fix . ; $(PYTHON) -m ruff format .

bench: install ## The benchmarks; figures in benchmarks/README.md
	@$(PYTHON) -m benchmarks

bench-gpu: install ## The learning library beside TRL on a GPU
	@$(PYTHON) -m benchmarks.learning --gpu

screens: install ## Take the pictures of docs/screens anew
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest tests/browser/screens.py -q

demo-loop: install ## Two rounds of the loop with simulated raters; ends with one JSON line
	@$(PYTHON) -m benchmarks.demo_loop

chaos: install ## The same with everything killed in turn
	@$(PYTHON) -m benchmarks.demo_loop --chaos

clean: ## Remove what was installed and made, but not the data folder
	@rm -rf .venv .node node_modules static/vendor .pytest_cache .mypy_cache .ruff_cache .hypothesis
