"""The models that ship, as TensorRT-RTX takes them: the same `build` as on a device, no GPU."""

from __future__ import annotations

import pytest

from lohi_edge import bundle as bundles
from lohi_edge.engine.build import Profile, build
from shipped import BUNDLES, ENGINES, engine_files

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
pytest.importorskip("onnx")


@pytest.fixture(scope="module", params=BUNDLES, ids=lambda path: path.name)
def files(request):
    return engine_files(bundles.load(request.param))


@pytest.mark.parametrize("name", ENGINES)
def test_every_shipped_model_becomes_an_engine(files, name):
    plan = build(trt, files[name], Profile(1, 8, 8), 512, None, "SM86")

    assert plan.notes == ()
    # A plan holds the weights, in the precision of the file.
    assert len(plan.data) > 0.4 * len(files[name])
