"""A whole study in small: its report and tables, what it keeps, what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lohi_edge.errors import UsageError
from lohi_export import session
from lohi_export.cli import app
from lohi_export.networks import GENERATORS
from lohi_export.study import bench
from lohi_export.study import config as configuration
from lohi_export.study import study as studies
from lohi_export.study.tables import METRICS

MakeStudy = Callable[..., Path]


def run(config: Path) -> str:
    """`lohi-export study` in this process; what it printed."""
    result = CliRunner().invoke(app, ["study", str(config), "--device", "cpu", "--threads", "1"])
    assert result.exit_code == 0, result.output
    return result.output


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(make_study: MakeStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    config = make_study(tmp_path_factory.mktemp("small"))
    run(config)
    return config.parent / "study"


def test_every_system_is_measured_in_every_region(finished: Path) -> None:
    rows = table(finished, "metrics")
    assert {row["scan"] for row in rows} == {"sub-04_run-01"}
    for system in ("raw", "lohiresgan", "lohiresgan-plain"):
        for region in ("whole", "head", "brain"):
            got = {r["metric"] for r in rows if (r["system"], r["region"]) == (system, region)}
            assert got == set(METRICS) - (set() if region == "whole" else {"piqe"})
    values = {(r["system"], r["region"], r["metric"]): float(r["value"]) for r in rows}
    assert values["raw", "whole", "ssim_2d"] > values["raw", "head", "ssim_2d"]
    assert [row["system"] for row in table(finished, "models")] == [
        "lohiresgan",
        "lohiresgan-plain",
    ]
    assert len(table(finished, "summary")) == len(rows)


def test_the_report_needs_nothing_from_elsewhere(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "SYNTHETIC - research use only" in page
    assert re.findall(r"(?:src|href)=['\"](?!data:)", page) == []
    assert not re.search(r"https?:", re.sub(r"data:[^'\"]*", "", page))
    assert "$" not in page
    assert "No test: 1 held-out heads" in page
    assert "Not measured: morphometry = false" in page
    record = json.loads(re.search(r"<pre>(.*?)</pre>", page, re.S)[1].replace("&quot;", '"'))
    (fold,) = record["folds"]
    assert fold["split"]["test"] == ["04"]
    assert set(fold["models"]) == {"lohiresgan", "lohiresgan-plain"}
    assert str(finished.parent) not in page


def test_a_second_run_computes_nothing_and_writes_the_same(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    monkeypatch.setattr(session, "train", None)
    monkeypatch.setattr(bench, "open_case", None)
    run(finished.parent / "study.toml")
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def loading(finished: Path, name: str, more: dict[str, object]) -> Path:
    """A study that loads the finished LoHiResGAN as one that began with other weights."""
    (folder,) = (finished / "runs").glob("lohiresgan-0-*")
    copy = finished.parent / f"{name}-run"
    shutil.copytree(folder, copy)
    record = json.loads((copy / "config.json").read_text())
    record["config"]["init"] = "a" * 64
    (copy / "config.json").write_text(json.dumps(record | more))
    config = finished.parent / f"{name}.toml"
    text = (finished.parent / "study.toml").read_text().replace('"study"', f'"{name}"')
    given = f'[model.lohiresgan]\nrun = "{copy.name}"\n'
    config.write_text(text.replace(', "lohiresgan-plain"', "") + given)
    return config


def test_a_run_whose_first_weights_knew_the_test_heads_is_refused(finished: Path) -> None:
    learned = [
        {"weights": "a" * 64, "data_set": "another", "subjects": ["04"]},
        {"weights": "b" * 64, "data_set": "", "subjects": ["01", "04"]},
    ]
    config = loading(finished, "knowing", {"init_learned": learned})
    with pytest.raises(UsageError, match=r"began with weights.*test subjects 04; was it another"):
        studies.Study(configuration.load(config), "cpu", 1).run()


def test_a_finished_run_is_loaded_instead_of_trained(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that began with weights of which nobody knows what they learned; the page says so."""
    config = loading(finished, "loaded", {})
    monkeypatch.setattr(session, "train", None)
    run(config)
    page = (finished.parent / "loaded" / "report.html").read_text()
    assert "lohiresgan began with weights aaaaaaaaaaaa; whether they knew these heads" in page
    weights = [
        [r["value"] for r in table(where, "metrics") if r["system"] == "lohiresgan"]
        for where in (finished, finished.parent / "loaded")
    ]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (("04", "03"), "lohiresgan.*learned from the study's test subjects 03"),
        (("04", "02"), "learned from the study's test subjects 02"),
    ],
)
def test_a_run_that_knows_the_test_heads_is_refused(
    finished: Path, split: tuple[str, str], words: str
) -> None:
    (folder,) = (finished / "runs").glob("lohiresgan-0-*")
    first, second = split
    text = (finished.parent / "study.toml").read_text().replace(', "lohiresgan-plain"', "")
    text = text.replace(first, "--").replace(second, first).replace("--", second)
    config = finished.parent / "leak.toml"
    given = folder.relative_to(finished.parent)
    config.write_text(text + f'[model.lohiresgan]\nrun = "{given}"\n')
    with pytest.raises(UsageError, match=words):
        studies.Study(configuration.load(config), "cpu", 1).run()


def test_another_models_run_is_refused(finished: Path) -> None:
    (folder,) = (finished / "runs").glob("lohiresgan-plain-0-*")
    config = finished.parent / "other.toml"
    text = (finished.parent / "study.toml").read_text()
    given = folder.relative_to(finished.parent)
    config.write_text(text + f'[model.lohiresgan]\nrun = "{given}"\n')
    with pytest.raises(UsageError, match=r"\[model.lohiresgan\], holds a lohiresgan-plain"):
        studies.Study(configuration.load(config), "cpu", 1).run()


def test_an_example_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    result = CliRunner().invoke(app, ["study", str(path), "--write-example"])
    assert result.exit_code == 0
    assert path.read_text() == configuration.example()
    again = CliRunner().invoke(app, ["study", str(path), "--write-example"])
    assert isinstance(again.exception, UsageError)


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
    run(config)
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
    scan.write_bytes(other.read_bytes())
    run(config)
    assert {p: p.stat().st_mtime_ns for p in trained} == trained
    after = table(tmp_path / "study", "metrics")
    assert [r["metric"] for r in after] == [r["metric"] for r in before]
    assert [r["value"] for r in after] != [r["value"] for r in before]
