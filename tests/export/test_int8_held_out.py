"""INT8 as TensorRT computes it, emulated by onnxruntime, on a head that no model was fitted on."""

from __future__ import annotations

import numpy as np
import pytest

from lohi_calibration import graph
from lohi_edge import bundle as bundles
from lohi_edge import demo, nifti
from lohi_edge.quality.reference import psnr, ssim
from lohi_export.dataset import cut
from shipped import engine_files

SLICES = 10


@pytest.fixture(scope="module")
def scores():
    """(PSNR dB, SSIM) against the truth, means over slices of the demo's held-out head, by file."""
    bundle = bundles.load(bundles.shipped("T1w"))
    contract = bundle.manifest.slice_contract
    source, target, head = cut(nifti.read(demo.SCAN), nifti.read(demo.TRUTH), contract)
    reach = contract.channels // 2
    chosen = np.linspace(head[0] + reach, head[1] - 1 - reach, SLICES).astype(int)
    stack = np.stack([source[z - reach : z + reach + 1] for z in chosen])
    found = {}
    for name, model in engine_files(bundle).items():
        output = graph.run(model, stack, threads=1, literal=name == "int8.trt.onnx")[:, 0]
        pairs = list(zip(target[chosen], output, strict=True))
        found[name] = np.mean([(psnr(t, o), ssim(t, o)) for t, o in pairs], axis=0)
    return found


@pytest.mark.parametrize("name", ["fp16.onnx", "int8.trt.onnx"])
def test_no_precision_loses_more_than_the_goal_allows(scores, name):
    lost = scores["fp32.onnx"] - scores[name]

    assert lost[0] <= 0.3
    assert lost[1] <= 0.005
    assert scores["fp32.onnx"][0] > 20  # dB: an image, and not a failure of all alike
