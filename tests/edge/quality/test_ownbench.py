"""The bench of a device's own limits: whom it judges by whom, what it counts, a small run."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from helpers import head_phantom
from lohi_edge.cli import app
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.quality import ownbench
from lohi_edge.quality.faultbench import Row

SLOPES = dict.fromkeys(("shading_right", "shading_front", "shading_up"), 0.1)


def row(head, noise, fault="", strength=0):
    return Row(head, 1, 1, "T1w", "scan", fault, strength, {"noise": noise, **SLOPES})


def quiet(heads):
    """A scanner whose noise is 0.01, a tenth more or less."""
    return [row(head, 0.01 * (1 + 0.1 * (-1) ** head)) for head in range(1, heads + 1)]


def test_every_head_is_judged_by_the_others():
    faulty = [
        row(head, 0.036, fault, strength)
        for head in range(1, 22)
        for fault in ownbench.FAULTS
        for strength in (1, 2)
    ]
    judged = ownbench.judge([*quiet(20), row(21, 0.017), *faulty], "T1w")
    words = {(r.head, r.fault): (shipped, own) for r, shipped, own in judged}
    # Head 21 is far noisier than all others: had it judged itself, it would have passed.
    assert words[21, ""][0] == "pass" != words[21, ""][1]
    assert words[1, ""] == ("pass", "pass")
    assert {words[head, "noise"][0] for head in range(1, 22)} == {"pass"}
    found = {line["what"]: line for line in ownbench.summarise(judged)}
    caught = found["noise, middle: caught"]
    assert (caught["shipped"].value, caught["own"].value, caught["own"].count) == (0, 1, 21)
    assert found["clean: warned of or held"]["own"].value == 1 / 21
    assert "| T1w | noise, middle: caught | 21 | 0.00 (0.00-0.00) | 1.00 (1.00-1.00) |" in (
        ownbench.table(list(found.values()))
    )


def test_too_few_heads_are_refused():
    with pytest.raises(BadInput, match="at least 16 heads of T1w from each scanner, got 15"):
        ownbench.judge(quiet(15), "T1w")


def test_a_run_measures_once_and_prints_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(ownbench, "FAULTS", ("noise",))
    lines = [line for line in ownbench._TABLE if "shading" not in line[0]]
    monkeypatch.setattr(ownbench, "_TABLE", lines)
    # The limits that ship hold a phantom, and what they hold teaches nothing.
    monkeypatch.setattr(ownbench.verdict, "limits_for", lambda contrast, metrics: {"scan": {}})
    rng = np.random.default_rng(0)
    for head in range(1, 17):
        anat = tmp_path / "scanner" / f"sub-{head:02d}" / "ses-64mT" / "anat"
        anat.mkdir(parents=True)
        data = (head_phantom() * rng.normal(1, 0.02, head_phantom().shape)).astype(np.float32)
        image = nib.Nifti1Image(data, np.diag([4.0, 4.0, 8.0, 1.0]))
        nib.save(image, anat / f"sub-{head:02d}_ses-64mT_run-01_T1w.nii.gz")
    words = ["bench", "--scanner", str(tmp_path / "scanner"), "-o", str(tmp_path / "out")]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    assert run.stdout == (tmp_path / "out" / "own-limits.md").read_text()
    assert run.stdout.count("| T1w |") == len(lines)
    monkeypatch.setattr(ownbench, "_rows", None)  # nothing is measured again
    assert CliRunner().invoke(app, words).stdout == run.stdout


def test_one_bench_at_a_time(tmp_path):
    run = CliRunner().invoke(app, ["bench", "--scanner", str(tmp_path), "--compare"])
    assert isinstance(run.exception, UsageError)
