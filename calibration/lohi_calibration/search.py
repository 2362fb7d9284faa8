"""Which layers stay in the remainder's precision: as few as the accuracy budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lohi_calibration.accuracy import Accuracy, within
from lohi_calibration.journal import Journal
from lohi_calibration.ranges import Progress
from lohi_calibration.sensitivity import Sensitivity, Trial
from lohi_edge.errors import BundleError

END_DB = 0.05  # what leaving an end alone must gain against the truth


@dataclass(frozen=True)
class Found:
    """Layers left unquantized, what that reaches, and what was tried on the way."""

    skip: frozenset[str]
    accuracy: Accuracy
    reference: Accuracy
    steps: tuple[dict[str, Any], ...]


def search(
    trial: Trial,
    rows: list[Sensitivity],
    budget_db: float,
    journal: Journal,
    progress: Progress | None = None,
) -> Found:
    """Release layers from INT8, the most harmful first, until the budget holds.

    The first and the last layer, each where that measures better against the truth, are released
    from the start; being nearer to FP32 alone is not worth their time. Harm is the squared error
    that a layer alone adds; where two are alike the earlier one goes first, so that no timing
    decides what a bundle holds.

    Raises:
        BundleError: the budget does not hold with a single layer quantized.
    """
    reference = trial.reference()

    def measured(skip: frozenset[str]) -> Accuracy:
        name = "without " + (" ".join(sorted(skip)) or "none")
        values = journal.step(name, lambda: trial.accuracy(skip).to_dict())
        return Accuracy(**{k: float("nan") if v is None else v for k, v in values.items()})

    start: frozenset[str] = frozenset()
    for end in (rows[0].layer, rows[-1].layer):
        without = start | {end}
        gained = measured(without).psnr - measured(start).psnr
        if gained >= END_DB and len(without) < len(rows):
            start = without
    order = sorted((row for row in rows if row.layer not in start), key=_error_db)
    steps = []
    for count in range(len(order)):
        skip = start | {row.layer for row in order[:count]}
        accuracy = measured(skip)
        problems = within(accuracy, reference, budget_db)
        steps.append({"unquantized": sorted(skip), **accuracy.to_dict(), "problems": problems})
        if progress:
            progress(count + 1, len(order))
        if not problems:
            return Found(skip, accuracy, reference, tuple(steps))
    raise BundleError(
        f"no INT8 model loses at most {budget_db:g} dB: with one layer quantized, "
        f"{'; '.join(problems)}; raise --budget-db or ship FP16"
    )


def _error_db(row: Sensitivity) -> float:
    return float("-inf") if row.error_db is None else row.error_db
