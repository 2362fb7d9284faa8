# `make pycuda-wheel`, on a Jetson: pycuda has no aarch64 wheel, so it is built once for a JetPack and
# joins the wheelhouse: make wheelhouse TARGET=jetpack6 EXTRA_WHEELS="$(echo wheels/*.whl)"
# NOT VERIFIED on a Jetson. Needs JetPack's CUDA toolkit, python3-dev and g++.

CUDA ?= /usr/local/cuda

.PHONY: pycuda-wheel
pycuda-wheel:
	@test "$$(uname -m)" = aarch64 || \
		{ echo "error: expected a Jetson (aarch64), this is $$(uname -m)" >&2; exit 2; }
	@test -x $(CUDA)/bin/nvcc || \
		{ echo "error: expected nvcc in $(CUDA)/bin; install cuda-toolkit, or set CUDA=" >&2; exit 2; }
	PATH=$(CUDA)/bin:$$PATH $(PYTHON) -m pip wheel --no-deps pycuda pytools --wheel-dir wheels
	@echo "copy wheels/ to the workstation; then make wheelhouse ... EXTRA_WHEELS=..."
