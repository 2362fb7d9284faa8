"""A whole study in small: its report and tables, what it keeps, what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lohi_edge.errors import BadInput, UsageError
from lohi_export import session
from lohi_export.alone import alone
from lohi_export.cli import app
from lohi_export.study import bench, same
from lohi_export.study import config as configuration
from lohi_export.study import study as studies
from lohi_export.study.tables import METRICS
from studies import run, table

MakeStudy = Callable[..., Path]


def test_every_system_is_measured_in_every_region(finished: Path) -> None:
    rows = table(finished, "metrics")
    assert {row["scan"] for row in rows} == {"sub-04_run-01"}
    for system in ("raw", "lohiresgan", "lohiresgan-plain"):
        for region in ("whole", "head", "brain"):
            got = {r["metric"] for r in rows if (r["system"], r["region"]) == (system, region)}
            assert got == set(METRICS) - (set() if region == "whole" else {"piqe"})
    values = {(r["system"], r["region"], r["metric"]): float(r["value"]) for r in rows}
    assert values["raw", "whole", "ssim_2d"] > values["raw", "head", "ssim_2d"]
    models = table(finished, "models")
    assert [row["system"] for row in models] == ["lohiresgan", "lohiresgan-plain"]
    assert [(row["steps_planned"], row["steps_made"]) for row in models] == [("4", "4")] * 2
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
    assert [model["steps_made"] for model in fold["models"].values()] == [4, 4]
    assert str(finished.parent) not in page


def test_a_second_run_computes_nothing_and_writes_the_same(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    assert finished / "volumes.csv" not in before
    (finished / "volumes.csv").write_text("of a run that measured them\n")
    monkeypatch.setattr(session, "train", None)
    monkeypatch.setattr(bench, "open_case", None)
    run(finished.parent / "study.toml")
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_scans_measured_side_by_side_have_the_same_figures(
    make_study: MakeStudy, finished: Path, tmp_path: Path
) -> None:
    config = make_study(tmp_path)
    shutil.copytree(finished, tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "stages" / "scan")
    (tmp_path / "study" / "metrics.csv").unlink()
    assert "measured sub-04_run-01" in run(config, "--jobs", "2")
    for name in ("metrics.csv", "summary.csv"):
        assert (tmp_path / "study" / name).read_bytes() == (finished / name).read_bytes()


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


def test_a_run_that_was_stopped_is_refused(finished: Path, stopped: Path) -> None:
    text = (finished.parent / "study.toml").read_text().replace(', "lohiresgan-plain"', "")
    config = finished.parent / "stopped.toml"
    config.write_text(text + f'[model.lohiresgan]\nrun = "{stopped}"\n')
    with pytest.raises(UsageError, match=r"the run of \[model.lohiresgan\], made 4 of 10 steps"):
        studies.Study(configuration.load(config), "cpu", 1).run()


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


def test_heads_of_the_split_that_the_data_set_lacks_are_named(finished: Path) -> None:
    config = finished.parent / "more.toml"
    text = (finished.parent / "study.toml").read_text()
    # The one model is a loaded run: no training names them.
    config.write_text(
        text.replace('"study"', '"more"')
        .replace('["04"]', '["04", "99"]')
        .replace('"lohiresgan", "lohiresgan-plain"', '"unet"')
        + '[model.unet]\nrun = "nowhere"\n'
    )
    result = CliRunner().invoke(app, ["study", str(config), "--device", "cpu", "--threads", "1"])
    assert isinstance(result.exception, BadInput)  # of the run that is not there
    assert "test subjects without a pair in the data set: 99" in result.output


def test_another_models_run_is_refused(finished: Path) -> None:
    (folder,) = (finished / "runs").glob("lohiresgan-plain-0-*")
    config = finished.parent / "other.toml"
    text = (finished.parent / "study.toml").read_text()
    given = folder.relative_to(finished.parent)
    config.write_text(text + f'[model.lohiresgan]\nrun = "{given}"\n')
    with pytest.raises(UsageError, match=r"\[model.lohiresgan\], holds a lohiresgan-plain"):
        studies.Study(configuration.load(config), "cpu", 1).run()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("resamples = 100", "resamples = 100\nseed = 1", "seed is 1, there 0"),
        ('["04"]', '["05"]', 'split is .*"05".*there .*"04"'),
        ('"pairs"', '"others"', 'data is "../others", there "../pairs"'),
        ('"lohiresgan", ', "", "models lacks lohiresgan; name another out"),
    ],
)
def test_another_study_does_not_replace_the_report(
    finished: Path, old: str, new: str, words: str
) -> None:
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    config = finished.parent / "second.toml"
    config.write_text((finished.parent / "study.toml").read_text().replace(old, new))
    result = CliRunner().invoke(app, ["study", str(config), "--device", "cpu", "--threads", "1"])
    assert isinstance(result.exception, UsageError)
    assert re.search(words, str(result.exception))
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


def test_one_study_at_a_time_works_in_its_folder(finished: Path) -> None:
    config = str(finished.parent / "study.toml")
    with alone(finished):
        result = CliRunner().invoke(app, ["study", config, "--device", "cpu", "--threads", "1"])
    assert isinstance(result.exception, UsageError)
    assert "another process works there; wait until it has ended" in str(result.exception)


def test_heads_that_share_a_scan_are_refused(make_study: MakeStudy, tmp_path: Path) -> None:
    config = make_study(tmp_path)
    low = "sub-{0}/ses-64mT/anat/sub-{0}_ses-64mT_run-01_T1w.nii.gz"
    shutil.copy(tmp_path / "pairs" / low.format("01"), tmp_path / "pairs" / low.format("04"))
    with pytest.raises(BadInput, match=r"sub-04.* the same bytes as a scan of sub-01"):
        studies.Study(configuration.load(config), "cpu", 1)


def test_a_model_more_is_the_same_study(finished: Path) -> None:
    config = finished.parent / "more.toml"
    text = (finished.parent / "study.toml").read_text().replace("steps = 4", "steps = 2")
    config.write_text(text.replace('"lohiresgan-plain"]', '"lohiresgan-plain", "unet"]'))
    same.refuse_another(configuration.load(config))


def test_an_example_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    result = CliRunner().invoke(app, ["study", str(path), "--write-example"])
    assert result.exit_code == 0
    assert path.read_text() == configuration.example()
    again = CliRunner().invoke(app, ["study", str(path), "--write-example"])
    assert isinstance(again.exception, UsageError)
