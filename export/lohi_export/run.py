"""A run folder: what a training run was given and what came out of it.

config.json             configuration, data set, digests of its scans, software
init.safetensors        the weights it began with, where `--init` named some
checkpoint.safetensors  everything needed to go on
weights.safetensors     the best averaged generator so far
curves.csv, curves.png  losses and validation figures, one row an interval
evaluation.json         figures on validation and test subjects, by `lohi-export evaluate`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from lohi_edge.bundle import all_shipped
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import atomic_write, make_directory, read_bytes, sha256
from lohi_edge.volume import Float32
from lohi_export import steps
from lohi_export.checkpoint import load_weights, read_tensors, write_tensors
from lohi_export.config import TrainConfig
from lohi_export.dataset import SlicePair, describe, find_pairs, load_slices, select
from lohi_export.evaluation import spread
from lohi_export.json_files import write_json
from lohi_export.networks import build_generator
from lohi_export.pairs.matching import Pair
from lohi_export.record import (
    CHECKPOINT,
    CONFIG,
    WEIGHTS,
    Scans,
    as_json,
    digest_of,
    origins,
    read_record,
    software,
)
from lohi_export.steps import Steps
from lohi_export.unfold import is_exported, read_exported, unfold

MAX_WEIGHTS_BYTES = 1 << 30


@dataclass(frozen=True)
class Run:
    """A run folder that was opened.

    Attributes:
        folder: where it is.
        config: what was asked for.
        data, cache: the paired data set and where its slices are kept.
    """

    folder: Path
    config: TrainConfig
    data: Path
    cache: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def init(self) -> Path:
        return self.folder / "init.safetensors"

    @property
    def steps(self) -> Steps:
        """Planned and made.

        Raises:
            BadInput: a damaged checkpoint.
        """
        return steps.of_run(self.checkpoint, self.config.steps)

    def pairs(self) -> list[Pair]:
        """Every pair of the run's data set.

        Raises:
            BadInput: scans that do not pair up, or the data set is gone.
        """
        if not self.data.is_dir():
            raise BadInput(
                f"{self.folder}: expected its data set in {self.data}, found nothing; where it was "
                "moved, repeat the command that trained this run with --data of its place now"
            )
        return find_pairs(self.data, self.config.contrast)

    def slices(self, part: str) -> list[SlicePair]:
        """Slices of one part of the split, cached on first use.

        Raises:
            BadInput: as `pairs`, or the part has no scans.
        """
        pairs = select(self.pairs(), self.config.split[part], part)
        return [load_slices(pair, self.config.contract, self.cache) for pair in pairs]

    def generator(self) -> nn.Module:
        """A fresh generator with the run's weights, in evaluation mode.

        Raises:
            BadInput: no weights yet, or another model's.
        """
        if not self.weights.is_file():
            raise BadInput(f"{self.folder} holds no weights yet; train first, or wait an interval")
        return generator_of(self.config, self.weights).eval()


def generator_of(config: TrainConfig, weights: Path) -> nn.Module:
    """The generator that a configuration describes, with weights from a safetensors file.

    Raises:
        BadInput: no such file, or another architecture's weights.
    """
    generator = build_generator(config.model, config.width, config.depth, config.channels)
    try:
        load_weights(generator, read_tensors(weights)[0], weights)
    except BadInput as error:
        raise BadInput(
            f"{error}; expected {config.model} with width {config.width}, depth {config.depth}, "
            f"channels {config.channels}"
        ) from None
    return generator


def open_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        BadInput: there is none.
    """
    record = read_record(folder)
    return Run(
        folder, TrainConfig.from_dict(record["config"]), Path(record["data"]), Path(record["cache"])
    )


def start_run(
    folder: Path,
    config: TrainConfig,
    data: Path,
    scans: Scans,
    cache: Path | None,
    init: Path | None = None,
) -> Run:
    """Open the run in `folder` to go on with it, or begin one there.

    Args:
        scans: that a new run is going to learn from; see `settle_scans` for one that goes on.
        init: a run folder or safetensors file whose averaged weights the generator begins with, or
            a bundle (one that ships by its name) or ONNX file (`unfold`). They are copied: a begun
            run goes on whatever becomes of that file.

    Raises:
        UsageError: the folder holds a run of another configuration or data set.
        BadInput: `init` is missing or another architecture's.
    """
    run = Run(folder, config, data.resolve(), (cache or data / ".slices").resolve())
    source = str(_weights_in(init).resolve()) if init else ""
    begun = (folder / CONFIG).is_file()
    former = read_record(folder) if begun else {}
    content = b""
    if begun and source == former.get("init_from", ""):
        digest = former["config"].get("init", "")
    else:
        content = _read_init(Path(source)) if source else b""
        digest = sha256(content) if source else ""
    run = replace(run, config=replace(config, init=digest))
    if begun:
        _check_same(run, former)
        return run
    if source:
        _copy_weights(run, Path(source), content)
    record: dict[str, Any] = {
        "config": run.config.to_dict(),
        "data": str(run.data),
        "cache": str(run.cache),
        "init_from": source,
        "data_set": describe(data),
        "scans": scans,
        "software": software(),
    }
    if source:
        record["init_learned"] = as_json(origins(Path(source), digest))
        if behind := steps.of_source(Path(source)):
            record[steps.INIT_STEPS] = asdict(behind)
    write_json(folder / CONFIG, record)
    return run


def settle_place(run: Run) -> bool:
    """Keep where a run's data set and its slices are now; whether the data set was elsewhere.

    Raises:
        DiskError: it cannot be kept.
    """
    record = read_record(run.folder)
    now = {"data": str(run.data), "cache": str(run.cache)}
    moved = bool(record["data"] != now["data"])
    if any(record[key] != place for key, place in now.items()):
        write_json(run.folder / CONFIG, record | now)
    return moved


def _weights_in(init: Path) -> Path:
    """The file or bundle to begin with; a bundle that ships goes by its name alone."""
    for path in all_shipped():
        if path.name == str(init) and not init.exists():
            return path
    return init / WEIGHTS if init.is_dir() and not is_exported(init) else init


def _read_init(source: Path) -> bytes:
    return read_exported(source) if is_exported(source) else read_bytes(source, MAX_WEIGHTS_BYTES)


def _copy_weights(run: Run, source: Path, content: bytes) -> None:
    config = run.config
    if is_exported(source):
        generator = build_generator(config.model, config.width, config.depth, config.channels)
        weights = unfold(generator, content, _some_slices(run))
        make_directory(run.folder)
        write_tensors(run.init, weights, {"model": config.model})
        return
    generator_of(config, source)
    make_directory(run.folder)
    with atomic_write(run.init) as file:
        file.write(content)


def _some_slices(run: Run, pairs: int = 4, each: int = 4) -> Float32:
    """A few training slices (n, C, H, W)."""
    chosen = run.slices("train")[:pairs]
    return np.concatenate([p.batch(spread(p, each), run.config.channels)[0] for p in chosen])


def _check_same(run: Run, former: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun otherwise.

    A data set may have moved, if the run kept which scans it learned from (`settle_scans`).

    Raises:
        UsageError: names every value that differs.
    """
    asked = run.config.to_dict()
    had = TrainConfig.from_dict(former["config"]).to_dict()
    if "scans" not in former:
        asked, had = asked | {"data": str(run.data)}, had | {"data": former["data"]}
    odd = [f"{k} {had[k]!r}, not {v!r}" for k, v in asked.items() if v != had[k]]
    if odd:
        raise UsageError(
            f"{run.folder} holds a run with {'; '.join(odd)}; "
            "repeat its options to resume it, or name another folder with --out"
        )


def data_digest(slices: Sequence[SlicePair]) -> str:
    """`digest_of` scans that were read."""
    return digest_of({s.pair.name: s.digest for s in slices})
