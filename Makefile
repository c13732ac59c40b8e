# On a fresh machine with Python 3.11 and make:
#   make demo    the main job: headline numbers, figures, one report page in results/drift
#   make play    the same as a page with sliders, in the browser
#   make test    the test suite
#   make validate  every closed form and published number, in one table
#   make mutants   deliberate faults in the core, each of which a test must catch (some minutes)
#   make golden  keeps the headline numbers as they are now (CONTRIBUTING.md)
# make docs builds this project's site (docs/_build/html/index.html),
# and make incident replays the days of April 2025 (results/incident)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo play incident docs validate mutants golden test lint types bench clean

# What the commands need: a minute or so. Tests, the site and the linters need twice as much.
$(VENV)/ready: pyproject.toml constraints.txt
	@echo "installing into $(VENV), about a minute ..."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[play]'
	touch $@

$(VENV)/dev: $(VENV)/ready
	@echo "installing what tests and docs need, about a minute more ..."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/ready
	$(BIN)/python -m experiments.drift

incident: $(VENV)/ready
	$(BIN)/python -m experiments.incident

validate: $(VENV)/ready
	$(BIN)/python -m experiments.validate

mutants: $(VENV)/dev
	$(BIN)/python tests/run_mutants.py

golden: $(VENV)/dev
	PYTHONPATH=tests:. $(BIN)/python tests/make_golden.py

play: $(VENV)/ready
	$(BIN)/python -m marimo run experiments/play.py

test: $(VENV)/dev
	$(BIN)/python -m pytest -n 2

docs: $(VENV)/dev
	$(BIN)/python -m sphinx -j auto -E -W --keep-going -q -b html docs docs/_build/html

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

bench: $(VENV)/ready
	$(BIN)/python -m benchmarks.core

clean:
	rm -rf $(VENV) results outputs multirun docs/_build docs/generated
