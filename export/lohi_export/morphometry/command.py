"""`lohi-export morphometry`: train the segmenter of the device, and prove it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lohi_export.commands import MaxMinutesOption, ThreadsOption

app = typer.Typer(
    help="Train and prove the segmenter that measures 33 regions. Research use only.",
    no_args_is_help=True,
)
LabelsOption = Annotated[Path, typer.Option(help="Folder with head_NN_labels.nii.gz.")]
HeadsOption = Annotated[str, typer.Option(help="Heads: 1-10 or 1,2,13.")]


@app.command()
def bank(
    labels: LabelsOption,
    out: Annotated[Path, typer.Option(help="Folder to write, or to complete; 1 MB a deformation.")],
    heads: HeadsOption = "1-10",
    variants: Annotated[int, typer.Option(min=1, help="Of a head; odd ones hydrocephalic.")] = 3,
    draws: Annotated[int, typer.Option(min=1, help="Deformations of a variant.")] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Deform label maps, once, for `train`; what is there already is kept.

    Example: lohi-export morphometry bank --labels label_maps --out bank
    """
    from rich.console import Console
    from rich.progress import track

    from lohi_export.morphometry.bank import build
    from lohi_export.pairs.command import parse_heads

    numbers = parse_heads(heads)
    files = build(labels, out, numbers, variants, draws, seed)
    total = variants * len(numbers)
    for _ in track(files, "deforming", total, console=Console(stderr=True)):
        pass


@app.command()
def train(
    bank: Annotated[Path, typer.Option(help="Folder of `morphometry bank`.")],
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished run there is resumed.")],
    heads: HeadsOption = "1-10",
    first: Annotated[int, typer.Option(min=0, help="Heads painted for the first stage.")] = 300,
    second: Annotated[int, typer.Option(min=1, help="And for the second.")] = 600,
    lr: Annotated[float, typer.Option(help="Highest learning rate of the first.")] = 2e-3,
    lr_second: Annotated[float, typer.Option(help="Of the second.")] = 1e-3,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data set of `lohi-export simulate`: every second head of the second stage is "
            "one of its scans, its 3 T partner or the result of this machine's bundle."
        ),
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="ONNX file of `export` that a new run begins with.")
    ] = None,
    amp: Annotated[bool, typer.Option("--amp", help="Compute the second in bfloat16.")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: ThreadsOption = None,
    max_minutes: MaxMinutesOption = None,
) -> None:
    """Train the segmenter, or go on where a stopped run was.

    Example: lohi-export morphometry train --bank bank --out runs/segmenter --max-minutes 60
    """
    from functools import partial

    from lohi_edge.errors import UsageError
    from lohi_edge.manifest import CONTRASTS
    from lohi_edge.models import Models
    from lohi_export.alone import alone
    from lohi_export.morphometry import scans
    from lohi_export.morphometry.export import read_model
    from lohi_export.morphometry.train import Bank, Options, fit, reporter
    from lohi_export.pairs.command import parse_heads
    from lohi_export.session import set_up_cpu
    from lohi_export.stopping import Stop

    set_up_cpu(threads)
    if not (first or init):
        raise UsageError("expected --init with --first 0, for the second stage builds on the first")
    numbers = parse_heads(heads)
    crops, scanned = Bank(bank, numbers), None
    if data:
        found = scans.find(data, [f"{n:02d}" for n in numbers], CONTRASTS)
        scanned = partial(scans.draw, found, Models(threads=threads))
    rates = (lr, lr_second)
    options = Options((first, second), rates, seed, amp, tuple(numbers), scanned is not None)
    with alone(out), Stop(max_minutes) as stop:
        begun = read_model(init) if init else None
        fit(crops, out, options, stop, reporter(options), scanned, begun)
    raise typer.Exit(stop.exit_code)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `morphometry train`.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    errors: Annotated[
        Path | None,
        typer.Option(help="JSON of `evaluate` on heads 11-12: what the device flags regions by."),
    ] = None,
) -> None:
    """Write a run's averaged weights as the device's ONNX file.

    Example: lohi-export morphometry export runs/segmenter segmenter.onnx --errors errors.json
    """
    from lohi_edge.files import atomic_write
    from lohi_export.morphometry.export import export as to_onnx
    from lohi_export.morphometry.export import read_errors
    from lohi_export.morphometry.train import averaged

    model = to_onnx(averaged(run), read_errors(errors) if errors else {})
    with atomic_write(out) as file:
        file.write(model)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Data set of `lohi-export simulate`.")],
    segmenter: Annotated[
        Path | None, typer.Option(help="ONNX file.  [default: the one that ships]")
    ] = None,
    heads: HeadsOption = "13-16",
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Take its contrasts alone; enhance them with it and segment the results."
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every image's regions here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Overlap and volume error of every region, and which tissue is taken for which.

    Example: lohi-export morphometry evaluate pairs --bundle t1w-edge --csv regions.csv
    """
    from rich.console import Console
    from rich.progress import track

    from lohi_edge.files import atomic_write, require_place
    from lohi_edge.quality.morphometry import Segmenter
    from lohi_export.morphometry import evaluate as proof
    from lohi_export.pairs.command import parse_heads

    wanted = [f"{head:02d}" for head in parse_heads(heads)]
    if csv:
        require_place(csv)  # before minutes of work that could not be written
    found = proof.measure(data, wanted, Segmenter(segmenter), bundle)
    rows = list(track(found, "segmenting", console=Console(stderr=True)))
    report = proof.summary(rows)
    if csv:
        with atomic_write(csv) as file:
            file.write(proof.to_csv(rows).encode())
    sys.stdout.write(json.dumps(report, indent=1) + "\n" if as_json else proof.table(report))


@app.command()
def dilate(
    labels: LabelsOption,
    out: Annotated[Path, typer.Option(help="Folder for the same heads, hydrocephalic.")],
    heads: HeadsOption = "13-16",
    steps: Annotated[int, typer.Option(min=1, help="Of 1.5 mm growth of the ventricles.")] = 5,
) -> None:
    """Write label maps with dilated ventricles, for `lohi-export simulate`.

    Example: lohi-export morphometry dilate --labels label_maps --out hydrocephalus
    """
    from rich.console import Console
    from rich.progress import track

    from lohi_export.morphometry.bank import write_dilated
    from lohi_export.pairs.command import parse_heads

    for head in track(parse_heads(heads), "dilating", console=Console(stderr=True)):
        name = f"head_{head:02d}_labels.nii.gz"
        write_dilated(labels / name, out / name, steps)
