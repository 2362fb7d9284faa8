"""The bundles inside the package, with every precision: their own files, or made from FP32."""

from __future__ import annotations

from pathlib import Path

import lohi_edge

BUNDLES = sorted((Path(lohi_edge.__file__).parent / "bundles").iterdir())
ENGINES = ("fp32.onnx", "fp16.onnx", "int8.trt.onnx")


def engine_files(bundle) -> dict[str, bytes]:
    """ONNX bytes that TensorRT builds from, by file name; needs onnx."""
    from lohi_calibration import graph, half, qdq, ranges

    files = {name: bundle.read_onnx(name) for name in ENGINES if name in bundle.manifest.files}
    if len(files) == len(ENGINES):
        return files
    fp32 = graph.load(files["fp32.onnx"])
    found = ranges.collect(fp32, qdq.tensors(fp32), bundle.golden().input, threads=1)
    reach = {name: histogram.reach("minmax") for name, histogram in found.items()}
    made = {"fp16.onnx": fp32, "int8.trt.onnx": qdq.quantize(fp32, reach)}
    return {n: half.to_fp16(m).SerializeToString() for n, m in made.items()} | files
