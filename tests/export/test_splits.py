"""Subjects and the parts they go to: nobody in two, nobody forgotten, the same every time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from lohi_edge.errors import BadInput, UsageError
from lohi_export import session
from lohi_export.config import SPLITS, TrainConfig, check_split
from lohi_export.pairs.matching import Pair
from lohi_export.splits import FRACTIONS, default_split, outsiders, random_split

Invoke = Callable[..., Result]
labels = st.text("0123456789abcXYZ", min_size=1, max_size=6)
fractions = st.tuples(st.floats(0.05, 1), st.floats(0.05, 1), st.floats(0, 1)).map(
    lambda raw: {part: value / sum(raw) for part, value in zip(SPLITS, raw, strict=True)}
)


def pair(subject: str, name: str = "", simulated: bool = False) -> Pair:
    return Pair(f"sub-{subject}{name}", subject, "T1w", Path("low"), Path("high"), simulated)


@given(
    st.lists(st.tuples(labels, st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=40),
    fractions,
    st.integers(0, 2**32 - 1),
    st.randoms(),
)
def test_a_split_is_disjoint_complete_and_blind_to_order(
    scans: list[tuple[str, int, int]], shares: dict[str, float], seed: int, shuffle: random.Random
) -> None:
    """Any subjects, each with sessions and runs of their own."""
    subjects = [pair(s, f"_ses-{a}_run-{b}").subject for s, a, b in scans]
    parts = [part for part in SPLITS if shares[part] > 0]
    if len(set(subjects)) < len(parts):
        with pytest.raises(BadInput, match="cannot be in two parts"):
            random_split(subjects, shares, seed)
        return
    split = random_split(subjects, shares, seed)
    check_split(split)
    homes = [subject for part in SPLITS for subject in split[part]]
    assert sorted(homes) == sorted(set(subjects))
    for part in parts:
        exact = shares[part] * len(homes)
        assert split[part]
        assert abs(len(split[part]) - exact) <= 1 + len(parts)
    shuffled = shuffle.sample(subjects, len(subjects))
    assert random_split(shuffled, shares, seed) == split


def test_shares_are_what_was_asked_for() -> None:
    for total, counts in ((10, (7, 1, 2)), (23, (16, 2, 5)), (3, (1, 1, 1)), (100, (70, 10, 20))):
        split = random_split([f"{n:03d}" for n in range(total)], FRACTIONS, 0)
        assert tuple(len(split[part]) for part in SPLITS) == counts


def test_seeds_differ() -> None:
    subjects = [f"{n:02d}" for n in range(20)]
    assert random_split(subjects, FRACTIONS, 0) != random_split(subjects, FRACTIONS, 1)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ((0.7, 0.1, 0.1), "add up to 1"),
        ((1.2, -0.4, 0.2), "add up to 1"),
        ((0.8, 0, 0.2), "train and validation"),
    ],
)
def test_unusable_fractions_are_refused(shares: tuple[float, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        random_split(["a", "b", "c"], dict(zip(SPLITS, shares, strict=True)), 0)


@given(st.permutations([f"{n:02d}" for n in range(1, 17)]), st.integers(1, 13), st.integers(1, 2))
def test_a_subject_in_two_parts_is_refused(order: list[str], first: int, second: int) -> None:
    split = {
        "train": order[:first],
        "validation": order[first : first + second],
        "test": order[first + second :],
    }
    check_split(split)
    split["test"] = [*split["test"], split["train"][0]]
    with pytest.raises(UsageError, match=f"{split['train'][0]} is in train and in test"):
        check_split(split)


def test_the_default_split_keeps_heads_13_to_16_for_the_report() -> None:
    split = TrainConfig().split
    assert split["test"] == ["13", "14", "15", "16"]
    assert split["validation"] == ["11", "12"]
    assert split["train"] == [f"{n:02d}" for n in range(1, 11)]
    assert default_split([pair("01", simulated=True), pair("13", simulated=True)], 0)[0] == split


def test_heads_keep_their_parts_beside_other_subjects() -> None:
    fixed = TrainConfig().split
    heads = [pair(f"{n:02d}", simulated=True) for n in range(1, 17)]
    split, words = default_split([*heads, pair("colin", simulated=True)], 0)
    assert split == {**fixed, "train": [*fixed["train"], "colin"]}
    assert "others: 1 train" in words
    people = [f"p{n}" for n in range(10)]
    split, _ = default_split([*heads, *(pair(p) for p in people)], 0)
    drawn = random_split(people, FRACTIONS, 0)
    assert split == {part: fixed[part] + drawn[part] for part in fixed}


def test_people_named_like_the_simulated_heads_are_split_at_random() -> None:
    people = [pair(f"{n:02d}") for n in range(1, 17)]
    split, words = default_split(people, 3)
    assert split == random_split([p.subject for p in people], FRACTIONS, 3)
    assert "seed 3" in words


def test_who_is_not_in_both_split_and_data_set_is_named() -> None:
    split = {"train": ["a", "b"], "validation": ["c"], "test": []}
    assert outsiders(split, [pair("a"), pair("c"), pair("x"), pair("y")]) == [
        "train subjects without a pair in the data set: b",
        "left out, in no part of the split: x, y",
    ]


def test_split_writes_down_what_it_drew_and_train_takes_it(
    toy: Path, toy_options: dict[str, object], tmp_path: Path, invoke: Invoke
) -> None:
    file = tmp_path / "split.json"
    result = invoke("split", toy, "--out", file, "--fractions", "0.5,0.25,0.25", "--seed", 5)
    assert result.exit_code == 0, result.output
    written = json.loads(file.read_text())
    assert written["seed"] == 5
    assert written["fractions"] == {"train": 0.5, "validation": 0.25, "test": 0.25}
    del toy_options["split"]
    run = session.prepare(toy, tmp_path / "run", toy_options, 1, None, file, None)
    assert run.config.split == written["split"]
    assert {part: len(of) for part, of in run.config.split.items()} == {
        "train": 2, "validation": 1, "test": 1,
    }  # fmt: skip


def test_a_split_that_was_written_down_stays(toy: Path, tmp_path: Path, invoke: Invoke) -> None:
    command = ("split", toy, "--out", tmp_path / "s.json", "--fractions", "0.5,0.25,0.25", "--seed")
    assert invoke(*command, 0).exit_code == 0
    before = (tmp_path / "s.json").read_bytes()
    refused = invoke(*command, 1)
    assert isinstance(refused.exception, UsageError)
    assert "exists and holds another split" in str(refused.exception)
    assert (tmp_path / "s.json").read_bytes() == before
    assert invoke(*command, 0).exit_code == 0  # the same again


def test_split_refuses_what_it_cannot_share_out(toy: Path, tmp_path: Path, invoke: Invoke) -> None:
    result = invoke("split", toy, "--out", tmp_path / "s.json", "--fractions", "0.5,0.5")
    assert isinstance(result.exception, UsageError)
    (tmp_path / "one").mkdir()
    (tmp_path / "one/sub-01").symlink_to(toy / "sub-01")
    result = invoke("split", tmp_path / "one", "--out", tmp_path / "s.json")
    assert isinstance(result.exception, BadInput)
    assert not (tmp_path / "s.json").exists()


def test_training_on_people_records_the_split_it_drew(
    toy: Path, toy_options: dict[str, object], tmp_path: Path
) -> None:
    del toy_options["split"]
    run = session.prepare(toy, tmp_path / "run", toy_options, 1, None, None, None)
    kept = json.loads((run.folder / "config.json").read_text())["config"]["split"]
    assert kept == random_split(["01", "02", "03", "04"], FRACTIONS, 0)
