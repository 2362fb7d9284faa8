"""What a run says it learned from: it goes on with nothing else, and hands it on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from lohi_edge.errors import BadInput, UsageError
from lohi_export import session
from lohi_export.bundling import provenance, write_bundle
from lohi_export.record import Origin, began_with, origins, read_record
from lohi_export.run import Run, open_run


@pytest.fixture
def own(toy: Path, tmp_path: Path) -> Path:
    """A copy of the toy data set that a test may change."""
    shutil.copytree(toy, tmp_path / "pairs", ignore=shutil.ignore_patterns(".slices"))
    return tmp_path / "pairs"


def prepare(data: Path, out: Path, options: dict[str, Any], init: Path | None = None) -> Run:
    session.set_up_cpu(1)
    return session.prepare(data, out, options, 4, None, None, None, init)


def scan(data: Path, subject: str, field: str = "64mT") -> Path:
    (path,) = (data / f"sub-{subject}" / f"ses-{field}" / "anat").glob("*_T1w.nii.gz")
    return path


def put_like(path: Path, other: Path) -> None:
    """A scan like another's, of other bytes: two subjects may not share one."""
    image = nib.load(other)
    data = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(data + np.ones_like(data), image.affine), path)


def test_other_scans_do_not_resume_a_run(
    own: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    split = {"train": ["01", "02"], "validation": ["03"], "test": ["04"]}
    assert toy_options["split"] == split
    out = tmp_path / "run"
    prepare(own, out, toy_options)
    record = (out / "config.json").read_bytes()
    put_like(scan(own, "04"), scan(own, "03"))  # learned from by nobody
    prepare(own, out, toy_options)

    put_like(scan(own, "01"), scan(own, "02"))
    for path in [*(own / "sub-02").rglob("*.nii.gz")]:
        path.rename(path.with_name(path.name.replace("run-01", "run-02")))
    with pytest.raises(
        UsageError,
        match=r"changed: sub-01_run-01; new: sub-02_run-02; gone: sub-02_run-01.*--init",
    ):
        prepare(own, out, toy_options)
    assert (out / "config.json").read_bytes() == record


def test_a_drawn_split_stays_when_somebody_joins_the_data_set(
    own: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    del toy_options["split"]
    drawn = prepare(own, tmp_path / "run", toy_options).config.split
    for path in (own / "sub-01").rglob("*.nii.gz"):
        there = Path(str(path).replace("sub-01", "sub-05"))
        there.parent.mkdir(parents=True, exist_ok=True)
        put_like(there, path)
    assert prepare(own, tmp_path / "run", toy_options).config.split == drawn


def test_a_data_set_may_move_and_the_run_is_told_by_going_on(
    own: Path, tmp_path: Path, toy_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out, there = tmp_path / "run", tmp_path / "elsewhere"
    prepare(own, out, toy_options)
    own.rename(there)
    with pytest.raises(BadInput, match=r"expected its data set in .*pairs, found nothing; where"):
        open_run(out).slices("test")
    prepare(there, out, toy_options)
    assert f"its data set lies in {there} now" in capsys.readouterr().err.replace("\n", "")
    assert open_run(out).slices("test")
    # A run that did not keep its scans cannot tell whether it is the same one.
    record = json.loads((out / "config.json").read_text())
    del record["scans"]
    (out / "config.json").write_text(json.dumps(record))
    there.rename(own)
    with pytest.raises(UsageError, match="holds a run with data"):
        prepare(own, out, toy_options)


def test_a_run_that_kept_no_scans_takes_those_it_finds(
    own: Path, tmp_path: Path, toy_options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    prepare(own, out, toy_options)
    assert "did not keep" not in capsys.readouterr().err
    record = json.loads((out / "config.json").read_text())
    scans = record.pop("scans")
    (out / "config.json").write_text(json.dumps(record))
    prepare(own, out, toy_options)
    assert "did not keep which scans it learned from" in capsys.readouterr().err
    assert read_record(out)["scans"] == scans
    put_like(scan(own, "01"), scan(own, "02"))
    with pytest.raises(UsageError, match="changed: sub-01_run-01"):
        prepare(own, out, toy_options)


@pytest.mark.parametrize(
    "scans",
    [
        None,
        [],
        {"train": {}},
        {"train": {}, "validation": []},
        {"train": {"a": 1}, "validation": {}},
    ],
)
def test_scans_that_no_run_wrote_are_named(trained: Path, tmp_path: Path, scans: Any) -> None:
    record = json.loads((trained / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(record | {"scans": scans}))
    with pytest.raises(BadInput, match=r'config.json: expected "scans" of the form'):
        read_record(tmp_path)


def test_provenance_tells_of_the_scans_that_were_learned_from(
    own: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    run = prepare(own, tmp_path / "run", toy_options)
    session.train(run, "cpu", None)
    before = provenance(run)
    put_like(scan(own, "01"), scan(own, "02"))
    assert provenance(run) == before


def test_what_first_weights_learned_is_handed_on(
    own: Path,
    trained: Path,
    tmp_path: Path,
    toy_options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From a run, from its bundle, and from loose weights, of which nothing is known."""
    (own / "dataset_description.json").write_text('{"Name": "own"}')
    first = prepare(own, tmp_path / "first", toy_options, trained)
    assert session.train(first, "cpu", None) == 0
    toys = Origin(first.config.init, "", ("01", "02", "03"))
    assert began_with(read_record(first.folder), first.config.to_dict()) == [toys]

    bundle, loose = tmp_path / "bundle", tmp_path / "loose.safetensors"
    write_bundle(first, bundle, {}, None, "1", 1)
    shutil.copy(first.weights, loose)
    owns = ("own", ("01", "02", "03"))
    found = origins(bundle, "b")
    assert found == [Origin("b", *owns), toys]
    assert origins(first.weights, "w") == [Origin("w", *owns), toys]
    assert origins(loose, "l") == [Origin("l", "", None)]

    turned = toy_options | {"split": {"train": ["04", "02"], "validation": ["03"], "test": ["01"]}}
    prepare(own, tmp_path / "second", turned, bundle)
    said = " ".join(capsys.readouterr().err.split())
    assert "learned from 01 of this run's test subjects" in said
    assert said.count("of this run's test subjects") == 1  # 01 of the toys is another head


def test_an_older_run_does_not_know_what_its_first_weights_learned(trained: Path) -> None:
    record = read_record(trained)
    assert began_with(record, record["config"]) == []
    older = record["config"] | {"init": "a" * 64}
    assert began_with(record, older) == [Origin("a" * 64, "", None)]
    assert open_run(trained).config.init == ""


@pytest.mark.parametrize(
    "entry", [7, {}, {"subjects": "0102"}, {"subjects": [1, 2]}, {"data_set": [], "subjects": {}}]
)
def test_what_a_stranger_s_bundle_says_in_other_words_is_not_known(entry: Any) -> None:
    (found,) = began_with({"init_learned": [entry]}, {"init": "a" * 64})
    assert (found.subjects, found.data_set) == (None, "")
    assert began_with({"init_learned": entry}, {"init": "a" * 64}) == [Origin("a" * 64, "", None)]
