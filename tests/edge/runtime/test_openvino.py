"""OpenVINO: left aside where it is broken, refused where it cannot be right."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lohi_edge import bundle as bundles
from lohi_edge.errors import BundleError
from lohi_edge.runtime import choose
from lohi_edge.runtime.chooser import Request, cpu_candidates
from lohi_edge.store import Store
from shipped import BUNDLES


@pytest.fixture
def broken_openvino(monkeypatch, tmp_path):
    """Call it, and `import openvino` raises an error of a kind in place of the installed one."""
    pytest.importorskip("openvino")

    def shadow(kind):
        (tmp_path / "openvino").mkdir()
        (tmp_path / "openvino" / "__init__.py").write_text(f"raise {kind}('libopenvino.so')")
        for name in [n for n in sys.modules if n.split(".")[0] == "openvino"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)

    return shadow


@pytest.mark.parametrize("kind", ["ImportError", "OSError"])
def test_a_broken_openvino_is_said_and_not_used(
    bundle, broken_openvino, monkeypatch, kind, tmp_path
):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    broken_openvino(kind)

    choice = choose(bundle)

    assert choice.runtime.name == "onnxruntime"
    assert "OpenVINO cannot be loaded: libopenvino.so" in choice.fallback
    with pytest.raises(BundleError, match="cannot be loaded"):
        choose(bundle, runtime="openvino")


def test_an_openvino_that_broke_after_its_acceptance_is_not_used(
    bundle, broken_openvino, monkeypatch, tmp_path
):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    choose(bundle)  # both are accepted, and that is remembered
    store = Store()
    for candidate in cpu_candidates(bundle, Request(runtime="openvino")):
        record = store.accepted(candidate.key)
        store.keep(candidate.key, record | {"seconds_per_slice": 1e-9})  # surely the fastest
    broken_openvino("ImportError")

    choice = choose(bundle)

    assert choice.runtime.name == "onnxruntime"
    assert "OpenVINO cannot be loaded" in choice.fallback


def test_openvino_refuses_what_is_no_model(make_bundle):
    pytest.importorskip("openvino")
    bundle = bundles.load(make_bundle(files={"fp32.onnx": b"\x00 no model"}))

    with pytest.raises(BundleError, match="not an ONNX model"):
        choose(bundle, runtime="openvino", precision="fp32")


def test_openvino_refuses_another_slice_contract(make_bundle, small_net):
    pytest.importorskip("openvino")
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(small_net)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 48
    model.graph.output[0].type.tensor_type.shape.dim[3].dim_value = 48
    bundle = bundles.load(make_bundle(files={"fp32.onnx": model.SerializeToString()}))

    with pytest.raises(BundleError, match="after the batch axis"):
        choose(bundle, runtime="openvino", precision="fp32")


ENDED = """
import sys
import numpy as np
from lohi_edge.bundle import load
from lohi_edge.runtime import openvino

def stop(*_):
    raise {error}

bundle = load(sys.argv[1])
contract = bundle.manifest.slice_contract
runtime = openvino.OpenVinoRuntime(bundle, "fp32.onnx", threads=4)
stack = np.zeros((40, contract.channels, contract.height, contract.width), np.float32)
{where}
try:
    runtime.run(stack, progress)
except {caught}:
    sys.exit(130)
"""


@pytest.mark.parametrize(
    ("error", "where", "caught"),
    [
        pytest.param("KeyboardInterrupt", "progress = stop", "KeyboardInterrupt", id="Ctrl-C"),
        pytest.param(
            "OSError",
            "progress = stop",
            "OSError",
            id="progress that cannot be shown",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "OSError",
            "progress, openvino.check_answer = None, stop",
            "openvino.BundleError",
            id="an answer refused",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_ends_the_program_amid_the_slices_ends_it_with_its_own_code(error, where, caught):
    """Not with SIGABRT, as where a request ends while the interpreter does."""
    pytest.importorskip("openvino")
    source = ENDED.format(error=error, where=where, caught=caught)
    command = [sys.executable, "-c", source, str(BUNDLES[0])]
    ends = [subprocess.run(command, capture_output=True, text=True) for _ in range(3)]
    assert [(end.returncode, end.stderr) for end in ends] == [(130, "")] * 3
