"""The commands that train and measure, and all others on the app; torch waits until one runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[Path, typer.Option(help="Paired data set (BIDS layout).")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads [default: all].")]
MaxMinutesOption = Annotated[float | None, typer.Option(min=0, help="Stop with a checkpoint.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder of `lohi-export train`.")]


def train(
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Run folder; an unfinished run there is resumed.")],
    contrast: Annotated[str | None, typer.Option(help="T1w, T2w or FLAIR [default: T1w].")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="lohiresgan, lohiresgan-plain (the ablation), cgan, gan, cyclegan or unet "
            "[default: lohiresgan]."
        ),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Base channels: 16 edge model, 64 study [default: 16].")
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Levels of half the size.")] = None,
    channels: Annotated[
        int | None, typer.Option(help="1, or an odd number of neighbours [default: 1].")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all [default: 8000].")] = None,
    epochs: Annotated[float | None, typer.Option(help="Instead of steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Slices a step.")] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of a random square in mm; 0 for none.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of the generator.")] = None,
    adversarial: Annotated[
        float | None, typer.Option(help="Weight of the adversarial loss.")
    ] = None,
    l1: Annotated[float | None, typer.Option("--lambda", help="Weight of the L1 loss.")] = None,
    ssim: Annotated[float | None, typer.Option(help="Weight of 1 - SSIM.")] = None,
    noise: Annotated[
        float | None,
        typer.Option(help="Most noise added to the input, relative to its range [default: 0]."),
    ] = None,
    spots: Annotated[
        float | None,
        typer.Option(help="Share of samples with a spot in both images [default: 0]."),
    ] = None,
    hold: Annotated[
        float | None,
        typer.Option(help="Share of samples whose neighbours repeat the middle slice."),
    ] = None,
    elastic: Annotated[
        float | None, typer.Option(help="Random warp of both images, in mm [default: 0].")
    ] = None,
    slip: Annotated[
        float | None,
        typer.Option(help="Random warp of the 3 T image alone, in mm [default: 0]."),
    ] = None,
    levels: Annotated[
        float | None,
        typer.Option(help="How far black and white of the input wander, 0 to 1 [default: 0]."),
    ] = None,
    amp: Annotated[bool | None, typer.Option("--amp", help="Compute in 16 bits.")] = None,
    interval: Annotated[
        int | None, typer.Option(help="Steps between checkpoints [default: 250].")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="JSON file with any settings; the options above go before it."),
    ] = None,
    split: Annotated[
        Path | None, typer.Option(help="JSON file: train, validation and test subjects.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the weights of this run, safetensors file or bundle; t1w-edge and its "
            "like name the bundles that ship."
        ),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Slice cache [default: DATA/.slices].")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    max_minutes: MaxMinutesOption = None,
) -> None:
    """Train a generator on pairs, or go on where a killed run stopped.

    Losses, rates and sizes that are not given are those of the model's paper. On several GPUs:
    torchrun --nproc-per-node 2 -m lohi_export train ...
    Example: lohi-export train --data pairs --out runs/t1w --max-minutes 60
    """
    from lohi_export import processes, session
    from lohi_export.json_files import read_options
    from lohi_export.train import choose_device

    asked = {
        "contrast": contrast,
        "model": model,
        "width": width,
        "depth": depth,
        "channels": channels,
        "batch": batch,
        "crop": crop,
        "lr": lr,
        "adversarial": adversarial,
        "l1": l1,
        "ssim": ssim,
        "noise": noise,
        "spots": spots,
        "hold": hold,
        "elastic": elastic,
        "slip": slip,
        "levels": levels,
        "amp": amp,
        "interval": interval,
        "seed": seed,
    }
    options = read_options(config) if config else {}
    options |= {name: value for name, value in asked.items() if value is not None}
    session.set_up_cpu(threads)
    with processes.joined(choose_device(device)):
        with processes.first_alone():
            run = session.prepare(data, out, options, steps, epochs, split, cache, init)
        code = session.train(run, device, max_minutes)
    raise typer.Exit(code)


def evaluate(
    run: RunArgument,
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON.")] = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """PSNR and SSIM of a trained run on one part of its split, before and after, by subject.

    Data range 2, scikit-image's definitions; over all slices that show a head and over the slab of
    21 slices about its middle. Example: lohi-export evaluate runs/t1w --json
    """
    from lohi_export import session
    from lohi_export.run import open_run

    session.set_up_cpu(threads)
    opened = open_run(run)
    session.warn_of_steps(opened)
    result = session.evaluate(opened, part, device)
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if as_json else session.table(result))


def register(app: typer.Typer) -> None:
    """Put every command on the app."""
    from lohi_export import bundle_commands, data_commands, precision_commands
    from lohi_export.morphometry.command import app as morphometry
    from lohi_export.pairs.command import simulate
    from lohi_export.pathologies_command import pathologies
    from lohi_export.quality_command import app as quality
    from lohi_export.study.command import study

    app.command()(simulate)
    app.command()(train)
    app.command()(evaluate)
    bundle_commands.register(app)
    app.command()(pathologies)
    app.command()(study)
    data_commands.add_commands(app)
    precision_commands.register(app)
    app.add_typer(morphometry, name="morphometry")
    app.add_typer(quality, name="quality")
