# `make pycuda-wheel`, on a Jetson: pycuda has no aarch64 wheel, so it is built once for a JetPack and
# joins the wheelhouse, with what it needs and no lock holds:
# make wheelhouse TARGET=jetpack6 EXTRA_WHEELS="$(echo wheels/*.whl)"
# NOT VERIFIED on a Jetson. Needs a network, JetPack's CUDA toolkit, python3-dev and g++.

CUDA ?= /usr/local/cuda

.PHONY: pycuda-wheel
pycuda-wheel:
	@test "$$(uname -m)" = aarch64 || \
		{ echo "error: expected a Jetson (aarch64), this is $$(uname -m)" >&2; exit 2; }
	@test -x $(CUDA)/bin/nvcc || \
		{ echo "error: expected nvcc in $(CUDA)/bin; install cuda-toolkit, or set CUDA=" >&2; exit 2; }
	version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') && \
		PATH=$(CUDA)/bin:$$PATH deploy/pycuda.sh $(PYTHON) \
		"$$(echo deploy/locks/jetpack*-py$$version.txt)" wheels
	@echo "copy wheels/ to the workstation; then make wheelhouse ... EXTRA_WHEELS=..."
