# make install: .venv with noisyctl in it.  make repro: install, run the demonstration on digits, print its table.  make test: install, lint, test.
# make attack: kill, starve and damage every command, and count what came of it.
PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: install repro test lint browser attack clean

install: $(VENV)/.installed
	@echo "noisyctl is in .venv: source .venv/bin/activate"

repro: $(VENV)/.installed
	$(BIN)/dvc repro
	$(BIN)/noisyctl table
	@echo "done. table: data/digits/table.md   figures: data/digits/results/figures   labels to look at: data/digits/results/samples"
	@git diff --quiet -- dvc.lock || echo "dvc.lock has changed: another processor gives other bytes, and accuracies that differ, most by tenths of points; git checkout dvc.lock brings the committed one back"
	@echo "noisyctl is in .venv: source .venv/bin/activate"

test: $(VENV)/.installed-test lint browser
	$(BIN)/pytest -n 2

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the report is tested in a real Chromium; where none can be installed those tests are skipped, and say so
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
	  test "$$(id -u)" = 0 && command -v apt-get >/dev/null \
	  && timeout 600 sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium' \
	     >/dev/null 2>&1; } \
	|| echo "no Chromium here, and none could be installed: the tests of the report in a browser are skipped"

# at least 2,000 trials, in about an hour; its last counts are in docs/trust.md
attack: $(VENV)/.installed-test
	$(BIN)/python tests/attack.py --out attack.md

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing noisyctl and PyTorch into .venv (about 6 GB, some minutes)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[cpu]'
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[cpu,test]'
	touch $@

clean:
	rm -rf $(VENV) .noisyctl plans
	git clean -qfdX data
