from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from conftest import build_small_net, write_bundle
from lohi_edge.cli import app
from lohi_edge.compare import compare
from lohi_edge.errors import BundleError


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, precisions, slices):
    models, output = precisions
    granted = {"fp32": 1e-4, "fp16": 0.02, "int8.trt": 0.3, "int8.cpu": 0.3}
    truth = output + np.random.default_rng(1).normal(0, 0.1, output.shape).astype(np.float32)
    folder = tmp_path_factory.mktemp("compare") / "bundle"
    write_bundle(folder, models, granted, (slices[:6], output[:6], truth[:6]))
    return folder


@pytest.fixture(scope="module")
def report(bundle):
    return compare(bundle, 2, 1)


def test_everything_that_is_accepted_has_a_row_at_both_batch_sizes(report):
    rows = {(r["runtime"], r["precision"], r["batch"]) for r in report["rows"]}

    assert {("onnxruntime", p, b) for p in ("fp32", "fp16", "int8") for b in (1, 8)} <= rows
    assert len(rows) == len(report["rows"])
    for row in report["rows"]:
        assert 0 < row["ms_a_slice"]["best"] <= row["ms_a_slice"]["p50"]


def test_the_base_is_compared_with_itself(report):
    base = report["rows"][[r["runtime"] for r in report["rows"]].index("onnxruntime")]

    assert (base["precision"], base["batch"]) == ("fp32", 1)
    assert base["ratio"] == {"p50": 1.0, "cpu": 1.0}


def test_what_is_not_there_is_said(report):
    assert any(line.startswith("int8 on tensorrt: no CUDA") for line in report["missing"])
    assert report["peak_gflops"] > 0


def test_without_the_base_there_is_nothing_to_compare(make_bundle):
    with pytest.raises(BundleError, match="fp32 on onnxruntime not accepted"):
        compare(make_bundle(files={"fp32.onnx": build_small_net(seed=9)}), 1, 1)


def test_the_command_prints_a_table_and_json(bundle):
    arguments = ["bench", "--compare", "--bundle", str(bundle), "--runs", "1", "--threads", "1"]
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0
    assert "not compared: fp32 on tensorrt" in table.output

    parsed = CliRunner().invoke(app, [*arguments, "--json"])
    assert {row["runtime"] for row in json.loads(parsed.stdout)["rows"]} >= {"onnxruntime"}
