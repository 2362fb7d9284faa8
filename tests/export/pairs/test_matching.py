"""Whose partner is whose, from names and metadata; no voxel is read, so the images are empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lohi_edge.errors import BadInput, UsageError
from lohi_export.dataset import find_pairs, select
from lohi_export.pairs.matching import Survey, survey
from lohi_export.pairs.scans import Override, decide_field


def touch(root: Path, *names: str, tesla: float | None = None, **metadata: object) -> None:
    """Empty images in the folders that their names ask for; a sidecar where there is metadata."""
    if tesla is not None:
        metadata["MagneticFieldStrength"] = tesla
    for name in names:
        folders = [part for part in name.split("_")[:2] if part.startswith(("sub-", "ses-"))]
        path = root.joinpath(*folders, "anat", name + ".nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if metadata:
            path.with_name(name + ".json").write_text(json.dumps(metadata))


def paired(found: Survey) -> set[tuple[str, str]]:
    return {
        (p.low.name.removesuffix(".nii.gz"), p.high.name.removesuffix(".nii.gz"))
        for p in found.pairs
    }


def kinds(found: Survey) -> dict[str, str]:
    return {Path(f.where).name.removesuffix(".nii.gz"): f.kind for f in found.findings}


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("sub-01_ses-64mT_run-01_T1w", "sub-01_ses-3T_run-01_T1w"),
        ("sub-01_acq-64mT_T2w", "sub-01_acq-3T_T2w"),
        ("sub-01_ses-01_acq-hyperfine_FLAIR", "sub-01_ses-02_acq-3Tprisma_FLAIR"),
        ("sub-01_ses-ULF_T1w", "sub-01_ses-3T_acq-MPRAGE_T1w"),
    ],
)
def test_names_tell_the_field(tmp_path: Path, low: str, high: str) -> None:
    touch(tmp_path, low, high)
    found = survey(tmp_path)
    assert paired(found) == {(low, high)}
    assert not found.findings


def test_metadata_goes_before_names(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-3T_T1w", tesla=0.064)
    touch(tmp_path, "sub-01_ses-64mT_T1w", tesla=3)
    assert paired(survey(tmp_path)) == {("sub-01_ses-3T_T1w", "sub-01_ses-64mT_T1w")}


def test_metadata_is_inherited_from_the_folders_above(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-HFC_T1w", "sub-01_ses-GE_T1w", "sub-02_ses-HFC_T1w")
    touch(tmp_path, "sub-02_ses-GE_T1w", tesla=2.89)
    (tmp_path / "ses-HFC_T1w.json").write_text('{"MagneticFieldStrength": 0.064}')
    (tmp_path / "T1w.json").write_text('{"MagneticFieldStrength": 7}')
    (tmp_path / "sub-01" / "sub-01_ses-GE_T1w.json").write_text('{"MagneticFieldStrength": 3}')
    assert paired(survey(tmp_path)) == {
        ("sub-01_ses-HFC_T1w", "sub-01_ses-GE_T1w"),
        ("sub-02_ses-HFC_T1w", "sub-02_ses-GE_T1w"),
    }


def test_an_override_goes_before_all_and_leaves_the_others_out(tmp_path: Path) -> None:
    lows = ["sub-01_ses-HFC_acq-axi_T1w", "sub-01_ses-HFE_acq-axi_T1w"]
    touch(tmp_path, *lows, "sub-01_ses-HFC_acq-sag_T1w", tesla=0.064)
    touch(tmp_path, "sub-01_ses-GE_acq-MPRAGE_T1w", "sub-01_ses-GE_acq-fast_T1w")
    override = Override(low=("ses-HFC_acq-axi", "ses-HFE"), high=("ses-GE_acq-MPRAGE",))
    found = survey(tmp_path, override=override)
    assert paired(found) == {(low, "sub-01_ses-GE_acq-MPRAGE_T1w") for low in lows}
    assert kinds(found) == {
        "sub-01_ses-GE_acq-fast_T1w": "field",
        "sub-01_ses-HFC_acq-sag_T1w": "field",
    }
    with pytest.raises(UsageError, match="expected entities"):
        Override(low=("ses HFC",))


@pytest.mark.parametrize("tesla", [1.5, 7, 64, 30000, 0, "3T", None, True])
def test_other_fields_are_neither(tesla: object) -> None:
    field, rule = decide_field({"sub": "01"}, {"MagneticFieldStrength": tesla}, Override())
    assert field is None
    assert "neither" in rule


def test_runs_are_matched_by_number_and_a_lone_scan_serves_all(tmp_path: Path) -> None:
    for run in ("01", "02"):
        touch(tmp_path, f"sub-01_ses-64mT_run-{run}_T1w", f"sub-01_ses-3T_run-{run}_T1w")
        touch(tmp_path, f"sub-02_ses-64mT_run-{run}_T1w")
    touch(tmp_path, "sub-02_ses-3T_T1w")
    touch(tmp_path, "sub-03_ses-64mT_run-03_T1w", "sub-03_ses-3T_run-01_T1w")
    found = survey(tmp_path)
    assert paired(found) == {
        ("sub-01_ses-64mT_run-01_T1w", "sub-01_ses-3T_run-01_T1w"),
        ("sub-01_ses-64mT_run-02_T1w", "sub-01_ses-3T_run-02_T1w"),
        ("sub-02_ses-64mT_run-01_T1w", "sub-02_ses-3T_T1w"),
        ("sub-02_ses-64mT_run-02_T1w", "sub-02_ses-3T_T1w"),
    }
    assert set(kinds(found).values()) == {"partner"}
    assert not found.grave


def test_a_session_with_both_fields_is_matched_within_itself(tmp_path: Path) -> None:
    """A child's scans a year apart are no pair."""
    for session in ("01", "02"):
        touch(tmp_path, f"sub-01_ses-{session}_acq-64mT_T1w", f"sub-01_ses-{session}_acq-3T_T1w")
    touch(tmp_path, "sub-01_ses-03_acq-64mT_T1w")
    found = survey(tmp_path)
    assert paired(found) == {
        (f"sub-01_ses-{s}_acq-64mT_T1w", f"sub-01_ses-{s}_acq-3T_T1w") for s in ("01", "02")
    }
    assert kinds(found) == {"sub-01_ses-03_acq-64mT_T1w": "partner"}


def test_contrast_agent_and_contrast_keep_scans_apart(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-64mT_T1w", "sub-01_ses-3T_ce-gad_T1w", "sub-01_ses-3T_T2w")
    found = survey(tmp_path)
    assert not found.pairs
    assert set(kinds(found).values()) == {"partner"}


def test_partners_that_fit_alike_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-64mT_T1w", "sub-01_ses-3T_run-1_T1w", "sub-01_ses-3T_run-2_T1w")
    (finding,) = survey(tmp_path).grave
    assert finding.kind == "duplicate"
    assert "sub-01_ses-3T_run-1_T1w.nii.gz, sub-01_ses-3T_run-2_T1w.nii.gz" in finding.text


def test_a_registered_scan_belongs_to_its_reference(tmp_path: Path) -> None:
    for session in ("HFC", "HFE"):
        name = f"sub-01_ses-{session}_T1w"
        touch(tmp_path, name, tesla=0.064)
        reference = f"bids::sub-01/ses-{session}/anat/{name}.nii.gz"
        touch(tmp_path, f"sub-01_ses-GE_space-{session}_T1w", tesla=3, SpatialReference=reference)
    assert paired(survey(tmp_path)) == {
        ("sub-01_ses-HFC_T1w", "sub-01_ses-GE_space-HFC_T1w"),
        ("sub-01_ses-HFE_T1w", "sub-01_ses-GE_space-HFE_T1w"),
    }


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-64mT_T1w", "sub-01_ses-3T_T1w")
    anat = tmp_path / "sub-01/ses-3T/anat"
    (anat / "sub-01_ses-3T_T1w.nii").touch()
    (anat / "sub-02_ses-3T_T1w.nii.gz").touch()
    (anat / "head_T1w.nii.gz").touch()
    touch(tmp_path, "sub-03_ses-64mT_T1w")
    (tmp_path / "sub-03/ses-64mT/anat/sub-03_ses-64mT_T1w.json").write_text("{")
    (tmp_path / "sub-01_T1w.json").write_text("[]")
    with pytest.raises(BadInput) as refused:
        find_pairs(tmp_path, "T1w")
    lines = str(refused.value).splitlines()
    assert sum("expected a BIDS name" in line for line in lines) == 2
    assert sum("sub-03_ses-64mT_T1w.json is not JSON" in line for line in lines) == 1
    (tmp_path / "sub-01_T1w.json").write_text("{}")
    assert any("the same name as sub-01_ses-3T_T1w.nii" in str(f) for f in survey(tmp_path).grave)


def test_training_refuses_a_scan_whose_sidecar_says_another_contrast(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-64mT_T1w", SeriesDescription="T2w TSE axial")
    touch(tmp_path, "sub-01_ses-3T_T1w", "sub-02_ses-64mT_T1w", "sub-02_ses-3T_T1w")
    words = r"sub-01_ses-64mT_T1w.nii.gz: named T1w, but SeriesDescription .* says T2w; rename or"
    with pytest.raises(BadInput, match=words):
        find_pairs(tmp_path, "T1w")


def test_subjects_that_are_not_there_are_named_beside_those_that_are(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-64mT_T1w", "sub-01_ses-3T_T1w")
    words = "expected test subjects of 13, 14 .*, whose subjects with pairs are 01; .* --split"
    with pytest.raises(BadInput, match=words):
        select(find_pairs(tmp_path, "T1w"), ["13", "14"], "test")


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a folder"):
        survey(tmp_path / "nothing")


sessions = st.sampled_from(["", "_ses-64mT", "_ses-3T", "_ses-1", "_ses-2"])
acquisitions = st.sampled_from(["", "_acq-64mT", "_acq-3T", "_acq-a"])
runs = st.sampled_from(["", "_run-1", "_run-2"])
contrasts = st.sampled_from(["_T1w", "_T2w", "_FLAIR"])
names = st.builds(
    "sub-{}{}{}{}{}".format, st.integers(1, 2), sessions, acquisitions, runs, contrasts
)


@given(names=st.sets(names, max_size=14))
@example({"sub-2_acq-64mT_T1w", "sub-2_ses-64mT_acq-64mT_T1w", "sub-2_ses-3T_T1w"})
def test_no_scan_is_lost_and_no_pair_crosses_subjects_or_contrasts(
    tmp_path_factory: pytest.TempPathFactory, names: set[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    touch(root, *sorted(names))
    found = survey(root)
    for pair in found.pairs:
        assert pair.low.name.split("_")[0] == pair.high.name.split("_")[0] == f"sub-{pair.subject}"
        for path in (pair.low, pair.high):
            assert path.name.endswith(f"_{pair.contrast}.nii.gz")
    assert len({(p.name, p.contrast) for p in found.pairs}) == len(found.pairs)
    used = {path for p in found.pairs for path in (p.low, p.high)}
    told = {root / f.where for f in found.findings}
    text = " ".join(f.text for f in found.findings)
    for scan in found.scans:
        assert scan.path in used | told or scan.path.name in text


def test_a_further_scan_of_a_simulated_head_is_left_out(tmp_path: Path) -> None:
    low, high = "sub-01_ses-64mT_run-01_T1w", "sub-01_ses-3T_run-01_T1w"
    again = "sub-01_ses-64mT_acq-02_run-01_T1w"
    touch(tmp_path, low, tesla=0.064, Simulation={"Seed": 0})
    touch(tmp_path, high, tesla=3.0, Simulation={"Seed": 0})
    touch(tmp_path, again, tesla=0.064, Simulation={"Seed": 0, "Scan": 2})
    found = survey(tmp_path)
    assert paired(found) == {(low, high)}
    assert kinds(found) == {again: "grid"}
    assert not found.grave
