"""Volumes of brain regions by precision, with a measure that only counts voxels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lohi_edge.errors import BadInput
from lohi_export import verify
from lohi_export.dataset import SlicePair, encode
from lohi_export.region_drift import drift, measure


def test_drift_is_a_mean_over_heads_by_region():
    base = [{"a": 10.0, "b": 4.0, "dust": 0.01}, {"a": 20.0, "b": 4.0, "dust": 0.01}]
    found = [{"a": 11.0, "b": 4.0, "dust": 5.0}, {"a": 20.0, "b": 3.0, "dust": 5.0}]

    # a: 10 % and 0 %, b: 0 % and 25 %; dust is too small to have a percentage.
    assert drift(found, base) == {
        "mean_percent": 8.75,
        "worst_percent": 12.5,
        "worst_region": "b",
    }


def test_a_region_that_vanishes_has_drifted_by_all_of_itself():
    assert drift([{"a": 1.0}], [{"a": 1.0, "b": 2.0}])["worst_percent"] == 100


class Brighter:
    """A generator that adds a little."""

    def run(self, stack, progress=None):
        return stack[:, stack.shape[1] // 2, None] + np.float32(0.1)


def test_each_head_is_enhanced_whole_and_stands_upright():
    rng = np.random.default_rng(0)
    planes = rng.uniform(-1, 0.8, (7, 16, 24)).astype(np.float32)
    pair = SlicePair(None, encode(planes), encode(planes), (1, 6), "d")
    seen = []

    found = measure(Brighter(), [pair], 3, lambda volume: seen.append(volume) or {"a": 1.0})

    assert found == [{"a": 1.0}]
    (volume,) = seen
    assert volume.shape == (16, 24, 5)
    wanted = (planes[1:6].transpose(1, 2, 0) + 1.1) * 500
    np.testing.assert_allclose(volume.data, wanted, atol=0.05)


def test_an_image_that_is_no_head_fails_the_report_and_does_not_end_it(monkeypatch):
    pair = SlicePair(None, *(encode(np.zeros((4, 16, 24), np.float32)),) * 2, (1, 3), "d")
    record = {"seconds_per_slice": 0.1, "problems": [], "precision": "fp32", "runtime": "x"}
    monkeypatch.setattr(verify.acceptance, "examine", lambda *_: record)
    monkeypatch.setattr(verify, "_held_out", lambda *_: (20.0, 0.8))

    def refuse(volume):
        raise BadInput("expected a whole head")

    bundle = SimpleNamespace(manifest=SimpleNamespace(slice_contract=SimpleNamespace(channels=1)))
    row = verify._measured(bundle, Brighter(), "fp32.onnx", [pair], refuse)

    assert row["problems"] == ["region volumes: expected a whole head"]
    assert row["held_out_ssim"] == 0.8
    # Nothing is compared with what is not FP32.
    int8 = {"runtime": "x", "precision": "int8", "region_ml": [{"a": 1.0}]}
    assert verify._drift_gates([row, int8]) == []
    assert "region_drift" not in int8


@pytest.mark.parametrize(("volume", "failed"), [(10.1, False), (10.3, True), (np.nan, True)])
def test_a_precision_that_moves_regions_fails_the_report(volume, failed):
    rows = [
        {"runtime": "onnxruntime", "precision": "fp32", "region_ml": [{"a": 10.0}]},
        {"runtime": "openvino", "precision": "bf16"},
        {"runtime": "openvino", "precision": "int8", "region_ml": [{"a": volume}]},
    ]

    gates = verify._drift_gates(rows)

    assert bool(gates) == failed
    assert rows[0]["region_drift_percent"] == 0
    assert not failed or gates[0].startswith("int8 on openvino: region volumes drift by")
