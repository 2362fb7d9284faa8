"""What the commands do on a terminal: prepare, train with progress, evaluate."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lohi_edge.errors import BadInput, UsageError
from lohi_export import processes
from lohi_export.alone import alone
from lohi_export.config import SPLITS, TrainConfig
from lohi_export.curves import Row
from lohi_export.dataset import SlicePair, find_pairs, left_out, listed, load_slices, select
from lohi_export.evaluation import evaluate as evaluate_slices
from lohi_export.json_files import write_json
from lohi_export.pairs import alignment
from lohi_export.pairs.matching import Pair
from lohi_export.pairs.twins import twins
from lohi_export.record import CONFIG, Scans, began_with, read_record, settle_scans
from lohi_export.run import Run, data_digest, settle_place, start_run
from lohi_export.splits import default_split, outsiders, without_pair
from lohi_export.steps import INIT_STEPS, Steps
from lohi_export.stopping import Stop
from lohi_export.train import Report, Trainer, choose_device
from lohi_export.updates import emulates_half

console = Console(stderr=True, highlight=False, soft_wrap=True)


def set_up_cpu(threads: int | None) -> None:
    """Threads of one operation."""
    if threads is not None:
        if threads < 1:
            raise UsageError(f"expected --threads of at least 1, got {threads}")
        torch.set_num_threads(threads)


def prepare(
    data: Path,
    out: Path,
    options: dict[str, Any],
    steps: int | None,
    epochs: float | None,
    split: Path | None,
    cache: Path | None,
    init: Path | None = None,
) -> Run:
    """Cache the slices of a data set and open or begin the run in `out`.

    Raises:
        UsageError: options that contradict each other or the run in `out`, or another data set than
            it learned from so far.
        BadInput: scans that do not pair up, or `init` holds another architecture's weights.
    """
    console.quiet = not processes.is_first()
    if steps is not None and epochs is not None:
        raise UsageError("expected --steps or --epochs, got both")
    if split is not None:
        options = options | {"split": _read_split(split)}
    elif "split" not in options and (out / CONFIG).is_file():
        # Drawn over other subjects it would be another split.
        options = options | {"split": read_record(out)["config"].get("split")}
    if steps is not None:
        options = options | {"steps": steps}
    config = TrainConfig.from_dict(options)
    pairs = find_pairs(data, config.contrast)
    if "split" not in options:
        drawn, how = default_split(pairs, config.seed)
        config = replace(config, split=drawn)
        console.print(how)
    wanted = {part: select(pairs, config.split[part], part) for part in ("train", "validation")}
    for line in [*left_out(data, config.contrast), *outsiders(config.split, pairs)]:
        console.print(line, markup=False)
    count, scans = _cut(wanted, config, cache or data / ".slices", twins(pairs))
    if epochs is not None:
        total = max(1, math.ceil(epochs * count / config.batch))
        config = TrainConfig.from_dict(config.to_dict() | {"steps": total})
    begins = not (out / CONFIG).is_file()
    run = start_run(out, config, data, scans, cache, init)
    if settle_scans(out, scans):
        console.print(f"{out} did not keep which scans it learned from; from now on it is these")
    if settle_place(run):
        console.print(f"{out}: its data set lies in {run.data} now", markup=False)
    _warn_of_init(run, begins)
    console.print(f"{count} training slices of {len(wanted['train'])} scans, {config.steps} steps")
    return run


def warn_of_steps(run: Run) -> None:
    """Say where a run has not made all of its steps, as one that was stopped."""
    if warning := run.steps.warning:
        console.print(f"{run.folder}: {warning}; the same train command goes on", markup=False)


def _warn_of_init(run: Run, begins: bool) -> None:
    """Say where those weights are unfinished, and where figures on the test part will flatter."""
    record = read_record(run.folder)
    if begins and INIT_STEPS in record and (warning := Steps(**record[INIT_STEPS]).warning):
        console.print(f"the training whose weights --init names {warning}", markup=False)
    name = record["data_set"].get("Name", "")
    for origin in began_with(record, record["config"]):
        if known := origin.knows(name, run.config.split["test"]):
            console.print(
                f"the weights of --init learned from {', '.join(known)} of this run's test "
                "subjects: figures on them will flatter",
                markup=False,
            )


def _cut(
    wanted: dict[str, list[Pair]], config: TrainConfig, cache: Path, known: list[str]
) -> tuple[int, Scans]:
    """Cache the slices of every pair; how many of them train, and the digests of all.

    Raises:
        BadInput: every problem `known` already, and every pair that cannot be used.
    """
    count, problems = 0, list(known)
    scans: dict[str, dict[str, str]] = {part: {} for part in wanted}
    with _progress("slices") as (advance, begin):
        begin(sum(map(len, wanted.values())))
        for part, members in wanted.items():
            for pair in members:
                try:
                    slices = load_slices(pair, config.contract, cache)
                    doubt = alignment.warning(pair, slices.digest, cache)
                except BadInput as error:
                    problems.append(str(error))
                    continue
                finally:
                    advance()
                scans[part][pair.name] = slices.digest
                count += slices.head[1] - slices.head[0] if part == "train" else 0
                if doubt:
                    console.print(doubt, markup=False)
    if problems:
        raise BadInput(listed("the data set cannot be used", problems))
    return count, scans


def train(run: Run, device: str, max_minutes: float | None) -> int:
    """Train a run to its end or until it is stopped; the command's exit code.

    Raises:
        UsageError: another process works in its folder.
    """
    with alone(run.folder) if processes.is_first() else nullcontext():
        trainer = Trainer(run, choose_device(device))
        if trainer.step >= run.config.steps:
            console.print(f"all {trainer.step} steps were made before")
        elif trainer.step:
            console.print(f"resuming at step {trainer.step}")
        if trainer.step < run.config.steps and run.config.amp and emulates_half(trainer.device):
            console.print("--amp: this processor emulates 16 bits, which is slower than without it")
        with Stop(max_minutes) as stop, _reporting(trainer) as report:
            trainer.fit(stop, report)
    if trainer.step < run.config.steps:
        console.print(
            f"stopped by {stop.reason} at step {trainer.step} of {run.config.steps}; "
            "run the same command again to go on"
        )
    return stop.exit_code


def evaluate(run: Run, part: str, device: str) -> dict[str, Any]:
    """Figures of a run on one part of its split; also kept in its evaluation.json.

    Raises:
        UsageError: no such part.
        BadInput: it cannot be measured, or the evaluation.json that is there cannot be kept.
    """
    if part not in SPLITS:
        raise UsageError(f"expected a part of {list(SPLITS)}, got {part!r}")
    path = run.folder / "evaluation.json"
    kept = _read_figures(path)
    slices = run.slices(part)
    if line := without_pair(run.config.split, part, [one.pair for one in slices]):
        console.print(line, markup=False)  # of a data set that has changed since, perhaps
    generator = run.generator()
    where = choose_device(device)
    with _progress(part) as (advance, begin):
        begin(len(slices))
        counted = _counted(slices, advance)
        result = evaluate_slices(generator.to(where), counted, run.config.channels, where)
    result["data_digest"] = data_digest(slices)
    write_json(path, kept | {part: result})
    return result


def _read_figures(path: Path) -> dict[str, Any]:
    """Figures of all parts that were measured before; none of what JSON has no word for.

    Raises:
        BadInput: not what `evaluate` writes, or older than that it refuses NaN.
    """

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} among its figures")

    try:
        kept = json.loads(path.read_text(), parse_constant=refuse) if path.is_file() else {}
        if not isinstance(kept, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path}: its figures cannot be kept beside new ones ({error}); "
            "remove it and measure its parts again"
        ) from None
    return kept


def table(result: dict[str, Any]) -> str:
    """Figures as lines of text."""
    lines = [f"{'':8}{'all slices':^34}{'middle slab':^34}"]
    for name, regions in [*result["subjects"].items(), ("mean", result["mean"])]:
        cells = [
            f"{f['psnr_raw']:6.2f} -> {f['psnr']:5.2f} dB  {f['ssim_raw']:.3f} -> {f['ssim']:.3f}"
            for f in (regions["slices"], regions["slab"])
        ]
        lines.append(f"{name:8}{cells[0]:^34}{cells[1]:^34}")
    return "\n".join(lines) + "\n"


def _read_split(path: Path) -> Any:
    """The split in a file of `lohi-export split`, or in one that holds nothing else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON file with a split: {error}") from None
    return content["split"] if isinstance(content, dict) and "split" in content else content


def _counted(slices: Iterable[SlicePair], advance: Callable[[], None]) -> Iterator[SlicePair]:
    for pair in slices:
        yield pair
        advance()


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """(advance, begin) of a bar on a terminal; nothing is drawn elsewhere."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what)
        yield (
            lambda: progress.advance(task),
            lambda total: progress.update(task, total=total),
        )


@contextmanager
def _reporting(trainer: Trainer) -> Iterator[Report]:
    """A report that shows a bar on a terminal and prints one line an interval."""
    begun, first = time.monotonic(), trainer.step
    with _progress("training") as (advance, begin):
        begin(trainer.config.steps - first)

        def report(step: int, row: Row | None) -> None:
            advance()
            if row is None:
                return
            speed = (step - first) * trainer.config.batch / (time.monotonic() - begun)
            loss = "cycle" if "loss_cycle" in row else "l1"
            console.print(
                f"step {step}/{trainer.config.steps}  {loss} {row[f'loss_{loss}']:.4f}  "
                f"PSNR {row['psnr']:.2f} dB (raw {row['psnr_raw']:.2f})  "
                f"SSIM {row['ssim']:.3f} (raw {row['ssim_raw']:.3f})  {speed:.1f} samples/s"
            )

        yield report
