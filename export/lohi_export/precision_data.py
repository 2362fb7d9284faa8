"""Slices to calibrate on and to measure with, from a paired data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lohi_calibration.choose import CalibrationSet, choose
from lohi_edge.bundle import Manifest
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.volume import Float32
from lohi_export.dataset import SlicePair, absent, describe, find_pairs, load_slices
from lohi_export.record import began_with

TRIAL_SLICES = 24


@dataclass(frozen=True, eq=False)
class PrecisionData:
    """What a calibration rests on.

    Attributes:
        calibration: slices whose ranges are taken.
        input, truth: other slices of the same heads, on which the budget is held.
        digests: head -> digest of its two scans.
    """

    calibration: CalibrationSet
    input: Float32
    truth: Float32
    digests: dict[str, str]


def heads(
    data: Path, manifest: Manifest, subjects: Sequence[str], cache: Path | None
) -> list[SlicePair]:
    """The pairs of `subjects` in a data set.

    Raises:
        BadInput: one of them is not there: figures would be said to be of all.
    """
    pairs = find_pairs(data, manifest.contrasts[0])
    if missing := absent(subjects, pairs):
        raise BadInput(
            f"expected subjects {', '.join(subjects)} in {data}, found no pair of "
            f"{', '.join(missing)}; name some that are there with --subjects"
        )
    folder, contract = cache or data / ".slices", manifest.slice_contract
    return [load_slices(pair, contract, folder) for pair in pairs if pair.subject in subjects]


def refuse_reported(data: Path, manifest: Manifest, subjects: Sequence[str]) -> None:
    """Raises UsageError where a bundle is reported on one of `subjects`: none may be fitted on."""
    test = _subjects_in(data, manifest, "test")
    if known := [subject for subject in subjects if subject in test]:
        raise UsageError(
            f"expected --subjects that this bundle is not reported on, got {', '.join(known)} of "
            f"its test subjects {', '.join(map(str, test))}; name others"
        )


def refuse_learned(data: Path, manifest: Manifest, subjects: Sequence[str]) -> None:
    """Raises UsageError where a bundle learned from one of `subjects`: figures would flatter."""
    learned = _subjects_in(data, manifest, "train", "validation")
    learned += learned_before(data, manifest, subjects)
    if known := [subject for subject in subjects if subject in learned]:
        raise UsageError(
            f"expected --subjects that this bundle did not learn from, got {', '.join(known)} of "
            f"its training and validation subjects, or those of the weights that it began with: "
            f"{', '.join(dict.fromkeys(map(str, learned)))}; name others"
        )


def learned_before(data: Path, manifest: Manifest, subjects: Sequence[str]) -> list[str]:
    """Which of `subjects` the weights learned from that a bundle's training began with."""
    record = manifest.provenance
    training = record.get("training")
    began = began_with(record, training if isinstance(training, dict) else {})
    name = describe(data).get("Name", "")
    return sorted({known for origin in began for known in origin.knows(name, subjects)})


def _subjects_in(data: Path, manifest: Manifest, *parts: str) -> list[str]:
    """Subjects of parts of the split a model was trained with, if it was on this data set.

    A label means a person within one data set.
    """
    record = manifest.provenance
    if record.get("data_set", {}).get("Name", "") != describe(data).get("Name", ""):
        return []
    split = record.get("training", {}).get("split", {})
    return [subject for part in parts for subject in split.get(part, [])]


def part_of(manifest: Manifest, part: str) -> list[str]:
    """Subjects of a part of the split the model was trained with.

    Raises:
        UsageError: the bundle does not say.
    """
    split = manifest.provenance.get("training", {}).get("split", {})
    if not split.get(part):
        raise UsageError(f"this bundle names no {part} subjects; name some with --subjects")
    return [str(subject) for subject in split[part]]


def load(
    data: Path,
    manifest: Manifest,
    subjects: Sequence[str],
    count: int,
    seed: int,
    cache: Path | None,
) -> PrecisionData:
    """Choose `count` calibration slices and the slices of the trial from some heads."""
    pairs = heads(data, manifest, subjects, cache)
    channels = manifest.slice_contract.channels
    sources, truths = {}, {}
    for pair in pairs:
        sources[pair.pair.name], truths[pair.pair.name] = pair.batch(
            np.arange(*pair.head), channels
        )
    calibration = choose(sources, count, seed)
    taken = {(one.subject, one.index) for one in calibration.chosen}
    trial = [
        (one.subject, one.index)
        for one in choose(sources, min(2 * TRIAL_SLICES + count, _total(sources)), seed + 1).chosen
        if (one.subject, one.index) not in taken
    ]
    kept = trial[:: max(1, len(trial) // TRIAL_SLICES)][:TRIAL_SLICES]
    if len(kept) < TRIAL_SLICES // 2:
        raise UsageError(
            f"expected slices left to try the result on, got {len(kept)}; give more heads or a "
            "smaller --slices"
        )
    return PrecisionData(
        calibration,
        np.stack([sources[subject][index] for subject, index in kept]),
        np.stack([truths[subject][index] for subject, index in kept]),
        {pair.pair.name: pair.digest for pair in pairs},
    )


def _total(stacks: dict[str, Float32]) -> int:
    from lohi_calibration.choose import usable

    return sum(len(usable(stack)) for stack in stacks.values())
