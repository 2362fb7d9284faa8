"""A small generator as ONNX bytes, with every operator of the real one, for tests of precision."""

from __future__ import annotations

import numpy as np
import pytest

SIZE = (32, 40)


def build_small_net(seed: int = 0, channels: int = 1) -> bytes:
    """(N, C, 32, 40) -> (N, 1, 32, 40): stem, residual block, one level down and up, tanh."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes, weights = [], []

    def conv(name, source, inputs, outputs, kernel=3, stride=1, relu=True):
        spread = np.sqrt(2 / (inputs * kernel**2))
        values = rng.normal(0, spread, (outputs, inputs, kernel, kernel)).astype(np.float32)
        bias = rng.normal(0, 0.05, outputs).astype(np.float32)
        weights.extend(
            [
                numpy_helper.from_array(values, f"{name}.w"),
                numpy_helper.from_array(bias, f"{name}.b"),
            ]
        )
        nodes.append(
            helper.make_node(
                "Conv",
                [source, f"{name}.w", f"{name}.b"],
                [f"{name}.y"],
                name,
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[kernel // 2] * 4,
            )
        )
        if relu:
            nodes.append(helper.make_node("Relu", [f"{name}.y"], [f"{name}.r"], f"{name}.relu"))
        return f"{name}.r" if relu else f"{name}.y"

    stem = conv("stem", "input", channels, 8)
    inner = conv("first", stem, 8, 8)
    inner = conv("second", inner, 8, 8, relu=False)
    nodes.append(helper.make_node("Add", [stem, inner], ["sum"], "add"))
    nodes.append(helper.make_node("Relu", ["sum"], ["skip"], "skip"))
    low = conv("down", "skip", 8, 12, stride=2)
    low = conv("reduce", low, 12, 8, kernel=1)
    weights.append(numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales"))
    nodes.append(
        helper.make_node(
            "Resize",
            [low, "", "scales"],
            ["up"],
            "resize",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
    )
    nodes.append(helper.make_node("Concat", ["up", "skip"], ["joined"], "concat", axis=1))
    mixed = conv("mix", "joined", 16, 8)
    last = conv("head", mixed, 8, 1, relu=False)
    nodes.append(helper.make_node("Tanh", [last], ["output"], "tanh"))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", planes, *SIZE])
        for name, planes in (("input", channels), ("output", 1))
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def smooth_slices(count: int, seed: int = 0) -> np.ndarray:
    """Blobs on air (count, 1, 32, 40) in [-1, 1], float32."""
    from scipy import ndimage as ndi

    rng = np.random.default_rng(seed)
    noise = ndi.gaussian_filter(rng.normal(size=(count, 1, *SIZE)), (0, 0, 2, 2))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = ((y - 16) / 13) ** 2 + ((x - 20) / 16) ** 2 < 1
    slices = np.where(inside, np.clip(0.2 + 3 * noise, -0.9, 1), -1)
    return slices.astype(np.float32)


@pytest.fixture(scope="session")
def small_net() -> bytes:
    return build_small_net()


@pytest.fixture(scope="session")
def slices() -> np.ndarray:
    return smooth_slices(24)


@pytest.fixture(scope="session", autouse=True)
def private_store(tmp_path_factory):
    """Engines, acceptance records and installed bundles of the tests are nobody's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOHI_EDGE_BUNDLES", str(tmp_path_factory.mktemp("bundles")))
        patch.setenv("LOHI_EDGE_CACHE", str(tmp_path_factory.mktemp("store")))
        yield


def write_bundle(folder, files, tolerance, golden) -> None:
    """A bundle directory: files (name -> bytes), golden (input, output, truth)."""
    import hashlib
    import io
    import json

    from lohi_edge.bundle import Manifest
    from lohi_edge.slices import SliceContract

    packed = io.BytesIO()
    np.savez(packed, **dict(zip(("input", "output", "truth"), golden, strict=True)))
    files = {**files, "golden.npz": packed.getvalue()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest = Manifest(
        name="small",
        version="1",
        serial=1,
        contrasts=("T1w",),
        slice_contract=SliceContract(*SIZE),
        files={name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        tolerance=tolerance,
        metrics={"quality": {"base": "none"}},  # phantoms are no heads: let them pass
    )
    (folder / "manifest.json").write_text(json.dumps(manifest.to_dict()))


@pytest.fixture(scope="session")
def precisions(small_net, slices):
    """The small generator in every precision, and what FP32 answers: (files, output)."""
    pytest.importorskip("onnx")
    from lohi_calibration import graph, half, qdq, ranges

    model = graph.load(small_net)
    found = ranges.collect(model, qdq.tensors(model), slices)
    reach = {name: histogram.reach("minmax") for name, histogram in found.items()}
    skip = frozenset(["stem", "head"])
    models = {
        "fp32.onnx": model,
        "fp16.onnx": half.to_fp16(model),
        "int8.trt.onnx": half.to_fp16(qdq.quantize(model, reach, skip)),
        "int8.cpu.onnx": qdq.quantize(model, reach, skip, unsigned=True),
    }
    return {n: m.SerializeToString() for n, m in models.items()}, graph.run(model, slices)


@pytest.fixture
def make_bundle(tmp_path, precisions, slices):
    """Write a bundle of the small generator; keywords replace files or tolerances."""

    def make(name="bundle", files=None, tolerance=None):
        models, output = precisions
        granted = {"fp32": 1e-4, "fp16": 0.02, "int8.trt": 0.3, "int8.cpu": 0.3}
        noise = np.random.default_rng(1).normal(0, 0.1, output.shape).astype(np.float32)
        write_bundle(
            tmp_path / name,
            {**models, **(files or {})},
            {**granted, **(tolerance or {})},
            (slices[:6], output[:6], (output + noise)[:6]),
        )
        return tmp_path / name

    return make
