"""Commands about a device's own scans: drift, limits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lohi_edge.commands.options import Json, print_json

Folders = Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="With receipts.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (drift, limits):
        app.command()(command)


def drift(
    folders: Folders,
    last: Annotated[int, typer.Option(min=20, help="Scans to look at.")] = 200,
    contrast: Annotated[str, typer.Option(help="T1w, T2w or FLAIR.")] = "T1w",
    as_json: Json = False,
) -> None:
    """Say whether the device's latest scans differ from those before: a scanner or coil changed.

    Scans whose results were held back count as well, and in the order in which they came by their
    receipts. Exits with 0 whatever it finds: `verdict` says what.

    Example: lohi-edge drift outbox/
    """
    from lohi_edge import console
    from lohi_edge.quality.drift import drift as compare
    from lohi_edge.quality.drift import receipts

    found = compare(receipts(folders, _say), last, contrast)
    print_json(found) if as_json else console.show_mapping(found)


def limits(
    folders: Folders,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="JSON file to write, for --limits.")
    ] = Path("own-limits.json"),
    last: Annotated[int, typer.Option(min=15, help="Scans of each contrast to look at.")] = 200,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Whose limits these tighten.  [default: the one in use here]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Learn limits from the receipts of one scanner's own scans, to see when it changes.

    The limits that ship hold for any scanner: a quiet one may grow four times as noisy and still
    look like another. Of each contrast with 15 scans or more the file holds limits of noise and of
    how brightness slopes (a coil that lost an element), never wider than those that ship; it goes
    to `enhance` and `qc` as --limits, to the daemon as enhance.limits. Name receipts of one
    scanner only; learn again after its coil or sequence was changed.

    Exit codes: 0 done, 2 usage, 3 no contrast has enough scans or no such FOLDER, 5 unusable
    bundle, 6 disk.

    Examples:

      lohi-edge limits outbox/

      lohi-edge limits outbox/ -o own-limits.json --json
    """
    from lohi_edge.files import require_place
    from lohi_edge.quality import own_limits_file as own
    from lohi_edge.quality.drift import receipts

    require_place(out)
    learned = own.learn(receipts(folders, _say), last, bundle, _say)
    own.write(out, learned)
    print_json(own.summary(learned)) if as_json else own.show(learned, out)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
