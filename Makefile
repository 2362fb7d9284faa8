# `make demo` and `make test` set up all they need: Python >= 3.10 with pip and venv, make, git.

PYTHON ?= python3
# The CPU build. Where PyPI is the only index, plain torch would bring gigabytes of CUDA: on such a
# machine use TORCH="torch==2.13.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu".
TORCH ?= torch==2.13.0

DEVICE := .venv
STATION := .venv-export
# A file's tests stay together: they share what their module sets up. A test that ends its process
# is named and fails the run; with the process replaced, xdist waits for its remaining tests forever.
SPREAD := --dist=loadfile --max-worker-restart=0
FAST := -m "not slow" --numprocesses=auto --maxprocesses=4 $(SPREAD)
SLOW := -m slow --numprocesses=2 $(SPREAD)

.PHONY: demo test test-slow lint format docs clean

demo: $(DEVICE)/.installed
	$(DEVICE)/bin/lohi-edge demo -o demo-out

# Several processes share the cores: threads of torch or BLAS in each would wait for one another.
test test-slow: export OMP_NUM_THREADS = 1

# tests/edge run where torch is not installed, as on the device. Both environments at once: what
# takes longest is to unpack them.
test:
	$(MAKE) --no-print-directory --jobs=2 $(DEVICE)/.dev $(STATION)/.dev
	$(DEVICE)/bin/python -c "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
	$(DEVICE)/bin/python -m pytest tests/edge tests/deploy tests/docs $(FAST)
	$(STATION)/bin/python -m pytest tests/calibration tests/export $(FAST)

test-slow: $(DEVICE)/.dev $(STATION)/.dev
	$(STATION)/bin/python -m pytest tests/calibration tests/export $(SLOW) || test $$? -eq 5
	$(DEVICE)/bin/python -m pytest tests/edge tests/deploy tests/docs $(SLOW)

lint: $(STATION)/.dev
	$(STATION)/bin/ruff check .
	$(STATION)/bin/ruff format --check .
	$(STATION)/bin/mypy edge/lohi_edge calibration/lohi_calibration export/lohi_export
	$(STATION)/bin/lint-imports

format: $(STATION)/.dev
	$(STATION)/bin/ruff check --fix .
	$(STATION)/bin/ruff format .

# The reference of commands, generated from the code that parses them.
docs: $(STATION)/.dev
	for program in edge export; do \
		$(STATION)/bin/python -m typer lohi_$$program.cli utils docs --name lohi-$$program \
			--title lohi-$$program --output docs/reference/cli-$$program.md >/dev/null || exit; \
	done

$(DEVICE)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEVICE)
	$(DEVICE)/bin/pip install --quiet --no-compile --disable-pip-version-check --editable .
	touch $@

$(DEVICE)/.dev: $(DEVICE)/.installed
	$(DEVICE)/bin/pip install --quiet --no-compile --disable-pip-version-check --editable ".[dev]"
	touch $@

$(STATION)/.dev: pyproject.toml
	$(PYTHON) -m venv $(STATION)
	$(STATION)/bin/pip install --quiet --no-compile --disable-pip-version-check $(TORCH)
	$(STATION)/bin/pip install --quiet --no-compile --disable-pip-version-check --editable ".[export,dev]"
	touch $@

include deploy/wheelhouse.mk
include deploy/supply.mk
include deploy/pycuda.mk

clean:
	rm -rf $(DEVICE) $(STATION) demo-out
