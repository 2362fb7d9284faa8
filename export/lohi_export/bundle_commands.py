"""The commands that make of a run what a device takes: onnx, bundle, card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lohi_export.commands import DeviceOption, RunArgument, ThreadsOption


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (onnx, bundle, card):
        app.command()(command)


def onnx(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Argument(help="File to write [default: RUN/PRECISION.onnx].")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, or typed fp16.")] = "fp32",
) -> None:
    """Write a run's generator as ONNX: FP32, checked against PyTorch, or typed FP16.

    FP16 is refused where any value on slices of the validation subjects comes near its limit.

    Examples:

      lohi-export onnx runs/t1w

      lohi-export onnx runs/t1w t1w-fp16.onnx --precision fp16
    """
    from lohi_edge.files import atomic_write, require_place
    from lohi_export import session
    from lohi_export.onnx_files import file_of
    from lohi_export.run import open_run

    opened, out = open_run(run), out or run / f"{precision}.onnx"
    session.warn_of_steps(opened)
    require_place(out)  # before minutes of checking
    model = file_of(opened, precision)
    with atomic_write(out) as file:
        file.write(model)
    sys.stdout.write(f"{out}\n")


def bundle(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(help="Bundle directory to make; must not exist.")],
    name: Annotated[str | None, typer.Option(help="[default: CONTRAST-edge or -study]")] = None,
    version: Annotated[str, typer.Option(help="For people, e.g. 2026.11.")] = "0.1",
    serial: Annotated[int, typer.Option(min=1, help="Grows with every release of this name.")] = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Bundle a trained run for the device: ONNX, golden slices, figures and provenance.

    Example: lohi-export bundle runs/t1w t1w-edge --version 2026.11 --serial 1
    """
    from lohi_export import bundling, session
    from lohi_export.bundle_folder import refuse_existing, require_room
    from lohi_export.run import open_run

    refuse_existing(out)
    if name is not None:
        bundling.refuse_name(name)
    bundling.refuse_version(version)
    session.set_up_cpu(threads)
    opened = open_run(run)
    session.warn_of_steps(opened)
    require_room(out)  # before minutes of measuring
    parts = bundling.measured_parts(opened)
    figures = {part: session.evaluate(opened, part, device) for part in parts}
    bundling.write_bundle(opened, out, figures, name, version, serial)
    sys.stdout.write(f"{out}\n")


def card(
    bundle: Annotated[Path, typer.Argument(help="Bundle directory, changed in its place.")],
    limits: Annotated[
        str | None, typer.Option(help="What the model gets wrong; every result's report says so.")
    ] = None,
    credits: Annotated[
        str | None, typer.Option(help="Whose images it learned from, under which licences.")
    ] = None,
) -> None:
    """Write what a bundle's model card says in words, or print what it says.

    Both texts may hold 2000 characters. Write them once the model has been looked at
    (`lohi-export pathologies`, real scans), before `sign`: a changed bundle needs signing again.

    Example: lohi-export card t1w-edge --limits "Never tried on a real scan."
    """
    from lohi_edge.bundle import load
    from lohi_export import bundling

    opened = load(bundle)
    manifest = opened.manifest
    if limits is not None or credits is not None:
        manifest = bundling.write_card(opened, limits, credits)
    data_set = manifest.provenance.get("data_set")
    credited = data_set.get("Acknowledgements") if isinstance(data_set, dict) else None
    for title, text in (("limits", manifest.limits), ("credits", credited)):
        sys.stdout.write(f"{title}: {text or 'none stated'}\n")
