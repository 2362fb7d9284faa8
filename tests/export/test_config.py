"""What a run may be asked for, and the files that say so."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lohi_edge.errors import BadInput, UsageError
from lohi_export import session, train
from lohi_export.config import TrainConfig
from lohi_export.dataset import describe
from lohi_export.json_files import write_json
from lohi_export.run import open_run


def test_an_unknown_key_is_met_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="'chanels'; did you mean 'channels'"):
        TrainConfig.from_dict({"chanels": 3})


def test_a_crop_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="crop 200 exceeds the 192 x 240 window"):
        TrainConfig(crop=200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 2}, "channels 2 is not an odd number"),
        ({"contrast": "T1"}, "contrast 'T1' is none of T1w, T2w, FLAIR"),
        ({"split": {"train": ["01"]}}, "split is not an object of the parts"),
        (
            {"split": {"train": [1], "validation": [], "test": []}},
            "train is not a list of subjects",
        ),
        ({"batch": 0}, "batch 0 is not positive"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"discriminator_lr": -1.0}, "discriminator_lr -1.0 is negative"),
        ({"l1": math.nan}, "l1 nan is no finite number"),
        ({"lr": math.inf}, "lr inf is no finite number"),
        ({"model": "cyclegan", "adversarial": 0}, "cyclegan learns from its adversaries"),
    ],
)
def test_an_unusable_configuration_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainConfig.from_dict(options)


def test_an_unknown_model_leaves_no_run_behind(
    toy: Path, tmp_path: Path, toy_options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="got 'resnet'"):
        session.prepare(
            toy, tmp_path / "run", {**toy_options, "model": "resnet"}, 4, None, None, None
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_description_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset_description.json").write_text(text)
    words = r"dataset_description\.json is not (a )?JSON.*mend or remove it"
    with pytest.raises(BadInput, match=words):
        describe(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"config": [], "data": "", "cache": ""}'])
def test_a_config_that_is_no_runs_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json: expected a run's"):
        open_run(tmp_path)


def test_an_unreadable_split_is_named(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(UsageError, match=r"split.json: expected a JSON file"):
        session.prepare(toy, tmp_path / "run", {}, 1, None, tmp_path / "split.json", None)


def test_the_rate_falls_to_zero_along_a_cosine() -> None:
    config = TrainConfig(steps=100, lr=1.0, discriminator_lr=0.5)
    rates = [train.learning_rate(config, "generator", step) for step in (0, 50, 100)]
    np.testing.assert_allclose(rates, [1, 0.5, 0], atol=1e-12)
    assert train.learning_rate(config, "discriminator", 0) == 0.5


def test_what_json_has_no_word_for_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    write_json(path, {"psnr": 20.0})
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(path, {"psnr": value})
    assert json.loads(path.read_text()) == {"psnr": 20.0}
    assert list(tmp_path.iterdir()) == [path]
