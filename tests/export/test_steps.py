"""A run that was stopped is told from one that made all of its steps, wherever it is used."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from lohi_edge.bundle import load
from lohi_export import session
from lohi_export.record import read_record
from lohi_export.run import open_run

Invoke = Callable[..., Result]
CPU = ("--device", "cpu", "--threads", 1)


def test_figures_of_a_stopped_run_come_with_a_warning(
    invoke: Invoke, stopped: Path, trained: Path
) -> None:
    done = invoke("evaluate", stopped, *CPU)
    assert (done.exit_code, "made 4 of 10 steps" in done.stderr) == (0, True), done.output
    done = invoke("evaluate", trained, *CPU)
    assert (done.exit_code, "steps" in done.stderr) == (0, False), done.output


def test_a_bundle_of_a_stopped_run_says_so_wherever_it_goes(
    invoke: Invoke, stopped: Path, toy: Path, tmp_path: Path
) -> None:
    done = invoke("bundle", stopped, tmp_path / "bundle", *CPU)
    assert (done.exit_code, "made 4 of 10 steps" in done.stderr) == (0, True), done.output
    provenance = load(tmp_path / "bundle").manifest.provenance
    assert (provenance["training"]["steps"], provenance["steps_made"]) == (10, 4)
    done = invoke("verify", tmp_path / "bundle", "--out", tmp_path / "report")
    assert "made 4 of 10 steps" in done.stderr, done.output


@pytest.mark.parametrize("again", [False, True])
def test_a_run_that_begins_with_a_stopped_one_is_told(
    stopped: Path,
    toy: Path,
    toy_options: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    again: bool,
) -> None:
    for _ in range(1 + again):
        capsys.readouterr()
        session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None, stopped)
    assert ("made 4 of 10 steps" in capsys.readouterr().err) is not again


def test_the_steps_behind_first_weights_are_on_record_whatever_becomes_of_them(
    invoke: Invoke, stopped: Path, toy: Path, toy_options: dict[str, Any], tmp_path: Path
) -> None:
    """In the run and its bundle, where somebody asks why that model is no better."""
    source = tmp_path / "source"
    shutil.copytree(stopped, source)
    run = session.prepare(toy, tmp_path / "run", toy_options, 4, None, None, None, source)
    shutil.rmtree(source)
    assert session.train(run, "cpu", None) == 0
    done = invoke("bundle", run.folder, tmp_path / "bundle", *CPU)
    assert done.exit_code == 0, done.output
    found = load(tmp_path / "bundle").manifest.provenance
    assert found["init_steps"] == {"planned": 10, "made": 4}
    assert (found["training"]["steps"], found["steps_made"]) == (4, 4)


def test_where_first_weights_say_nothing_of_steps_nothing_is_recorded(
    stopped: Path, toy: Path, toy_options: dict[str, Any], tmp_path: Path
) -> None:
    loose = tmp_path / "loose.safetensors"
    shutil.copy(stopped / "weights.safetensors", loose)
    for name, init in (("plain", None), ("loose", loose)):
        run = session.prepare(toy, tmp_path / name, toy_options, 4, None, None, None, init)
        assert "init_steps" not in read_record(run.folder)


def test_a_run_without_its_checkpoint_does_not_know(
    invoke: Invoke, trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert open_run(tmp_path / "run").steps.made is None
    done = invoke("evaluate", tmp_path / "run", *CPU)
    assert "no checkpoint to say how many of its 10 steps" in done.stderr, done.output
    assert done.exit_code == 0
