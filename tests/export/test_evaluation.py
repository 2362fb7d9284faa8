"""Figures of a run on the parts of its split."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lohi_calibration.accuracy import MOST_DB
from lohi_edge.errors import BadInput
from lohi_edge.slices import SliceContract
from lohi_export import session
from lohi_export.dataset import find_pairs, load_slices
from lohi_export.evaluation import evaluate
from lohi_export.run import open_run


def test_evaluation_measures_every_test_subject(trained: Path) -> None:
    result = session.evaluate(open_run(trained), "test", "cpu")
    assert list(result["subjects"]) == ["04"]
    figures = result["mean"]
    assert figures == result["subjects"]["04"] | {}
    assert figures["slices"]["psnr"] > 0
    assert json.loads((trained / "evaluation.json").read_text())["test"] == result
    (trained / "evaluation.json").unlink()
    assert "04" in session.table(result)


def test_subjects_that_have_left_the_data_set_are_named(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(trained)
    split = {**run.config.split, "test": ["04", "98"]}
    session.evaluate(replace(run, config=replace(run.config, split=split)), "test", "cpu")
    assert "test subjects without a pair in the data set: 98" in capsys.readouterr().err
    (trained / "evaluation.json").unlink()


@pytest.mark.parametrize(
    ("text", "why"),
    [('{"test": {"psnr": NaN}}', "NaN among"), ("[]", "not a JSON object"), ('{"te', "Untermin")],
)
def test_old_figures_that_cannot_be_kept_are_named_before_work_begins(
    trained: Path, tmp_path: Path, text: str, why: str
) -> None:
    run = replace(open_run(trained), folder=tmp_path)
    old = tmp_path / "evaluation.json"
    old.write_text(text)
    with pytest.raises(BadInput, match=rf"evaluation.json: .*\({why}.*remove it"):
        session.evaluate(run, "validation", "cpu")
    assert old.read_text() == text


def test_slices_equal_to_the_truth_have_figures_that_json_can_hold(
    toy: Path, tmp_path: Path
) -> None:
    pair = find_pairs(toy, "T1w")[0]
    same = load_slices(replace(pair, low=pair.high), SliceContract(64, 72, 1), tmp_path)
    result = evaluate(torch.nn.Identity(), [same], 1, torch.device("cpu"))
    assert result["mean"]["slab"]["psnr"] == MOST_DB
    json.dumps(result, allow_nan=False)


def test_a_generator_that_answers_with_no_numbers_is_not_measured(trained: Path) -> None:
    run = open_run(trained)
    broken = run.generator()
    with torch.no_grad():
        next(broken.parameters())[:] = math.nan
    with pytest.raises(BadInput, match=r"finite numbers from the generator.*train it again"):
        evaluate(broken, run.slices("test"), run.config.channels, torch.device("cpu"))
