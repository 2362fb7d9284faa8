"""Commands of the quality room: qc, report, explain, reproduce."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lohi_edge.commands.options import Json, PreferOption, ScanJson, print_json

if TYPE_CHECKING:
    from lohi_edge.nifti_header import Prefer

Scans = Annotated[
    list[Path],
    typer.Argument(
        metavar="SCAN...",
        help="NIfTI files or a folder of them; a folder, zip or DICOMDIR of DICOM series.",
    ),
]
Output = Annotated[
    Path, typer.Argument(metavar="OUT", help="A result, its receipt, or the folder of one result.")
]
Original = Annotated[
    Path | None,
    typer.Option("--scan", help="The scan it was made from.  [default: where the receipt says]"),
]
MadeBy = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="Bundle that made it.  [default: the one its receipt names, where that is on this "
        "device]",
    ),
]
Limits = Annotated[
    Path | None, typer.Option("--limits", help="Quality limits (JSON) over the bundle's.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    for command in (qc, report, explain, reproduce):
        app.command()(command)


def qc(
    scans: Scans,
    contrast: Annotated[
        str | None, typer.Option(help="T1w, T2w or FLAIR.  [default: by name, then by image]")
    ] = None,
    limits: Limits = None,
    prefer: PreferOption = None,
    as_json: ScanJson = False,
) -> None:
    """Say whether scans are fit to be enhanced, without enhancing them.

    Judges as the daemon does here: by the bundle, limits, contrast and affine that its settings
    name (enhance.bundle, .limits, .contrast, .prefer), where they name any. --limits,
    --contrast and --prefer go before them. Holds as well what enhance would refuse, such as a head
    wider than the model's window.

    Exit codes: 0 pass or warn, 2 usage or settings, 3 bad input, 4 hold, 5 unusable bundle, or
    one that is not made for the contrast.

    Examples:

      lohi-edge qc scan.nii.gz --json

      lohi-edge qc study/
    """
    from lohi_edge.batch import expand
    from lohi_edge.quality.qc import check, exit_code, line
    from lohi_edge.settings import load

    daemon = load().enhance
    own = limits or (json.loads(daemon.limits) if daemon.limits else None)
    bundle = Path(daemon.bundle) if daemon.bundle else None
    named = contrast or daemon.contrast
    form = cast("Prefer | None", prefer.value if prefer else daemon.prefer)
    found = expand(scans, lambda line: sys.stderr.write(line + "\n"))
    records = [check(scan, named, own, bundle, form) for scan in found]
    if limits is None and own:
        sys.stderr.write("judged by enhance.limits of the daemon's settings\n")
    if as_json:
        print_json(records)
    else:
        for record in records:
            sys.stdout.write(line(record) + "\n")
    raise typer.Exit(exit_code(records))


def report(
    receipts: Annotated[
        list[Path],
        typer.Argument(metavar="RECEIPT...", help="JSON files, results, or folders of one result."),
    ],
    scan: Original = None,
) -> None:
    """Make the HTML page and the contact sheet of results, from their receipts.

    A page that is there is replaced only where all of its images are found. The daemon's receipts
    do not name its inbox: say with --scan where the scan lies.

    One receipt that cannot be used does not stop the others; the exit code is then the first of
    6, 5, 3 that occurred.

    Examples:

      lohi-edge report scan_desc-synthetic.json

      lohi-edge report outbox/scan/ --scan inbox/scan.nii.gz
    """
    from lohi_edge.batch import worst
    from lohi_edge.errors import LohiError, UsageError
    from lohi_edge.finished import find_receipt
    from lohi_edge.report import write

    if scan and len(receipts) > 1:
        raise UsageError(f"expected --scan with one receipt, got {len(receipts)}")
    errors = []
    for path in receipts:
        try:
            made = write(find_receipt(path), scan, lambda line: sys.stderr.write(line + "\n"))
        except LohiError as error:
            sys.stderr.write(f"error: {error}\n")
            errors.append(error)
            continue
        sys.stdout.writelines(f"{path}\n" for path in made if path)
    raise typer.Exit(worst(errors))


def explain(
    out: Output, scan: Original = None, bundle: MadeBy = None, as_json: Json = False
) -> None:
    """Print how a result came about, and check every hash again; exit 3 where one has changed.

    The verdict is checked against the figures and limits that stand beside it. A receipt is not
    signed: edited throughout, it is not found out.

    A receipt names no folder but its own and those above it, which might bear a patient's name.
    Of a result elsewhere the scan is "missing" until --scan says where it lies. The bundle is
    looked for among those that are installed, in use or not, and those that ship.

    Examples:

      lohi-edge explain scan_desc-synthetic.nii.gz

      lohi-edge explain results/scan_desc-synthetic.nii.gz --scan scan.nii.gz
    """
    from lohi_edge import console
    from lohi_edge.provenance import explain as chain

    found = chain(out, bundle, scan)
    print_json(found) if as_json else console.show_mapping(found)
    raise typer.Exit(3 if "changed" in found["checks"].values() else 0)


def reproduce(
    out: Output, scan: Original = None, bundle: MadeBy = None, as_json: Json = False
) -> None:
    """Enhance the scan of a result again and say how the two differ; writes nothing.

    The bundle that the receipt names runs, where it is on this device. Where another one must, a
    difference says nothing about the result: that is said on stderr, and as `note` in the JSON.

    Exit codes: 0 done, whether or not they differ; 3 where scan or result is not there or was
    changed since, or the result is a DICOM series.

    Examples:

      lohi-edge reproduce scan_desc-synthetic.nii.gz

      lohi-edge reproduce results/scan_desc-synthetic.nii.gz --scan scan.nii.gz
    """
    from lohi_edge import console
    from lohi_edge.provenance import reproduce as again

    found = again(out, bundle, scan)
    if note := found.get("note"):
        sys.stderr.write(f"note: {note}\n")
    if as_json:
        print_json(found)
    else:
        console.show_mapping({key: value for key, value in found.items() if key != "note"})


def bench(data: Path, out: Path, bundle: Path | None, threads: int | None, as_json: bool) -> None:
    """Run the fault bench and print its table (or, as JSON, its figures without the curves)."""
    from dataclasses import asdict

    from lohi_edge.console import bar
    from lohi_edge.models import Models
    from lohi_edge.quality import benchrun, benchstats

    with bar("scans", quiet=as_json) as progress:
        summary = benchrun.run(data, out, Models(bundle, threads), progress)
    if as_json:
        kept = ("part", "contrast", "fault", "strength", "auc")
        print_json(
            [
                {k: row[k] for k in kept if k in row}
                | {k: asdict(row[k]) for k in ("caught", "held")}
                for row in summary
            ]
        )
    else:
        sys.stdout.write(benchstats.table(summary))


def bench_own_limits(scanners: list[Path], out: Path, as_json: bool) -> None:
    """Run the bench of own limits and print its table."""
    from dataclasses import asdict

    from lohi_edge.console import bar
    from lohi_edge.quality import ownbench

    with bar("scans", quiet=as_json) as progress:
        summary = ownbench.run(scanners, out, progress)
    if as_json:
        print_json([row | {k: asdict(row[k]) for k in ("shipped", "own")} for row in summary])
    else:
        sys.stdout.write(ownbench.table(summary))
