"""`lohi-export pathologies`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lohi_export.commands import ThreadsOption


def pathologies(
    labels: Annotated[Path, typer.Option(help="Folder with head_NN_labels.nii.gz.")],
    out: Annotated[Path, typer.Option(help="Folder for table, figures and pictures.")],
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle directory.  [default: the one that ships]")
    ] = None,
    heads: Annotated[str, typer.Option(help="Heads: 13-16 or 13,15.")] = "13-16",
    contrast: Annotated[str, typer.Option(help="T1w, T2w or FLAIR.")] = "T1w",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: ThreadsOption = None,
) -> None:
    """What a model makes of illness: infarct, tumour, haemorrhage and hydrocephalus, simulated.

    Every head is simulated well and ill with everything else alike, and both are enhanced: how much
    of the lesion does the result show? Writes pathologies.md, .json and a picture of each.

    Example: lohi-export pathologies --labels label_maps --out pathologies --heads 13-14
    """
    from dataclasses import asdict

    from rich.console import Console

    from lohi_edge.files import make_directory
    from lohi_edge.models import Models
    from lohi_export import pathologies as bench
    from lohi_export.json_files import write_json
    from lohi_export.pairs.command import parse_heads

    models = Models(bundle, threads)
    make_directory(out)
    found = []
    with Console(stderr=True).status("") as status:
        for row in bench.rows(
            labels, parse_heads(heads), contrast, models, seed, out, status.update
        ):
            found.append(row)
    write_json(out / "pathologies.json", [asdict(row) for row in found])
    sys.stdout.write(bench.write_table(out / "pathologies.md", found))
