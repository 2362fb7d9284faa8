"""Real scans against simulated ones."""

from __future__ import annotations

import csv
import io

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage as ndi
from typer.testing import CliRunner

from helpers import head_phantom
from lohi_edge.errors import BadInput
from lohi_edge.volume import Volume
from lohi_export.cli import app
from lohi_export.pairs import realism


def scans(**values):
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def test_a_statistic_is_usual_rare_or_never_seen():
    made = scans(a=list(range(101)), b=[None] * 101)
    for value, verdict, below in ((50, "usual", 0.495), (2, "rare", 0.0198), (101, "never", 1)):
        (row,) = realism.compare(scans(a=[value], b=[1.0]), made)
        assert (row.statistic, row.verdict) == ("a", verdict)
        assert row.below == pytest.approx(below, abs=0.001)
        assert (row.low, row.median, row.high) == pytest.approx((5, 50, 95))
    # Of several real scans the median counts.
    (row,) = realism.compare(scans(a=[1000, 50, 60], b=[None] * 3), made)
    assert (row.real, row.verdict) == (60, "usual")


@pytest.fixture(scope="module")
def head():
    """A phantom of 2.8 x 2.8 x 9 mm voxels."""
    return head_phantom(seed=0).astype(np.float32)


def statistics(data):
    return realism.statistics(Volume(data, np.diag([2.8, 2.8, 9.0, 1.0])), "T1w")


def test_noise_and_its_correlation_show(head):
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1 * head.max(), head.shape).astype(np.float32)
    smooth = ndi.gaussian_filter(noise, (1, 1, 0)) * 3
    clean, rough, soft = (statistics(np.maximum(head + n, 0)) for n in (0, noise, smooth))
    assert rough["noise"] > 2 * clean["noise"]
    assert soft["grain_4mm"] > rough["grain_4mm"] + 0.1
    for found in (clean, rough, soft):
        assert [found[f"P{p:02d}"] for p in realism.PERCENTILES] == sorted(
            found[f"P{p:02d}"] for p in realism.PERCENTILES
        )


def test_brightness_is_that_which_the_network_sees(head):
    # Scaling and offset of a scan are taken off by the slice contract.
    one, other = statistics(head + 1), statistics(7 * head + 30)
    for name in ("P05", "P50", "P95"):
        assert one[name] == pytest.approx(other[name], abs=1e-3)


def test_the_command_writes_figures_and_a_picture(tmp_path):
    for number in range(3):
        anat = tmp_path / "pairs" / f"sub-{number:02d}" / "ses-64mT" / "anat"
        anat.mkdir(parents=True)
        image = nib.Nifti1Image(head_phantom(seed=number), np.diag([2.8, 2.8, 9.0, 1.0]))
        nib.save(image, anat / f"sub-{number:02d}_ses-64mT_run-01_T1w.nii.gz")
    command = ["realism", str(anat / "sub-02_ses-64mT_run-01_T1w.nii.gz")]
    out = tmp_path / "out"
    options = ["--data", str(tmp_path / "pairs"), "-o", str(out)]
    run = CliRunner().invoke(app, [*command, *options], catch_exceptions=False)
    assert "noise" in run.stdout
    rows = list(csv.DictReader(io.StringIO((out / "statistics.csv").read_text())))
    assert {"noise", "P50", "grain_2mm"} <= {r["statistic"] for r in rows}
    # The scan is among the simulated ones.
    assert {r["verdict"] for r in rows} <= {"usual", "rare"}
    assert (out / "realism.png").read_bytes().startswith(b"\x89PNG")
    run = CliRunner().invoke(app, [*command, *options, "--contrast", "FLAIR"])
    assert isinstance(run.exception, BadInput)
    assert "expected FLAIR scans" in str(run.exception)
