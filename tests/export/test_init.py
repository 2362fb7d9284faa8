"""Runs that begin with the weights of others."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lohi_edge import bundle
from lohi_edge.errors import BadInput, UsageError
from lohi_export import session, train
from lohi_export.bundling import write_bundle
from lohi_export.checkpoint import read_tensors
from lohi_export.networks import LoHiResGenerator
from lohi_export.onnx_export import export, infer
from lohi_export.run import open_run


def test_a_run_begins_with_the_weights_of_another_and_says_so(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    source = tmp_path / "source.safetensors"
    source.write_bytes((trained / "weights.safetensors").read_bytes())
    session.set_up_cpu(1)

    def prepare(out: str) -> Any:
        return session.prepare(toy, tmp_path / out, toy_options, 4, None, None, None, source)

    run = prepare("run")
    assert run.config.init == hashlib.sha256(source.read_bytes()).hexdigest()
    weights = read_tensors(source)[0]
    for module in train.Trainer(run, torch.device("cpu"))._modules.values():
        if isinstance(module, LoHiResGenerator):
            assert all(torch.equal(t, weights[k]) for k, t in module.state_dict().items())
    source.unlink()  # the run has its own copy
    assert session.train(prepare("run"), "cpu", None) == 0
    assert train.Trainer(prepare("run"), torch.device("cpu")).step == 4
    with pytest.raises(UsageError, match=r"init '[0-9a-f]{64}', not ''"):
        session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None)


def test_a_bundle_that_ships_goes_by_its_name(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    session.set_up_cpu(1)
    window = {"height": 192, "width_px": 240}
    options = toy_options | window | {"width": 16, "depth": 3, "channels": 5}
    run = session.prepare(toy, tmp_path, options, 4, None, None, None, Path("t1w-edge"))
    shipped = (bundle.shipped("T1w") / "fp32.onnx").read_bytes()
    assert run.config.init == hashlib.sha256(shipped).hexdigest()


def test_a_run_begins_with_a_shipped_bundle_and_trains_on(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    made, loose = tmp_path / "bundle", tmp_path / "loose.onnx"
    write_bundle(open_run(trained), made, {}, None, "1", 1)
    loose.write_bytes((made / "fp32.onnx").read_bytes())
    digest = hashlib.sha256(loose.read_bytes()).hexdigest()
    session.set_up_cpu(1)
    for source in (made, loose):
        out = tmp_path / f"run-{source.name}"
        run = session.prepare(toy, out, toy_options, 4, None, None, None, source)
        assert run.config.init == digest
        generator = train.Trainer(run, torch.device("cpu")).networks.modules["generator"]
        stack = run.slices("test")[0].batch(np.arange(8, 12), run.config.channels)[0]
        wanted = infer(loose.read_bytes(), stack)
        same, live = (
            generator.train(mode)(torch.from_numpy(stack)).detach().numpy()
            for mode in (False, True)
        )
        assert np.abs(same - wanted).max() < 1e-3
        # In training a batch's own statistics take over: near, because real slices gave the others.
        assert np.abs(live - wanted).mean() < 0.1
        assert session.train(run, "cpu", None) == 0


def test_an_onnx_file_of_another_architecture_begins_no_run(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    loose = tmp_path / "loose.onnx"
    loose.write_bytes(export(open_run(trained).generator(), open_run(trained).config.contract))
    for options in ({"width": 8}, {"depth": 3}, {"model": "unet"}):
        asked = {**toy_options, **options}
        with pytest.raises(BadInput, match="expected weights of a generator with"):
            session.prepare(toy, tmp_path / "run", asked, 4, None, None, None, loose)
        assert not (tmp_path / "run").exists()
    loose.write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"cannot begin with these weights.*not an ONNX model"):
        session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None, loose)


def test_weights_of_another_architecture_begin_no_run(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    options = {**toy_options, "width": 8}
    with pytest.raises(BadInput, match=r"another model.*expected lohiresgan with width 8, depth 2"):
        session.prepare(toy, tmp_path / "run", options, 4, None, None, None, trained)
    assert not (tmp_path / "run").exists()


def test_a_run_that_knows_fewer_settings_goes_on(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None)
    record = json.loads((run.folder / "config.json").read_text())
    del record["config"]["init"], record["init_from"]
    (run.folder / "config.json").write_text(json.dumps(record))
    assert (
        session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None).config
        == run.config
    )
