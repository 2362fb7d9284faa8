"""Figures of one image against the 3 T image."""

from __future__ import annotations

import json
from pathlib import Path

from lohi_calibration.accuracy import MOST_DB
from lohi_edge.slices import SliceContract
from lohi_export.dataset import find_pairs, load_slices
from lohi_export.study import measure
from lohi_export.study.cases import open_case


def test_an_image_equal_to_the_truth_has_figures_that_json_can_hold(
    toy: Path, tmp_path: Path
) -> None:
    contract = SliceContract(64, 72, 1)
    case = open_case(load_slices(find_pairs(toy, "T1w")[0], contract, tmp_path), contract)
    found = measure.figures(case, case.truth, None)
    for figures in found["metrics"].values():
        assert (figures["psnr"], figures["ulf_enc_psnr"]) == (MOST_DB, MOST_DB)
        assert figures["nrmse"] == 0
    json.dumps(found, allow_nan=False)
