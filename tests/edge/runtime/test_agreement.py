"""What the CPU runtimes compute: the same numbers, slice by slice."""

from __future__ import annotations

import numpy as np
import pytest

from lohi_edge.runtime import choose


def test_all_cpu_runtimes_give_the_same_fp32_numbers(bundle, slices):
    pytest.importorskip("openvino")
    outputs = [
        choose(bundle, 1, name, "fp32").runtime.run(slices) for name in ("openvino", "onnxruntime")
    ]

    assert outputs[0].shape == slices.shape
    assert outputs[0].dtype == np.float32
    # FP32 rounding alone: 8 layers of sums of up to 144 products near 1.
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.005), ("int8", 0.1)])
def test_other_precisions_agree_between_runtimes(bundle, slices, precision, tolerance):
    pytest.importorskip("openvino")
    outputs = [
        choose(bundle, 1, name, precision).runtime.run(slices)
        for name in ("openvino", "onnxruntime")
    ]

    # One int8 step may fall on either side in a rare value, hence the mean.
    assert np.abs(outputs[0] - outputs[1]).mean() < tolerance / 10
    assert np.abs(outputs[0] - outputs[1]).max() < tolerance


@pytest.mark.parametrize("threads", [1, 3])
def test_slices_come_back_in_order_whatever_finishes_first(bundle, slices, threads):
    pytest.importorskip("openvino")
    runtime = choose(bundle, threads, "openvino", "fp32").runtime
    seen = []

    whole = runtime.run(slices, lambda done, total: seen.append((done, total)))

    one_by_one = np.concatenate([runtime.run(slices[n : n + 1]) for n in range(len(slices))])
    np.testing.assert_array_equal(whole, one_by_one)
    assert seen[-1] == (len(slices), len(slices))
    assert seen == sorted(seen)
