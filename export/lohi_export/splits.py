"""Which subjects are learned from, tuned on and reported on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.errors import BadInput, UsageError
from lohi_export.config import SPLITS, TrainConfig
from lohi_export.dataset import absent
from lohi_export.pairs.matching import Pair

Split = dict[str, list[str]]
_HEADS = "simulated heads: 01-10 train, 11-12 validation, 13-16 test"
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}


def random_split(subjects: Iterable[str], fractions: Mapping[str, float], seed: int) -> Split:
    """Whole subjects, drawn at random: a part of `fractions` is that share of them, to the nearest.

    Every part with a fraction gets at least one subject. The same subjects, fractions and seed give
    the same split, whatever order the subjects come in or how often each is named.

    Raises:
        UsageError: fractions that do not add up to 1, or none for train or validation.
        BadInput: fewer subjects than parts.
    """
    _check(fractions)
    everyone = sorted(set(subjects))
    parts = [part for part in SPLITS if fractions.get(part, 0) > 0]
    if len(everyone) < len(parts):
        raise BadInput(
            f"expected at least {len(parts)} subjects for {', '.join(parts)}, got "
            f"{len(everyone)}: {', '.join(everyone) or 'none'}; a subject cannot be in two parts"
        )
    order = [everyone[i] for i in np.random.default_rng(seed).permutation(len(everyone))]
    split: Split = {part: [] for part in SPLITS}
    for part, count in zip(parts, _shares([fractions[p] for p in parts], len(order)), strict=True):
        split[part], order = sorted(order[:count]), order[count:]
    return split


def refuse_another(out: Path, record: Mapping[str, Any]) -> None:
    """Raises UsageError where `out` is there and holds anything but this very record of a split."""
    if not out.exists():
        return
    try:
        same = json.loads(out.read_text()) == record
    except (OSError, ValueError):
        same = False
    if not same:
        raise UsageError(
            f"{out} exists and holds another split, which runs may have been trained with; remove "
            "it, or name another file with --out"
        )


def parse_fractions(text: str) -> dict[str, float]:
    """ "0.7,0.1,0.2" as {part: fraction}.

    Raises:
        UsageError: not three numbers.
    """
    try:
        return dict(zip(SPLITS, [float(part) for part in text.split(",")], strict=True))
    except ValueError:
        raise UsageError(
            f"expected three fractions ({', '.join(SPLITS)}) such as 0.7,0.1,0.2; got {text!r}"
        ) from None


def _check(fractions: Mapping[str, float]) -> None:
    values = [fractions.get(part, 0.0) for part in SPLITS]
    if min(values) < 0 or not math.isclose(sum(values), 1, abs_tol=1e-6):
        raise UsageError(f"expected fractions that add up to 1, got {values}")
    if not (values[0] > 0 and values[1] > 0):
        raise UsageError(f"expected fractions for train and validation, got {values[:2]}")


def _shares(fractions: Sequence[float], total: int) -> list[int]:
    """`total` shared out by largest remainder, at least one each."""
    free = total - len(fractions)
    exact = [max(0.0, f * total - 1) for f in fractions]
    exact = [e * free / max(sum(exact), 1e-9) for e in exact]
    counts = [math.floor(e + 1e-9) for e in exact]
    behind = sorted(range(len(exact)), key=lambda i: (counts[i] - exact[i], i))
    for i in behind[: free - sum(counts)]:
        counts[i] += 1
    return [count + 1 for count in counts]


def default_split(pairs: Sequence[Pair], seed: int) -> tuple[Split, str]:
    """The split where none was asked for, and what was decided, in words.

    Simulated heads keep to the parts that the shipped models are reported on (heads 13-16), whoever
    is beside them; the others are split at random, or train where they are too few beside heads.

    Raises:
        BadInput: too few subjects.
    """
    fixed = TrainConfig().split
    heads = {pair.subject for pair in pairs if pair.simulated}
    heads &= {subject for part in fixed.values() for subject in part}
    others = {pair.subject for pair in pairs} - heads
    if not others:
        return fixed, _HEADS
    if heads and len(others) < len(SPLITS):
        drawn = {part: sorted(others) if part == "train" else [] for part in SPLITS}
    else:
        drawn = random_split(others, FRACTIONS, seed)
    counts = ", ".join(f"{len(drawn[part])} {part}" for part in SPLITS)
    words = f"no --split: subjects drawn at random with seed {seed}: {counts}"
    if not heads:
        return drawn, words
    return {p: fixed[p] + drawn[p] for p in SPLITS}, f"{_HEADS}; others: {counts}"


def outsiders(split: Split, pairs: Iterable[Pair]) -> list[str]:
    """What a split and a data set do not have in common, in words."""
    pairs = list(pairs)
    lines = [line for part in SPLITS if (line := without_pair(split, part, pairs))]
    named = {subject for part in split.values() for subject in part}
    if extra := sorted({pair.subject for pair in pairs} - named):
        lines.append(f"left out, in no part of the split: {', '.join(extra)}")
    return lines


def without_pair(split: Split, part: str, pairs: Iterable[Pair]) -> str:
    """Says which subjects of a part are not in the data set; empty where all are."""
    missing = absent(split[part], pairs)
    named = ", ".join(missing)
    return f"{part} subjects without a pair in the data set: {named}" if missing else ""
