# make repro: install, run the demonstration on digits, print its table.  make test: install, lint, test.
# make attack: kill, starve and damage every command, and count what came of it.
PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: repro test lint attack clean

repro: $(VENV)/.installed
	$(BIN)/dvc repro
	$(BIN)/noisyctl table
	@echo "table: data/digits/table.md   figures: data/digits/results/figures   labels to look at: data/digits/results/samples"

test: $(VENV)/.installed-test lint
	$(BIN)/pytest -n 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# at least 2,000 trials, in about an hour; its last counts are in docs/trust.md
attack: $(VENV)/.installed-test
	$(BIN)/python tests/attack.py --out attack.md

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[cpu,test]'
	touch $@

clean:
	rm -rf $(VENV) .noisyctl data/digits
