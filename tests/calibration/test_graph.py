from __future__ import annotations

import importlib.util
import sys

import pytest

from lohi_calibration import graph
from lohi_calibration.latency import saved_ms
from lohi_edge.errors import BundleError


def test_macs_of_the_small_generator(small_net):
    # Weights times places, layer by layer; down and reduce work at half the size.
    full, half = 32 * 40, 16 * 20
    wanted = full * (9 * 8 + 2 * 9 * 64) + half * (9 * 96 + 96) + full * (9 * 128 + 9 * 8)
    assert graph.macs(graph.load(small_net)) == wanted


def test_a_model_saves_nothing_against_itself_and_much_against_a_longer_one(small_net):
    """Twelve stems in a row cost more CPU time than one, whatever the machine does."""
    import onnx

    model = onnx.load_from_string(small_net)
    longer = onnx.ModelProto()
    longer.CopyFrom(model)
    mix = next(n for n in longer.graph.node if n.name == "first")
    place = list(longer.graph.node).index(mix)
    for number in range(60):
        copy = onnx.NodeProto()
        copy.CopyFrom(mix)
        copy.name, copy.output[0] = f"more_{number}", f"more_{number}.y"
        copy.input[0] = "stem.r" if number == 0 else f"more_{number - 1}.y"
        longer.graph.node.insert(place + number, copy)
    mix = next(n for n in longer.graph.node if n.name == "first")
    mix.input[0] = "more_59.y"

    assert saved_ms(longer.SerializeToString(), small_net) > 0
    assert saved_ms(small_net, longer.SerializeToString()) < 0


@pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="no OpenVINO here")
def test_an_openvino_that_does_not_load_is_named(small_net, tmp_path, monkeypatch):
    (tmp_path / "openvino.py").write_text("raise OSError('libtbb.so.12: no such file')")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(BundleError, match=r"cannot be loaded: libtbb.*install it again"):
        saved_ms(small_net, small_net)
