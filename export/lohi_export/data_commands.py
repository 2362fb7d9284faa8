"""Commands on paired data sets: `check-data`, `register`, `split`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

DataArgument = Annotated[Path, typer.Argument(help="Data set (BIDS layout).")]
LowOption = Annotated[
    list[str],
    typer.Option(
        help="Which scans are the 64 mT ones, e.g. ses-HFC; repeat for several "
        "[default: by MagneticFieldStrength, else by name]."
    ),
]
HighOption = Annotated[
    list[str], typer.Option(help="Which scans are the 3 T ones, e.g. ses-GE_acq-MPRAGE.")
]


def split(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="JSON file to write, for `train --split`.")],
    fractions: Annotated[str, typer.Option(help="Of train, validation, test.")] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same split.")] = 0,
) -> None:
    """Draw subjects at random for training, validation and test, and write the split down.

    A subject goes to one part with all sessions, runs and contrasts; those without a pair go to
    none. Example: lohi-export split data --out split.json --seed 0
    """
    from lohi_export import splits
    from lohi_export.config import SPLITS, write_json
    from lohi_export.pairs.matching import survey

    found = survey(data)
    for finding in found.findings:
        typer.echo(str(finding), err=True)
    drawn = splits.random_split(
        {pair.subject for pair in found.pairs}, splits.parse_fractions(fractions), seed
    )
    record = {"seed": seed, "fractions": splits.parse_fractions(fractions), "split": drawn}
    write_json(out, record)
    sys.stdout.write(f"{out}: " + ", ".join(f"{len(drawn[p])} {p}" for p in SPLITS) + "\n")


def register(app: typer.Typer) -> None:
    """Put the commands on the app."""
    app.command()(split)
