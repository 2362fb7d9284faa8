"""Whole studies that take longer: killed, of every model, cross-validated, given other data."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lohi_export import session
from lohi_export.networks import GENERATORS
from studies import run, table

MakeStudy = Callable[..., Path]


# Kills itself at the worst moments: in the midst of training the second model; when a result is
# written but not yet in place.
KILLED = """
    import os, signal, sys
    from pathlib import Path
    from lohi_export import train
    from lohi_export.cli import app

    config, moment = sys.argv[1:]

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment == "training":
        advance = train.Trainer._advance
        def advance_or_die(self):
            plain = self.config.model == "lohiresgan-plain"
            return die() if plain and self.step == 3 else advance(self)
        train.Trainer._advance = advance_or_die
    else:
        replace = Path.replace
        def replace_or_die(self, target):
            return die() if Path(target).name == "lohiresgan-0.json" and "scan" in str(target) \\
                else replace(self, target)
        Path.replace = replace_or_die
    app(["study", config, "--device", "cpu", "--threads", "1"])
"""


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(
    make_study: MakeStudy, finished: Path, tmp_path: Path
) -> None:
    config = make_study(tmp_path)
    stages = tmp_path / "study" / "stages"
    seen: dict[Path, int] = {}
    for moment, done in (("training", {"lohiresgan-0"}), ("measuring", {"3T-0", "raw-0"})):
        arguments = [sys.executable, "-c", textwrap.dedent(KILLED), str(config), moment]
        assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
        now = {path: path.stat().st_mtime_ns for path in stages.rglob("*.json")}
        assert done <= {path.stem for path in now}
        assert {path: now[path] for path in seen} == seen
        seen = now
    assert not (tmp_path / "study" / "report.html").exists()
    run(config)
    assert {path: path.stat().st_mtime_ns for path in seen} == seen
    for name in ("metrics", "summary"):
        whole, resumed = (folder / f"{name}.csv" for folder in (finished, tmp_path / "study"))
        assert resumed.read_bytes() == whole.read_bytes()
    left = [p for p in (tmp_path / "study").rglob(".*") if p.name.endswith(".tmp")]
    assert [p.parent.name for p in left] in ([], ["sub-04_run-01"])


@pytest.mark.slow
def test_every_model_of_the_registry_goes_through(make_study: MakeStudy, tmp_path: Path) -> None:
    config = make_study(tmp_path)
    named = json.dumps(list(GENERATORS))
    config.write_text(config.read_text().replace('["lohiresgan", "lohiresgan-plain"]', named))
    run(config)
    measured = {row["system"] for row in table(tmp_path / "study", "metrics")}
    assert measured == {"3T", "raw", *GENERATORS}


@pytest.mark.slow
def test_an_image_the_segmenter_does_not_understand_is_named(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The toy heads are no heads to it; the metrics, measured before, are kept."""
    before = (finished / "metrics.csv").read_bytes()
    config = finished.parent / "regions.toml"
    text = (finished.parent / "study.toml").read_text()
    config.write_text(text.replace("morphometry = false", "morphometry = true"))
    monkeypatch.setattr(session, "train", None)
    run(config)
    page = (finished / "report.html").read_text()
    assert "images the segmenter could not measure" in page
    assert "raw 64 mT" in page
    assert (finished / "metrics.csv").read_bytes() == before


@pytest.mark.slow
def test_cross_validation_holds_every_head_out_once(make_study: MakeStudy, tmp_path: Path) -> None:
    config = make_study(tmp_path, "folds = 2")
    said = run(config, "--jobs", "2")
    for number in ("01", "02", "03", "04"):
        assert said.count(f"measured sub-{number}_run-01, fold ") == 1
    rows = table(tmp_path / "study", "metrics")
    assert {row["subject"] for row in rows} == {"01", "02", "03", "04"}
    summary = table(tmp_path / "study", "summary")
    assert {row["n"] for row in summary} == {"4"}
    assert "2-fold cross-validation" in (tmp_path / "study" / "report.html").read_text()


@pytest.mark.slow
def test_new_data_are_measured_and_the_rest_is_kept(make_study: MakeStudy, tmp_path: Path) -> None:
    """A changed test scan is measured again; the models, which never saw it, are not trained."""
    config = make_study(tmp_path)
    run(config)
    before = table(tmp_path / "study", "metrics")
    trained = {p: p.stat().st_mtime_ns for p in (tmp_path / "study" / "runs").rglob("*.*")}
    (scan,) = (tmp_path / "pairs").glob("sub-04/ses-64mT/anat/*.nii.gz")
    (other,) = (tmp_path / "pairs").glob("sub-02/ses-64mT/anat/*.nii.gz")
    image = nib.load(other)
    data = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(data + np.ones_like(data), image.affine), scan)
    run(config)
    assert {p: p.stat().st_mtime_ns for p in trained} == trained
    after = table(tmp_path / "study", "metrics")
    assert [r["metric"] for r in after] == [r["metric"] for r in before]
    assert [r["value"] for r in after] != [r["value"] for r in before]
