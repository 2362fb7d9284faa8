"""The models that ship, as TensorRT-RTX takes them: the same `build` as on a device, no GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

import lohi_edge
from lohi_edge import bundle as bundles
from lohi_edge.engine.build import Profile, build

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
SHIPPED = sorted((Path(lohi_edge.__file__).parent / "bundles").iterdir())


@pytest.fixture(scope="module", params=SHIPPED, ids=lambda path: path.name)
def models(request):
    """ONNX bytes by file name: a bundle's own; what it does not carry is made from its FP32."""
    pytest.importorskip("onnx")
    from lohi_calibration import graph, half, qdq, ranges

    bundle = bundles.load(request.param)
    fp32 = graph.load(bundle.read_onnx("fp32.onnx"))
    found = ranges.collect(fp32, qdq.tensors(fp32), bundle.golden().input, threads=1)
    reach = {name: histogram.reach("minmax") for name, histogram in found.items()}
    made = {
        "fp32.onnx": lambda: fp32,
        "fp16.onnx": lambda: half.to_fp16(fp32),
        "int8.trt.onnx": lambda: half.to_fp16(qdq.quantize(fp32, reach)),
    }
    return {
        name: bundle.read_onnx(name)
        if name in bundle.manifest.files
        else make().SerializeToString()
        for name, make in made.items()
    }


@pytest.mark.parametrize("name", ["fp32.onnx", "fp16.onnx", "int8.trt.onnx"])
def test_every_shipped_model_becomes_an_engine(models, name):
    plan = build(trt, models[name], Profile(1, 8, 8), 512, None, "SM86")

    assert plan.notes == ()
    # A plan holds the weights, in the precision of the file.
    assert len(plan.data) > 0.4 * len(models[name])
