"""The study from configuration to report, resumable at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import read_bytes, sha256
from lohi_export import session
from lohi_export.config import TrainConfig
from lohi_export.dataset import SlicePair, describe, find_pairs, listed, load_slices, select
from lohi_export.pairs.matching import Pair
from lohi_export.pairs.twins import twins
from lohi_export.record import LEARNED, Origin, began_with, read_record
from lohi_export.run import Run, data_digest, open_run
from lohi_export.side_by_side import share, side_by_side
from lohi_export.splits import Split, outsiders
from lohi_export.study import measure
from lohi_export.study.bench import RAW, TRUTH, Bench, Trained
from lohi_export.study.cases import segmentation_digest
from lohi_export.study.config import StudyConfig, splits
from lohi_export.study.segmenting import Segmenting
from lohi_export.study.stages import Result, Stages, digest
from lohi_export.train import choose_device

MAX_WEIGHTS = 4 << 30


class Stopped(Exception):
    """Training was stopped by a signal; `exit_code` is the command's."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Scan:
    """One held-out pair: results by system, TRUTH and RAW among them."""

    subject: str
    name: str
    fold: int
    results: dict[str, Result]


@dataclass(frozen=True)
class Fold:
    """A split, and the models that were trained on it.

    Attributes:
        test: sha256 over the test scans.
    """

    split: Split
    test: str
    models: list[Trained]


@dataclass(frozen=True)
class Outcome:
    """Everything that the report is made of.

    Attributes:
        scans: every held-out pair once.
        segmenter: sha256 of the segmenter that measured volumes, None where none did.
    """

    folds: list[Fold]
    scans: list[Scan]
    segmenter: str | None


class Study:
    """A study in progress.

    Args:
        config: what was asked for.
        device: auto, cpu or cuda.
        threads: of the CPU; None for all.
        jobs: scans that are measured at a time, each in a process of its own.
    """

    def __init__(
        self, config: StudyConfig, device: str, threads: int | None, jobs: int = 1
    ) -> None:
        self.config = config
        self._jobs, self._threads = jobs, share(jobs, threads)
        self._segmenting = Segmenting(self._threads) if config.morphometry else None
        self._device = device
        self._stages = Stages(config.out / "stages")
        self._pairs = find_pairs(config.data, config.contrast)
        if shared := twins(self._pairs):
            raise BadInput(listed(f"{config.data} cannot be used", shared))
        self._splits = splits(config, self._pairs)
        tests = [self._select(split, "test") for split in self._splits]
        self._total = len(self._splits) * len(config.models) + sum(map(len, tests))
        self._done = 0

    def run(self) -> Outcome:
        """Train, load and measure what is not yet done.

        Raises:
            BadInput: scans that do not pair up, or a run that is not there.
            UsageError: a given run that does not fit the study.
            DiskError: a result cannot be written.
            Stopped: by a signal while training.
        """
        folds, scans = [], []
        for number, split in enumerate(self._splits):
            models = [self._trained(model, number, split) for model in self.config.models]
            slices = self._slices(split, "test", models[0].run.config)
            scans += self._all_measured(slices, number, models)
            folds.append(Fold(split, data_digest(slices), models))
        return Outcome(folds, scans, self._segmenting.digest if self._segmenting else None)

    def outsiders(self) -> list[str]:
        """What splits and data set do not have in common, in words: such heads go unreported."""
        lines = [line for split in self._splits for line in outsiders(split, self._pairs)]
        return list(dict.fromkeys(lines))

    def _select(self, split: Split, part: str) -> list[Any]:
        return select(self._pairs, split[part], part)

    @property
    def _cache(self) -> Path:
        return self.config.cache or self.config.data / ".slices"

    def _slices(self, split: Split, part: str, config: TrainConfig) -> list[SlicePair]:
        pairs = self._select(split, part)
        return [load_slices(pair, config.contract, self._cache) for pair in pairs]

    def _say(self, what: str) -> None:
        self._done += 1
        session.console.print(f"[{self._done}/{self._total}] {what}", markup=False)

    def _trained(self, model: str, fold: int, split: Split) -> Trained:
        if model in self.config.runs:
            self._say(f"load {model}")
            return self._loaded(model, split)
        config = self.config.train_config(model, split)
        data = {part: data_digest(self._slices(split, part, config)) for part in LEARNED}
        inputs = {"config": config.to_dict(), "data": data}
        folder = self.config.out / "runs" / f"{model}-{fold}-{digest(inputs)[:8]}"
        name = f"train/{model}-{fold}"
        kept = folder.is_dir() and self._stages.kept(name, inputs)
        self._say(f"{'keep' if kept else 'train'} {model}{self._of(fold)}")
        if not kept:
            self._train(folder, config.to_dict())
        run = open_run(folder)
        trained = _opened(model, run, data)
        self._stages.get(name, inputs, lambda: {"weights": trained.weights})
        return trained

    def _train(self, folder: Path, options: dict[str, Any]) -> None:
        run = session.prepare(self.config.data, folder, options, None, None, None, self._cache)
        if code := session.train(run, self._device, None):
            raise Stopped(code)

    def _loaded(self, model: str, split: Split) -> Trained:
        run = open_run(self.config.runs[model])
        had, wanted = run.config, self.config.train_config(model, split)
        window = (had.height, had.width_px)
        learned = sorted(set(had.split["train"] + had.split["validation"]) & set(split["test"]))
        record = read_record(run.folder)
        began = began_with(record, record["config"])
        name = describe(self.config.data).get("Name", "")
        before = sorted({s for origin in began for s in origin.knows(name, split["test"])})
        for odd, problem in (
            (had.model != model, f"holds a {had.model}"),
            (had.contrast != self.config.contrast, f"was trained on {had.contrast}"),
            (
                window != (wanted.height, wanted.width_px),
                f"sees {window[0]} x {window[1]} mm, not {wanted.height} x {wanted.width_px}",
            ),
            (run.steps.unfinished, f"{run.steps.warning}; its train command finishes it"),
            (bool(learned), f"learned from the study's test subjects {', '.join(learned)}"),
            (
                bool(before),
                "began with weights (--init) that learned from the study's test subjects "
                f"{', '.join(before)}; was it another data set, name this one in its "
                "dataset_description.json",
            ),
        ):
            if odd:
                raise UsageError(f"{run.folder}, the run of [model.{model}], {problem}")
        return _opened(model, run, {}, tuple(began))

    def _of(self, fold: int) -> str:
        return f", fold {fold + 1} of {self.config.folds}" if self.config.folds > 1 else ""

    def _all_measured(
        self, slices: list[SlicePair], fold: int, models: list[Trained]
    ) -> list[Scan]:
        if self._jobs == 1:
            found = []
            for one in slices:
                self._say(f"measure {one.pair.name}{self._of(fold)}")
                found.append(self._measured(one, fold, models))
            return found
        done = {}
        pairs = [one.pair for one in slices]
        elsewhere = partial(_measured_elsewhere, self, fold, models)
        set_up = (session.set_up_cpu, (self._threads,))
        for pair, scan in side_by_side(elsewhere, pairs, self._jobs, *set_up):
            self._say(f"measured {pair.name}{self._of(fold)}")
            done[pair] = scan
        return [done[pair] for pair in pairs]

    def _measured(self, slices: SlicePair, fold: int, models: list[Trained]) -> Scan:
        pair = slices.pair
        bench = Bench(slices, models, choose_device(self._device), self._segmenting)
        segmenter = self._segmenting.digest if self._segmenting else None
        labels = segmentation_digest(pair)
        results = {}
        for system in (TRUTH, RAW, *(trained.model for trained in models)):
            name = f"scan/{pair.name}/{system}-{fold}"
            common = {"version": measure.VERSION, "image": bench.identity(system)}
            inputs = common | {"brain": labels or segmenter}
            results[system] = self._stages.get(name, inputs, partial(bench.figures, system))
            if segmenter:
                inputs = common | {"segmenter": segmenter, "labels": labels}
                results[system] |= self._stages.get(
                    f"{name}-volumes", inputs, partial(bench.volumes, system)
                )
        return Scan(pair.subject, pair.name, fold, results)


def _measured_elsewhere(study: Study, fold: int, models: list[Trained], pair: Pair) -> Scan:
    """In a process of its own, which reads the slices for itself."""
    slices = load_slices(pair, models[0].run.config.contract, study._cache)
    return study._measured(slices, fold, models)


def _opened(model: str, run: Run, data: dict[str, str], began: tuple[Origin, ...] = ()) -> Trained:
    generator = run.generator()
    return Trained(
        model,
        run,
        sha256(read_bytes(run.weights, MAX_WEIGHTS)),
        sum(p.numel() for p in generator.parameters()),
        data,
        began,
    )
