"""Write a bundle of an untrained generator, FP32 and INT8, to time widths that nobody trained.

python export/make_random_bundle.py OUT --width 64 [--like edge/lohi_edge/bundles/t1w-edge]
"""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lohi_calibration import graph, qdq, ranges
from lohi_edge.bundle import GOLDEN, load, shipped
from lohi_export.bundle_folder import refuse_existing, write
from lohi_export.networks import build_generator
from lohi_export.onnx_export import export


def main(out: Path, like: Path, width: int, depth: int) -> None:
    refuse_existing(out)
    old = load(like)
    contract, slices = old.manifest.slice_contract, old.golden().input
    torch.manual_seed(0)
    generator = build_generator("lohiresgan", width, depth, contract.channels)
    torch.nn.init.normal_(generator.head.weight, std=0.01)  # it begins at zero
    fp32 = graph.load(export(generator.eval(), contract))
    found = ranges.collect(fp32, qdq.tensors(fp32), slices)
    reach = {name: histogram.reach("minmax") for name, histogram in found.items()}
    layers = qdq.quantizable(fp32)
    int8 = qdq.quantize(fp32, reach, frozenset([layers[0], layers[-1]]), unsigned=True)
    output = graph.run(fp32, slices)
    golden = io.BytesIO()
    np.savez_compressed(golden, input=slices, output=output, truth=old.golden().truth)
    files = {
        "fp32.onnx": fp32.SerializeToString(),
        "int8.cpu.onnx": int8.SerializeToString(),
        GOLDEN: golden.getvalue(),
    }
    manifest = replace(
        old.manifest,
        name=f"random-{width}",
        version="untrained",
        tolerance={"fp32": 1e-3, "int8.cpu": 2.0},
        metrics={},
        provenance={},
    )
    write(out, files, manifest)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", type=Path, default=shipped("T1w"))
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=3)
    options = parser.parse_args()
    main(options.out, options.like, options.width, options.depth)
