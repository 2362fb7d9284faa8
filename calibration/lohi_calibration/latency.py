"""How much time one form of a model saves against another, on one CPU thread."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from lohi_calibration.graph import Float32, session
from lohi_edge.errors import BundleError

ROUNDS = 7


def saved_ms(slower: bytes, faster: bytes) -> float:
    """CPU time of a slice of zeros that `faster` saves against `slower`, ONNX files both (ms).

    On OpenVINO where it is installed, else on onnxruntime, as the device chooses. CPU time, best of
    interleaved rounds: what else the machine does meanwhile hardly counts.

    Raises:
        BundleError: OpenVINO is installed but does not load.
    """
    runs = [_runner(model) for model in (slower, faster)]
    best = [math.inf, math.inf]
    for _ in range(ROUNDS):
        for index, run in enumerate(runs):
            begin = time.process_time()
            run()
            best[index] = min(best[index], 1e3 * (time.process_time() - begin))
    return best[0] - best[1]


def _runner(model: bytes) -> Callable[[], Any]:
    """A call that runs one slice; it ran once, so that nothing is allocated later."""
    parsed = onnx.load_from_string(model)
    shape = [d.dim_value or 1 for d in parsed.graph.input[0].type.tensor_type.shape.dim]
    one = np.zeros(shape, dtype=np.float32)
    run = _openvino(model, one) or _onnxruntime(model, one)
    run()
    return run


def _openvino(model: bytes, one: Float32) -> Callable[[], Any] | None:
    if not importlib.util.find_spec("openvino"):
        return None
    try:
        import openvino as ov
    except (ImportError, OSError) as error:  # installed, but a library of it is not there
        raise BundleError(f"OpenVINO cannot be loaded: {error}; install it again") from error
    core = ov.Core()
    network = core.read_model(model)
    network.reshape(list(one.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    return lambda: request.infer({0: one})


def _onnxruntime(model: bytes, one: Float32) -> Callable[[], Any]:
    running = session(model, 1, timed=True)
    name = running.get_inputs()[0].name
    return lambda: running.run(None, {name: one})
