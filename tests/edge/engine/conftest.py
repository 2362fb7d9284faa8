"""Two machines to build engines for, a bundle to build them of, and a store to keep them in."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from gpu_double import FakePycuda, FakeTensorRt, load_fake_cuda
from lohi_edge import bundle as bundles
from lohi_edge.engine import manage
from lohi_edge.runtime.cuda import Gpu
from lohi_edge.store import Store

GPU = Gpu("Orin", "8.7", "12.6", 8 << 30, True)


@pytest.fixture
def bundle(make_bundle):
    return bundles.load(make_bundle())


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    return Store()


@pytest.fixture
def rtx():
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    return manage.Target(trt, GPU, "SM86")


@pytest.fixture
def target():
    trt = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")
    return manage.Target(trt, GPU)


@pytest.fixture
def machine(monkeypatch):
    """This machine with a GPU, TensorRT and pycuda, as far as the project can tell."""
    library = load_fake_cuda()
    library.fake_devices(1, 0)
    trt, cuda = FakeTensorRt(library), FakePycuda(library)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=cuda))
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    yield library
    library.fake_devices(0, 0)
