"""How many of the steps that it was to make a model has made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lohi_edge.bundle import MANIFEST, Manifest, load
from lohi_export.checkpoint import read_position
from lohi_export.config import TrainConfig
from lohi_export.record import CHECKPOINT, CONFIG, WEIGHTS, read_record

STEPS_MADE = "steps_made"  # in the provenance of a bundle, beside the options of its training
INIT_STEPS = "init_steps"  # in config.json and provenance: those behind the weights begun with


@dataclass(frozen=True)
class Steps:
    """Updates of a training run.

    Attributes:
        planned: by its options.
        made: None where nobody knows, as of a run folder without its checkpoint.
    """

    planned: int
    made: int | None

    @property
    def unfinished(self) -> bool:
        """Whether some are known to be missing."""
        return self.made is not None and self.made < self.planned

    @property
    def warning(self) -> str:
        """What is to be said of them; empty where all were made."""
        if self.made is None:
            return f"holds no checkpoint to say how many of its {self.planned} steps it made"
        return f"made {self.made} of {self.planned} steps" if self.unfinished else ""


def of_run(checkpoint: Path, planned: int) -> Steps:
    """Steps of the run that writes this checkpoint.

    Raises:
        BadInput: a damaged one.
    """
    return Steps(planned, read_position(checkpoint)["step"] if checkpoint.is_file() else None)


def of_source(source: Path) -> Steps | None:
    """Steps behind weights that a run begins with: a bundle's, or those in a run folder.

    Returns:
        None for a file that states none.

    Raises:
        BadInput: a damaged checkpoint.
    """
    if (source / MANIFEST).is_file():
        return of_bundle(load(source).manifest)
    if source.name != WEIGHTS or not (source.parent / CONFIG).is_file():
        return None
    config = TrainConfig.from_dict(read_record(source.parent)["config"])
    return of_run(source.parent / CHECKPOINT, config.steps)


def of_bundle(manifest: Manifest) -> Steps | None:
    """Steps of a bundle's training; None where it does not state them, as older ones do not."""
    provenance = manifest.provenance
    training = provenance.get("training")
    planned = training.get("steps") if isinstance(training, dict) else None
    if not isinstance(planned, int) or STEPS_MADE not in provenance:
        return None
    made = provenance[STEPS_MADE]
    return Steps(planned, made if isinstance(made, int) else None)
