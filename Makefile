# Everything a fresh machine needs is python3 (3.11 or later), pip and make.
#
#   make demo     run the main job on real input, and have it add up
#   make test     run the whole suite
#   make check    format, lint, types, tests, tidiness
#   make sim      simulated worlds: SEEDS=1000 of them, or SEED=123 alone with its trace; FIRST=, PROFILE=, PLANT=
#   make bench    compare with the peers: QUICK=1 in two minutes; ONLY=huey,eventmq/full ROUNDS=3 SECONDS=1 (a step)
#   make bench-curves   what more of something costs the Router, as plots: QUICK=1 in a minute, all in half an hour
#   make bench-dashboard   its pages with 200,000 dead jobs and a million waiting, and what watching costs: QUICK=1
#   make bench-schedules   how late 10,000 schedules a minute run, and what they cost (two minutes)
#   make work     counted work of the hot paths beside what is recorded; RECORD=1 records it anew
#   make faults   kill -9 at every step, full and failing disks, damaged files (some minutes)
#   make soak     processes that stand still for a minute, a Router told to end 200 times (some minutes)
#   make fuzz     any bytes at codecs, store and settings, and N=1000000 broken messages at a real Router
#   make screenshots   the dashboard's pages, light and dark, into docs/screenshots
#   make load     a million waiting jobs, fifty managers on busy cores, one long job among 10,000 short ones
#   make vendor   fetch what the dashboard ships of others' again, and check it (needs npm)
#   make format   put the code in form
#   make clean    remove what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check lint format clean sim bench bench-curves bench-dashboard bench-schedules work faults soak fuzz load strace vendor

demo: $(INSTALLED)
	@$(BIN)/python -m eventmq demo

# Half of the time a test waits for a process; one tester more than cores keeps two of them busy.
TESTERS ?= 3

test: $(INSTALLED) strace chromium
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal

check: lint test

SEEDS ?= 1000
FIRST ?= 1

sim: $(INSTALLED)
	@PYTHONPATH=tests $(BIN)/python -m sim $(if $(SEED),--seed $(SEED) --plant "$(PLANT)",--seeds $(SEEDS) --first $(FIRST)) \
		--profile "$(PROFILE)"

bench-dashboard: $(INSTALLED)
	@$(BIN)/python bench/dashboard.py $(if $(QUICK),--quick)

bench-schedules: $(INSTALLED)
	@$(BIN)/python bench/schedules.py

bench: $(INSTALLED)
	@$(BIN)/python bench/compare.py $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') \
		$(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SECONDS),--seconds $(SECONDS))

bench-curves: $(INSTALLED)
	@$(BIN)/python bench/curves.py $(if $(QUICK),--quick,--out docs) $(if $(ONLY),--only '$(ONLY)')

work: $(INSTALLED)
	@$(BIN)/python bench/work.py $(if $(RECORD),--record)

vendor: $(INSTALLED)
	@$(BIN)/python tools/vendor.py

THOROUGH = $(BIN)/python -m pytest --thorough --timeout 7200 -s -rs

faults: $(INSTALLED) strace
	$(THOROUGH) -m faults

soak: $(INSTALLED)
	$(THOROUGH) -m soak

N ?= 1000000

fuzz: $(INSTALLED)
	$(THOROUGH) -m fuzz --messages $(N)

load: $(INSTALLED)
	$(THOROUGH) -m load
	@PYTHONPATH=tests $(BIN)/python -m sim.mixture

# The tests make faults between a process and its kernel with the one, and look at the dashboard with the other; without
# them they are skipped, which in CI is a failure. Elsewhere than on Linux, or under another name, Chromium is found, too.
strace chromium:
	@command -v $@ >/dev/null || [ "$$(uname)" != Linux ] || { \
		[ "$$(id -u)" = 0 ] && { apt-get install -qq -y $@ || { apt-get update -qq && apt-get install -qq -y $@; }; } >/dev/null; } || \
		echo "$@ is missing; as root: apt-get install $@" >&2

screenshots: $(INSTALLED) chromium
	@PYTHONPATH=tests $(BIN)/python -m browser.screenshots docs/screenshots

lint: $(INSTALLED)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

format: $(INSTALLED)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf $(VENV) .venv-bench build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Made again whenever what is to be installed changes. A system Python may come without the means to put pip into a
# new environment; its own pip does that then. pip reads dependency groups since 25.1.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "EventMQ needs Python 3.11 or later; say which: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
		$(PYTHON) -m venv --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check pip; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable '.[dashboard,metrics,otel]' --group dev
	@touch $(INSTALLED)
