"""What a study is asked for: a TOML file, checked whole before anything is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from lohi_edge import toml
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import UsageError
from lohi_export.config import SPLITS, TrainConfig, check_split
from lohi_export.networks import GENERATORS
from lohi_export.pairs.matching import Pair
from lohi_export.splits import Split, default_split

RUN = "run"
FIXED = ("contrast", "model", "seed", "split", "init")  # of TrainConfig; the study decides these
# What one validation subject stands for, as in 10 training and 2 validation heads.
REST_PER_VALIDATION = 6
FOLDERS = ("data", "out", "cache")


@dataclass(frozen=True)
class StudyConfig:
    """Configuration of a study.

    Attributes:
        data: paired data set.
        out: the study's folder.
        models: names of `networks.GENERATORS`, in the order of the report.
        reference: the model that the others are tested against.
        folds: 1 judges on `split`; more hold every subject out once.
        seed: of folds, training and bootstrap.
        resamples: of the bootstrap.
        morphometry: measure the volumes of 33 regions.
        split: subjects by part; None is `lohi-export train`'s default.
        training: options of TrainConfig for every model.
        overrides: options of one model, by its name.
        runs: finished runs to load instead of training, by model.
        cache: folder of the slices; None is `.slices` of the data set.
    """

    data: Path
    out: Path
    models: tuple[str, ...]
    contrast: str = "T1w"
    reference: str = "lohiresgan"
    folds: int = 1
    seed: int = 0
    resamples: int = 2000
    morphometry: bool = True
    split: Split | None = None
    training: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, Path] = field(default_factory=dict)
    cache: Path | None = None

    def __post_init__(self) -> None:
        for ok, problem in (
            (self.models, "models is empty; name at least one"),
            (len(set(self.models)) == len(self.models), "models names one of them twice"),
            (self.contrast in CONTRASTS, f"contrast is none of {', '.join(CONTRASTS)}"),
            (self.folds >= 1, f"folds {self.folds} is less than 1"),
            (self.seed >= 0, f"seed {self.seed} is negative"),
            (self.resamples >= 100, f"resamples {self.resamples} is less than 100"),
            (self.folds == 1 or not self.runs, "a finished run knows one split; set folds = 1"),
            (self.folds == 1 or not self.split, "several folds need no split; remove one of them"),
        ):
            if not ok:
                raise UsageError(f"unusable study configuration: {problem}")
        check_split(self.split or {})
        for model in (*self.models, self.reference):
            toml.refuse_unknown("study", "model", model, GENERATORS)
        trained = [self.train_config(model, TrainConfig().split) for model in self.models]
        windows = {(config.height, config.width_px) for config in trained}
        if len(windows) > 1:
            raise UsageError(f"expected one window for all models, got {sorted(windows)}")

    def train_config(self, model: str, split: Split) -> TrainConfig:
        """What a model is trained with on one split.

        Raises:
            UsageError: options that make no sense.
        """
        options = self.training | self.overrides.get(model, {})
        decided = {"contrast": self.contrast, "model": model, "seed": self.seed, "split": split}
        return TrainConfig.from_dict(options | decided)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, without the machine's folders."""
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k not in (*FOLDERS, "runs")}


def load(path: Path) -> StudyConfig:
    """The study of a TOML file; folders in it are relative to the file's own.

    Raises:
        UsageError: unreadable, an unknown key (with the nearest known one), or a value that is
            none.
    """
    values = toml.read(path)
    hints = get_type_hints(StudyConfig)
    tables = ("split", "training", "model")
    plain = [name for name in hints if name not in (*tables, "overrides", "runs")]
    for key in values:
        toml.refuse_unknown(str(path), "key", key, [*plain, *tables])
    if missing := [key for key in ("data", "out", "models") if key not in values]:
        raise UsageError(f"{path}: expected {', '.join(missing)}; see --write-example")
    if "split" in values and values.get("folds", 1) != 1:
        raise UsageError(
            f"{path}: expected [split] or folds, got both; several folds need no split"
        )
    home = path.parent
    hints |= dict.fromkeys(FOLDERS, str)
    given = {k: toml.typed(f"{path}: {k}", values[k], hints[k]) for k in plain if k in values}
    given |= {k: home / given[k] for k in FOLDERS if k in given}
    if "split" in values:
        given["split"] = _split(path, values["split"])
    overrides, runs = _models(path, _table(path, "model", values))
    for model in overrides:
        toml.refuse_unknown(str(path), "model in [model.*]", model, given["models"])
    return StudyConfig(
        **given,
        training=_options(path, "training", _table(path, "training", values), ()),
        overrides=overrides,
        runs={model: home / run for model, run in runs.items()},
    )


def example() -> str:
    """A configuration to begin with."""
    return resources.files("lohi_export.study").joinpath("example.toml").read_text("utf-8")


def splits(config: StudyConfig, pairs: Sequence[Pair]) -> list[Split]:
    """The splits that models are trained and judged on, one a fold.

    With several folds the subjects, shuffled by the seed, are dealt into test sets of nearly one
    size; of the rest one in six, taken from where the next fold begins, validates.

    Args:
        pairs: of the data set.

    Raises:
        UsageError: too few subjects for so many folds.
        BadInput: too few subjects for one split.
    """
    if config.folds == 1:
        return [config.split or default_split(pairs, config.seed)[0]]
    subjects = sorted({pair.subject for pair in pairs})
    if len(subjects) < config.folds or len(subjects) - -(-len(subjects) // config.folds) < 2:
        raise UsageError(
            f"expected subjects enough that each of {config.folds} folds holds one out and leaves "
            f"two to train and validate on, got {len(subjects)}"
        )
    order = [str(s) for s in np.random.default_rng(config.seed).permutation(subjects)]
    groups = [order[n :: config.folds] for n in range(config.folds)]
    made = []
    for n, test in enumerate(groups):
        rest = [s for group in groups[n + 1 :] + groups[:n] for s in group]
        count = max(1, len(rest) // REST_PER_VALIDATION)
        made.append({"train": rest[count:], "validation": rest[:count], "test": test})
    return made


def _table(path: Path, name: str, values: dict[str, Any]) -> dict[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: expected a table [{name}], got {table!r}")
    return table


def _split(path: Path, values: Any) -> Split:
    table = _table(path, "split", {"split": values})
    for part in table:
        toml.refuse_unknown(str(path), "part in [split]", part, SPLITS)
    if missing := [part for part in SPLITS if not table.get(part)]:
        raise UsageError(f"{path}: expected subjects of {', '.join(missing)} in [split]")
    hint = get_type_hints(StudyConfig)["models"]
    return {p: list(toml.typed(f"{path}: split.{p}", table[p], hint)) for p in SPLITS}


def _models(path: Path, tables: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Options and run folders by model, from the tables [model.NAME]."""
    overrides, runs = {}, {}
    for model in tables:
        options = _options(path, f"model.{model}", _table(path, model, tables), (RUN,))
        if RUN in options:
            runs[model] = options.pop(RUN)
            if options:
                raise UsageError(f"{path}: [model.{model}]: a finished run takes no other options")
        overrides[model] = options
    return overrides, runs


def _options(
    path: Path, table: str, values: dict[str, Any], extra: tuple[str, ...]
) -> dict[str, Any]:
    hints = get_type_hints(TrainConfig) | dict.fromkeys(extra, str)
    known = [name for name in hints if name not in FIXED]
    for key in values:
        toml.refuse_unknown(str(path), f"key in [{table}]", key, known)
    return {k: toml.typed(f"{path}: {table}.{k}", v, hints[k]) for k, v in values.items()}
