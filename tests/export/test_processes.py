"""Training in two processes under torchrun, over gloo on the CPU."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from lohi_export import session, train
from lohi_export.checkpoint import read_tensors
from lohi_export.run import Run
from lohi_export.stopping import Stop

pytestmark = pytest.mark.slow
STEPS = 6

# Trains, then compares the networks of both processes and who wrote what.
COMPARED = """
    import gc, json, sys
    from pathlib import Path
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from lohi_edge import files
    from lohi_export import checkpoint, config, curves, processes, run, session, train

    data, out, options, steps = sys.argv[1:]
    written = []
    def noted(path, write=files.atomic_write):
        written.append(path)
        return write(path)
    for module in (checkpoint, config, curves, run):
        module.atomic_write = noted
    def compare():
        with processes.first_alone():
            begun = session.prepare(
                Path(data), Path(out), json.loads(options), int(steps), None, None, None
            )
        trainer = train.Trainer(begun, torch.device("cpu"))
        with session.Stop() as stop:
            trainer.fit(stop, lambda step, row: None)
        for module in trainer.networks.modules.values():
            for weights in module.parameters():
                one, two = processes.gathered(weights.detach()[None])
                assert torch.equal(one, two), "the processes' weights differ"
        assert bool(written) == processes.is_first(), written

    def networks():
        return [one for one in gc.get_objects() if isinstance(one, DistributedDataParallel)]

    gc.disable()  # otherwise chance decides when reference cycles go
    session.set_up_cpu(1)
    with processes.joined(torch.device("cpu")):
        compare()
        assert networks(), "no reference cycle holds them: nothing is tested"
    assert not networks(), "they outlive the group, which may abort the process at its end"
"""


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)


def curves(folder: Path) -> list[dict[str, float]]:
    with (folder / "curves.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def start(toy: Path, out: Path, options: dict[str, Any]) -> Run:
    session.set_up_cpu(1)
    return session.prepare(toy, out, options, STEPS, None, None, None)


def test_two_processes_go_on_with_a_run_of_one_and_give_the_same_curve(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    # InstanceNorm alone, and one image pool for all processes: nothing depends on their number.
    options = {**toy_options, "model": "cyclegan", "batch": 2, "elastic": 1.0}
    whole, shared = (start(toy, tmp_path / name, options) for name in ("whole", "shared"))
    assert session.train(whole, "cpu", None) == 0
    trainer = train.Trainer(shared, torch.device("cpu"))
    with Stop() as stop:
        trainer.fit(stop, lambda step, row: setattr(stop, "_signal", 15 if step == 2 else None))
    (tmp_path / "options.json").write_text(json.dumps(options))
    done = torchrun(
        *("-m", "lohi_export", "train", "--config", str(tmp_path / "options.json")),
        *("--data", str(toy), "--out", str(shared.folder), "--steps", str(STEPS)),
        *("--device", "cpu", "--threads", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("resuming at step 2") == 1
    assert "FutureWarning" not in done.stderr
    assert [row["step"] for row in curves(shared.folder)] == [3, 6]
    # Adam turns the rounding of gradients that are nearly nil into steps, which moves figures of
    # an untrained generator a little.
    for row, wanted in zip(curves(shared.folder), curves(whole.folder), strict=True):
        for name, value in row.items():
            margin = {"psnr": 0.05, "ssim": 0.01}.get(name, 1e-3 * value)
            assert value == pytest.approx(wanted[name], abs=margin), name
    (ours, position), (wanted, _) = (read_tensors(r.checkpoint) for r in (shared, whole))
    assert json.loads(position["position"])["step"] == STEPS
    assert ours["module/pool/count"] == wanted["module/pool/count"] == 2 * STEPS
    torch.testing.assert_close(
        ours["module/pool/images"], wanted["module/pool/images"], rtol=0, atol=0.02
    )


def test_batch_normalised_processes_agree_and_only_the_first_writes(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    script = tmp_path / "compared.py"
    script.write_text(textwrap.dedent(COMPARED))
    out = tmp_path / "shared"
    done = torchrun(str(script), str(toy), str(out), json.dumps(toy_options), str(STEPS))
    assert done.returncode == 0, done.stderr
    # On CPUs each process normalises its own share, so the curve is near to that of one alone.
    whole = start(toy, tmp_path / "whole", toy_options)
    session.train(whole, "cpu", None)
    for row, wanted in zip(curves(out), curves(whole.folder), strict=True):
        assert row["loss_l1"] == pytest.approx(wanted["loss_l1"], rel=0.15)


def test_a_batch_that_cannot_be_shared_ends_both_processes(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    (tmp_path / "options.json").write_text(json.dumps({**toy_options, "batch": 3}))
    done = torchrun(
        *("-m", "lohi_export", "train", "--config", str(tmp_path / "options.json")),
        *("--data", str(toy), "--out", str(tmp_path / "run"), "--device", "cpu"),
    )
    assert done.returncode != 0
    assert "error: expected a batch that 2 processes can share, got 3" in done.stderr
