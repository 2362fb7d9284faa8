"""Heads of one scanner: the same coil, grid and protocol, whoever lies in it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from lohi_edge.errors import UsageError
from lohi_export.pairs import acquisition, simulate
from lohi_export.pairs.command import simulate as command
from lohi_export.pairs.ranges import LOADING, of_scanner, ranges_for

pytestmark = pytest.mark.usefixtures("small_field_of_view")


def invoke(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def drawn(out, head, end="run-01"):
    folder = out / f"sub-{head:02d}" / "ses-64mT" / "anat"
    path = folder / f"sub-{head:02d}_ses-64mT_{end}_T1w.json"
    return json.loads(path.read_text())["Simulation"]["Drawn"]


def test_a_scanner_keeps_its_protocol_and_its_noise_and_not_its_patients(label_folder, tmp_path):
    options = ("--labels", label_folder, "--heads", "1,2", "--draws", 1)
    for number in (1, 2):
        out = tmp_path / str(number)
        assert "2 written" in invoke(*options, "--out", out, "--scanner", number).output
    one, two, other = drawn(tmp_path / "1", 1), drawn(tmp_path / "1", 2), drawn(tmp_path / "2", 1)
    for name in ("zoom_in_plane", "low_ti", "low_channels", "coil_radius", "clip"):
        assert one[name] == two[name] != other[name]
    for name in ("warp", "motion", "tilt", "fat"):
        assert one[name] != two[name]
    middle = np.mean(of_scanner(ranges_for("T1w"), 1).low_snr)
    for found in (one, two):
        assert abs(found["low_snr"] / middle - 1) <= LOADING
    assert "0 written, 2 kept" in invoke(*options, "--out", tmp_path / "1", "--scanner", 1).output


def test_what_one_scanner_scanned_no_other_replaces(label_folder, tmp_path):
    options = ("--labels", label_folder, "--out", tmp_path, "--heads", "1", "--draws", 1)
    invoke(*options, "--scanner", 3)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match=r"expected scanner 4 in .*, got scanner 3 of sub-01"):
        invoke(*options, "--scanner", 4)
    with pytest.raises(
        UsageError, match=r"expected a scanner of its own for every scan .*, got scanner 3"
    ):
        invoke(*options)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    with pytest.raises(UsageError, match="got scanner 3 of sub-01"):  # not beside it either
        invoke(*options[:-3], "2", "--draws", 1)
    with pytest.raises(UsageError, match="--scanner with --labels only"):
        invoke("--from", "volumes", "--volumes", tmp_path, "--out", tmp_path, "--scanner", 1)


def test_one_coil_shades_every_head_alike(labels, monkeypatch):
    fields = []
    shade = acquisition.coil_shading

    def seen(*given):
        fields.append(shade(*given))
        return fields[-1]

    monkeypatch.setattr(acquisition, "coil_shading", seen)
    for seed, scanner in ((0, 5), (1, 5), (0, 6), (0, None), (1, None)):
        ranges = of_scanner(ranges_for("T1w"), 5)
        simulate.simulate_pair(labels, np.eye(4), seed, ranges, scanner=scanner)
    first, again, other, own, own_of_another = fields
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(own, own_of_another)
