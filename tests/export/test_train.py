from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lohi_edge.errors import BadInput, DiskError, UsageError
from lohi_export import session, train
from lohi_export.alone import alone
from lohi_export.checkpoint import read_tensors, write_tensors
from lohi_export.networks import LoHiResGenerator
from lohi_export.stopping import Stop
from lohi_export.updates import emulates_half

STEPS = 10

# Runs in a process of its own and kills itself at the worst moments.
KILLED = """
    import json, os, signal, sys
    from pathlib import Path
    from lohi_export import session, train

    data, out, options, steps, moment = sys.argv[1:]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "between steps":
        advance = train.Trainer._advance
        train.Trainer._advance = lambda self: die() if self.step == 5 else advance(self)
    else:  # the new checkpoint is written but not yet in place
        replace = Path.replace
        def replace_or_die(self, target):
            return die() if "checkpoint" in str(target) else replace(self, target)
        Path.replace = replace_or_die
    session.set_up_cpu(1)
    run = session.prepare(Path(data), Path(out), json.loads(options), int(steps), None, None, None)
    session.train(run, "cpu", None)
"""


def start(toy: Path, out: Path, options: dict[str, Any], steps: int = STEPS) -> Any:
    session.set_up_cpu(1)
    return session.prepare(toy, out, options, steps, None, None, None)


def curves(folder: Path) -> list[dict[str, str]]:
    with (folder / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_what_it_should(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names - {"evaluation.json"} == {  # other tests evaluate this run
        "config.json",
        "checkpoint.safetensors",
        "weights.safetensors",
        "curves.csv",
        "curves.png",
    }
    rows = curves(trained)
    assert [row["step"] for row in rows] == ["3", "6", "9", "10"]
    assert len({row["psnr_raw"] for row in rows}) == 1
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_training_lowers_the_loss(trained: Path) -> None:
    losses = [float(row["loss_l1"]) for row in curves(trained)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_a_killed_cyclegan_goes_on_with_its_image_pools(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    options = {**toy_options, "model": "cyclegan"}
    whole = start(toy, tmp_path / "whole", options)
    assert session.train(whole, "cpu", None) == 0
    assert_survives_kills(toy, whole.folder, tmp_path / "killed", options)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    assert_survives_kills(toy, trained, tmp_path / "killed", toy_options)


def assert_survives_kills(toy: Path, trained: Path, out: Path, toy_options: dict[str, Any]) -> None:
    """A run that is killed twice ends as the run in `trained` did, to the byte."""
    script = textwrap.dedent(KILLED)
    for moment, reached in (("between steps", 3), ("while saving", 3)):
        arguments = [str(toy), str(out), json.dumps(toy_options), str(STEPS), moment]
        done = subprocess.run([sys.executable, "-c", script, *arguments], check=False)
        assert done.returncode == -signal.SIGKILL
        metadata = read_tensors(out / "checkpoint.safetensors")[1]
        assert json.loads(metadata["position"])["step"] == reached
    assert bool(list(out.glob(".checkpoint.*.tmp"))) == (moment == "while saving")
    assert session.train(start(toy, out, toy_options), "cpu", None) == 0

    assert not list(out.glob(".*")), "what a killed run was writing is removed"
    assert (out / "curves.csv").read_bytes() == (trained / "curves.csv").read_bytes()
    for name in ("checkpoint.safetensors", "weights.safetensors"):
        (tensors, position), (wanted, wanted_position) = (
            read_tensors(folder / name) for folder in (out, trained)
        )
        assert position == wanted_position
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[key], wanted[key]) for key in wanted)


def test_a_stopped_run_leaves_a_checkpoint_and_goes_on_the_same(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)

    def terminate(step: int, row: object) -> None:
        if step == 4:
            signal.raise_signal(signal.SIGTERM)

    with Stop() as stop:
        train.Trainer(run, torch.device("cpu")).fit(stop, terminate)
    assert stop.exit_code == 143
    assert train.Trainer(run, torch.device("cpu")).step == 4
    session.train(run, "cpu", None)
    assert curves(run.folder) == curves(trained)


def test_two_processes_do_not_train_in_one_folder(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    with alone(run.folder), pytest.raises(UsageError, match="another process works there"):
        session.train(run, "cpu", None)
    assert not run.checkpoint.exists()
    assert session.train(run, "cpu", None) == 0


@settings(deadline=None, max_examples=30)
@given(
    metadata=st.dictionaries(st.text(), st.text(), min_size=1, max_size=6),
    count=st.integers(min_value=0, max_value=5),
)
def test_equal_tensors_and_metadata_are_equal_files(
    metadata: dict[str, str], count: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("equal") / "weights.safetensors"
    tensors = {str(n): torch.arange(n, dtype=torch.float64) for n in range(count)}
    contents = set()
    for order in (metadata, dict(reversed(metadata.items()))):
        write_tensors(path, tensors, order)
        contents.add(path.read_bytes())
        found, said = read_tensors(path)
        assert said == metadata
        torch.testing.assert_close(found, tensors, rtol=0, atol=0)
    assert len(contents) == 1


def test_a_finished_run_says_that_it_is_finished(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "amp": True})
    for said in ("", f"all {run.config.steps} steps were made before"):
        capsys.readouterr()
        assert session.train(run, "cpu", None) == 0
        told = capsys.readouterr().err
        assert "resuming" not in told
        assert said in told
        assert ("--amp" in told) == (emulates_half(torch.device("cpu")) and not said)


def test_the_time_limit_stops_with_success(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options, 100_000)
    assert session.train(run, "cpu", 0.005) == 0
    assert 0 < train.Trainer(run, torch.device("cpu")).step < 100_000


def test_another_configuration_does_not_resume(
    toy: Path, trained: Path, toy_options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"steps 10, not 11; batch 2, not 4"):
        start(toy, trained, {**toy_options, "batch": 4}, 11)


def test_another_models_checkpoint_is_refused(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "width": 8})
    run.checkpoint.write_bytes((trained / "checkpoint.safetensors").read_bytes())
    with pytest.raises(
        BadInput, match=r"checkpoint.safetensors: holds the weights of another model"
    ):
        train.Trainer(run, torch.device("cpu"))


def test_a_damaged_checkpoint_is_refused(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    run.checkpoint.write_bytes((trained / "checkpoint.safetensors").read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"expected a safetensors file.*remove it to train from"):
        train.Trainer(run, torch.device("cpu"))
    run.checkpoint.unlink()
    assert train.Trainer(run, torch.device("cpu")).step == 0


def test_a_full_disk_spares_the_last_checkpoint(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    trainer = train.Trainer(run, torch.device("cpu"))

    def fill_disk(step: int, row: object) -> None:
        if step == 4:
            monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))

    with Stop() as stop, pytest.raises(DiskError, match="full"):
        trainer.fit(stop, fill_disk)
    monkeypatch.undo()
    assert train.Trainer(run, torch.device("cpu")).step == 3
    assert not list(run.folder.glob("*.tmp"))


def test_losses_that_are_not_finite_end_the_run(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "lr": 1e30})
    with pytest.raises(BadInput, match=r"not finite at step \d+.*lower --lr"):
        session.train(run, "cpu", None)


def test_without_an_adversary_no_discriminator_is_trained(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", {**toy_options, "adversarial": 0.0}, 3)
    session.train(run, "cpu", None)
    assert "loss_adversarial" not in curves(run.folder)[0]


def test_steps_follow_from_epochs(toy: Path, tmp_path: Path, toy_options: dict[str, Any]) -> None:
    run = session.prepare(toy, tmp_path, toy_options, None, 1.5, None, None)
    slices = sum(last - first for first, last in (s.head for s in run.slices("train")))
    assert run.config.steps == -(-3 * slices // 4)  # 1.5 epochs in batches of 2


def test_weights_are_no_checkpoint(
    toy: Path, trained: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = start(toy, tmp_path / "run", toy_options)
    run.checkpoint.write_bytes((trained / "weights.safetensors").read_bytes())
    with pytest.raises(BadInput, match="expected a checkpoint"):
        train.Trainer(run, torch.device("cpu"))


def test_the_average_trails_weights_and_statistics() -> None:
    live = LoHiResGenerator(4, 2)
    average = train.Averaged(live, decay=0.75)
    before = {key: tensor.clone() for key, tensor in live.state_dict().items()}
    with torch.no_grad():
        for tensor in live.state_dict().values():
            tensor.add_(1)
    average.update(live, step=10_000)
    for key, tensor in average.module.state_dict().items():
        step = 1.0 if key.endswith("num_batches_tracked") else 0.25
        torch.testing.assert_close(tensor, before[key] + step, check_dtype=False)
