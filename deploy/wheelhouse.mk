# `make wheelhouse TARGET=x86-64|jetpack6|jetpack7` gathers all that a device without a network needs
# into dist/wheelhouse-TARGET: wheels, hashed lock, install.sh with units and settings, SHA256SUMS.
# Run on any Linux machine with a network; nothing is built for the target but our own pure wheel.

TARGET ?= x86-64
# The interpreter of the target: JetPack 6 is Ubuntu 22.04, JetPack 7 is Ubuntu 24.04.
WHEELHOUSE_PYTHON_jetpack6 := 3.10
WHEELHOUSE_PYTHON_jetpack7 := 3.12
WHEELHOUSE_PYTHON_x86-64 := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
WHEELHOUSE_MACHINE_jetpack6 := aarch64
WHEELHOUSE_MACHINE_jetpack7 := aarch64
WHEELHOUSE_MACHINE_x86-64 := x86_64
WHEELHOUSE_GLIBC_jetpack6 := 35
WHEELHOUSE_GLIBC_jetpack7 := 39
WHEELHOUSE_GLIBC_x86-64 := 28

WHEELHOUSE_PYTHON ?= $(WHEELHOUSE_PYTHON_$(TARGET))
# Wheels of one's own, such as pycuda built on a Jetson of the same JetPack (docs/how-to/install.md).
EXTRA_WHEELS ?=

.PHONY: wheelhouse
wheelhouse: .venv-wheelhouse/.installed
	@test -n "$(WHEELHOUSE_MACHINE_$(TARGET))" || \
		{ echo "TARGET: expected x86-64, jetpack6 or jetpack7, got $(TARGET)" >&2; exit 2; }
	PATH="$(CURDIR)/.venv-wheelhouse/bin:$$PATH" deploy/wheelhouse.sh "dist/wheelhouse-$(TARGET)" \
		"$(TARGET)" "$(WHEELHOUSE_MACHINE_$(TARGET))" "$(WHEELHOUSE_PYTHON)" \
		"$(WHEELHOUSE_GLIBC_$(TARGET))" $(EXTRA_WHEELS)

# uv resolves for another machine's markers, which pip does not; pip downloads what it locked.
.venv-wheelhouse/.installed:
	$(PYTHON) -m venv .venv-wheelhouse
	.venv-wheelhouse/bin/pip install --quiet --no-compile --disable-pip-version-check \
		'uv>=0.9' 'pip>=24' 'cyclonedx-bom>=7' 'pip-audit>=2.9'
	touch $@
