"""The configuration file: what is refused and how, and the folds."""

from __future__ import annotations

from pathlib import Path

import pytest

from lohi_edge.errors import UsageError
from lohi_export.networks import GENERATORS
from lohi_export.pairs.matching import Pair
from lohi_export.study.config import StudyConfig, example, load, splits

BASE = 'data = "pairs"\nout = "study"\nmodels = ["lohiresgan", "lohiresgan-plain"]\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def pairs(count: int) -> list[Pair]:
    names = [f"p{n:02d}" for n in range(count)]
    return [Pair(s, s, "T1w", Path(s), Path(s)) for s in names for _ in range(2)]


def test_the_example_is_a_configuration_of_every_model(tmp_path: Path) -> None:
    config = load(write(tmp_path, example()))
    assert set(config.models) == set(GENERATORS)
    assert config.data == tmp_path / "pairs"
    split = config.split
    assert split is not None
    for model, options in config.overrides.items():
        trained = config.train_config(model, split).to_dict()
        assert options.items() <= trained.items()


def test_slices_can_be_kept_beside_the_configuration(tmp_path: Path) -> None:
    config = load(write(tmp_path, BASE + 'cache = "slices"'))
    assert config.cache == tmp_path / "slices"
    assert config.to_dict() == load(write(tmp_path, BASE)).to_dict()  # it makes no other study


def test_the_documentation_shows_the_example() -> None:
    page = Path(__file__).parents[3] / "docs/how-to/study.md"
    indented = "".join(
        f"    {line}" if line.strip() else line for line in example().splitlines(True)
    )
    assert indented in page.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BASE + "fold = 3", "unknown key: 'fold'; did you mean 'folds'"),
        (BASE + "[training]\nwdith = 4", r"key in \[training\]: 'wdith'; did you mean 'width'"),
        (BASE + "[training]\nmodel = 'gan'", r"key in \[training\]: 'model'"),
        (BASE + "[training]\ninit = 'x'", r"key in \[training\]: 'init'"),
        (BASE + "[training]\nwidth = 'wide'", "training.width: expected int, got 'wide'"),
        (BASE + "[training]\nwidth = 0", "width 0 is not positive"),
        (BASE + "[model.lohiresgan-plane]\nlr = 1", "did you mean 'lohiresgan-plain'"),
        (BASE + "[model.lohiresgan]\nrn = 'x'", r"\[model.lohiresgan\]: 'rn'; did you mean 'run'"),
        (BASE + "[model.lohiresgan]\nrun = 'x'\nlr = 1.0", "takes no other options"),
        (BASE + "folds = 4\n[model.lohiresgan]\nrun = 'x'", "knows one split"),
        (BASE + "folds = 0", "folds 0 is less than 1"),
        (BASE + "folds = true", "folds: expected int"),
        (BASE + "resamples = 5", "resamples 5 is less"),
        (BASE + "contrast = 'T1'", "none of T1w, T2w, FLAIR"),
        (BASE + "[model.lohiresgan]\nheight = 128", r"one window .*\(128, 240\), \(192, 240\)"),
        (BASE + "[split]\ntrain = ['1']\ntest = ['2']", "expected subjects of validation"),
        (BASE + "[split]\ntrian = ['1']", "did you mean 'train'"),
        (
            BASE + "[split]\ntrain = ['1']\nvalidation = ['2']\ntest = ['1']",
            "subject 1 is in train and in test",
        ),
        (
            BASE + "folds = 2\n[split]\ntrain = ['1']\nvalidation = ['2']\ntest = ['3']",
            "several folds need no split",
        ),
        (BASE.replace("lohiresgan-plain", "lohiresgan"), "twice"),
        (BASE.replace("lohiresgan-plain", "resnet"), "unknown model: 'resnet'"),
        (BASE + "reference = 'resnet'", "unknown model: 'resnet'"),
        ('out = "study"', "expected data, models"),
        (BASE + "split = 3", r"expected a table \[split\]"),
        ("data = ", "cannot be used as settings"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(write(tmp_path, text))


@pytest.mark.parametrize(("count", "folds"), [(16, 4), (7, 3), (4, 4), (3, 3), (4, 2)])
def test_every_subject_is_held_out_once_and_never_learned_from(count: int, folds: int) -> None:
    config = StudyConfig(Path(), Path(), ("lohiresgan",), folds=folds)
    made = splits(config, pairs(count))
    everyone = sorted({pair.subject for pair in pairs(count)})
    assert len(made) == folds
    assert sorted(s for split in made for s in split["test"]) == everyone
    for split in made:
        assert sorted(s for part in split.values() for s in part) == everyone
        assert all(split.values())
    sizes = [len(split["test"]) for split in made]
    assert max(sizes) - min(sizes) <= 1
    assert splits(config, pairs(count)[::-1]) == made


def test_sixteen_heads_in_four_folds_keep_the_usual_proportions() -> None:
    config = StudyConfig(Path(), Path(), ("lohiresgan",), folds=4)
    for split in splits(config, pairs(16)):
        assert [len(split[part]) for part in ("train", "validation", "test")] == [10, 2, 4]


@pytest.mark.parametrize(("count", "folds"), [(4, 5), (3, 2), (2, 2)])
def test_too_few_subjects_for_the_folds(count: int, folds: int) -> None:
    config = StudyConfig(Path(), Path(), ("lohiresgan",), folds=folds)
    with pytest.raises(UsageError, match=f"each of {folds} folds .* got {count}"):
        splits(config, pairs(count))


def test_without_a_split_subjects_are_drawn_by_the_seed() -> None:
    first, again, other = (
        splits(StudyConfig(Path(), Path(), ("lohiresgan",), seed=seed), pairs(20))[0]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert all(first.values())
