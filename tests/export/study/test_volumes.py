"""Volumes of regions and their agreement with the 3 T image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lohi_edge.volume import Volume
from lohi_export.study.bench import LABELS, RAW, TRUTH
from lohi_export.study.config import StudyConfig
from lohi_export.study.segmenting import Segmenting
from lohi_export.study.study import Outcome, Scan
from lohi_export.study.volume_section import volume_section
from lohi_export.study.volumes import (
    VENTRICLES,
    VENTRICULAR,
    agreements,
    by_scan,
    failures,
    overall,
    paired,
    volume_rows,
)


def scan(subject: str, number: int, factor: float, offset: float) -> Scan:
    """A subject whose raw image shows `factor` of every ventricle and `offset` ml more cortex."""
    size = float(subject)
    truth = dict.fromkeys(VENTRICULAR, size) | {"left cerebral cortex": 100 + size}
    raw = {k: v * factor for k, v in truth.items()} | {"left cerebral cortex": 100 + size + offset}
    results = {TRUTH: {"volumes": truth}, RAW: {"volumes": raw}}
    return Scan(subject, f"sub-{subject}_run-{number}", 0, results)


@pytest.fixture
def outcome() -> Outcome:
    return Outcome([], [scan(s, n, 0.5, 2.0 * n) for s in "234" for n in (0, 1)], None)


def test_runs_of_a_head_are_one_head(outcome: Outcome) -> None:
    scans = by_scan(volume_rows(outcome))
    truth, raw = paired(scans, RAW, "left cerebral cortex")
    assert truth == [102, 103, 104]
    assert raw == [103, 104, 105]  # the mean of + 0 and + 2 ml


def test_ventricles_are_summed_and_kept_out_of_the_mean(outcome: Outcome) -> None:
    rows = volume_rows(outcome)
    assert paired(by_scan(rows), TRUTH, VENTRICLES)[0] == [12, 18, 24]
    found = agreements(rows)
    assert {one.system for one in found} == {RAW}
    (raw,) = overall(found)
    assert raw.ventricles.mape == pytest.approx(50)
    assert raw.ventricles.bias == pytest.approx(-9)
    cortex = 100 * (1 / 102 + 1 / 103 + 1 / 104) / 3
    assert raw.mape == pytest.approx((6 * 50 + cortex) / 7)
    assert raw.worst in VENTRICULAR


def test_a_region_that_is_missing_somewhere_has_no_percentage(outcome: Outcome) -> None:
    outcome.scans[0].results[TRUTH]["volumes"]["third ventricle"] = 0.0
    outcome.scans[1].results[TRUTH]["volumes"]["third ventricle"] = 0.0
    found = agreements(volume_rows(outcome))
    (third,) = [one.agreement for one in found if one.region == "third ventricle"]
    assert third.mape is None
    assert overall(found)[0].mape < 50


def test_regions_that_are_all_missing_somewhere_leave_no_mean_and_no_worst(
    outcome: Outcome,
) -> None:
    for scan in outcome.scans:
        for system in (TRUTH, RAW):
            scan.results[system]["volumes"] = dict.fromkeys(scan.results[system]["volumes"], 0.0)
    rows = volume_rows(outcome)
    (raw,) = overall(agreements(rows))
    assert (raw.mape, raw.worst, raw.icc) == (None, None, None)
    shown = volume_section(StudyConfig(Path(), Path(), ("unet",)), outcome, rows)
    assert "agreement with the 3 T image" in shown
    assert "None" not in shown


def test_an_image_that_was_not_measured_leaves_the_other_heads(outcome: Outcome) -> None:
    failed = {"volumes": None, "why": "no head"}
    for scan in outcome.scans[:2]:
        scan.results[RAW] = failed
    rows = volume_rows(outcome)
    assert paired(by_scan(rows), RAW, VENTRICLES) == ([18, 24], [9, 12])
    assert {one.agreement.n for one in agreements(rows)} == {2}
    assert failures(outcome) == [(s.name, RAW, "no head") for s in outcome.scans[:2]]


def test_a_scan_that_was_not_measured_is_left_out_on_both_sides() -> None:
    """The draws of a head differ in size: a mean over others is no reference."""
    scans = [scan(subject, n, 1.0, 0.0) for subject in "234" for n in (0, 1)]
    for one in scans[1::2]:  # each head's second scan is of half the size
        whole = one.results[TRUTH]["volumes"]
        one.results[TRUTH]["volumes"] = {region: ml / 2 for region, ml in whole.items()}
        one.results[RAW] = {"volumes": None, "why": "no head"}
    (raw,) = overall(agreements(volume_rows(Outcome([], scans, None))))
    assert (raw.mape, raw.ventricles.bias) == (0, 0)
    assert raw.icc == pytest.approx(1)


def test_without_the_3t_image_there_is_nothing_to_agree_with(outcome: Outcome) -> None:
    for scan in outcome.scans:
        scan.results[TRUTH] = {"volumes": None, "why": "no head"}
    assert agreements(volume_rows(outcome)) == []


def test_truth_labels_show_the_segmenters_own_error(outcome: Outcome) -> None:
    for scan in outcome.scans:
        volumes = scan.results[TRUTH]["volumes"]
        scan.results[TRUTH]["labels"] = {k: 1.25 * v for k, v in volumes.items()}
    (labels,) = [one for one in overall(agreements(volume_rows(outcome))) if one.system == LABELS]
    assert labels.mape == labels.ventricles.mape == pytest.approx(25)


def test_an_image_without_a_head_has_no_brain_and_says_why() -> None:
    segmenting = Segmenting(1)
    nothing = Volume(np.zeros((64, 64, 64), np.float32), np.eye(4))
    assert segmenting.brain(nothing) is None
    found = segmenting.volumes(nothing)
    assert found["volumes"] is None
    assert "head" in found["why"]


def test_without_a_segmenter_there_are_no_rows() -> None:
    assert volume_rows(Outcome([], [Scan("1", "a", 0, {RAW: {}, TRUTH: {}})], None)) == []
