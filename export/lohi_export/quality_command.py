"""`lohi-export quality`: learn what the quality check of the device runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lohi_export.commands import ThreadsOption

app = typer.Typer(
    help="Learn what the quality check of the device runs. Research use only.",
    no_args_is_help=True,
)
PairsArgument = Annotated[Path, typer.Argument(help="Data set of `lohi-export simulate`.")]


@app.command()
def recogniser(
    data: PairsArgument,
    out: Annotated[Path, typer.Argument(help="NPZ file to write.")],
) -> None:
    """Fit the recogniser of heads, orientations and contrasts on the 64 mT scans of heads 01-12.

    Example: lohi-export quality recogniser pairs edge/lohi_edge/quality/recogniser.npz
    """
    import numpy as np

    from lohi_edge.files import atomic_write, require_place
    from lohi_export.recogniser import fit

    require_place(out)
    arrays: dict[str, Any] = fit(data)
    with atomic_write(out) as file:
        np.savez_compressed(file, **arrays)


@app.command()
def forward(
    data: PairsArgument,
    contrast: Annotated[str, typer.Argument(help="T1w, T2w or FLAIR.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Updates of the model.")] = 3000,
    painted: Annotated[
        int, typer.Option(min=1, help="Painted scans that the detector learns from.")
    ] = 1000,
    threads: ThreadsOption = None,
) -> None:
    """Learn the forward model of one contrast, which predicts a scan from its result.

    The 64 mT scans of heads 01-12 are enhanced by this machine's bundle for that contrast. The
    model learns to predict those of heads 01-10 from their results; its detector learns to tell
    painted lesions that one of the two lacks. Half of what the detector learns from is of heads 11
    and 12, which neither generator nor model learned from: they need several draws.
    Example: lohi-export quality forward pairs T1w forward-T1w.onnx
    """
    from rich.console import Console
    from rich.progress import Progress

    from lohi_edge.files import atomic_write, require_place
    from lohi_edge.models import Models
    from lohi_export.forward import detector
    from lohi_export.forward.export import to_onnx
    from lohi_export.forward.samples import read
    from lohi_export.forward.training import spot_filter, train
    from lohi_export.session import set_up_cpu

    set_up_cpu(threads)
    require_place(out)  # before hours of work that could not be written
    samples = read(data, contrast, Models(threads=threads))
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("learning", total=steps)
        seen = [sample for sample in samples if not sample.unseen]
        model = train(seen, steps, 0, lambda done, _: bar.update(task, completed=done))
        filters = detector.bank(spot_filter(model, seen))
        detector.require_brain(model, filters, samples)
        task = bar.add_task("painting", total=painted)
        gathered = detector.gather(
            model, filters, samples, painted, 0, lambda done, _: bar.update(task, completed=done)
        )
    with atomic_write(out) as file:
        file.write(to_onnx(model, filters, detector.fit(*gathered, seed=0)))
