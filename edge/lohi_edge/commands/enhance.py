"""lohi-edge enhance."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lohi_edge.commands.options import (
    BundleOption,
    Precision,
    PrecisionOption,
    PreferOption,
    RuntimeName,
    RuntimeOption,
    ScanJson,
    Threads,
    print_json,
)


class Contrast(str, Enum):
    T1w = "T1w"
    T2w = "T2w"
    FLAIR = "FLAIR"


class Grid(str, Enum):
    isotropic = "1mm"
    native = "native"


class Format(str, Enum):
    auto = "auto"
    nifti = "nifti"
    dicom = "dicom"


def enhance(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="NIfTI files or a folder of them; a folder, zip or DICOMDIR of DICOM series.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for results.  [default: beside each scan]"),
    ] = None,
    bundle: BundleOption = None,
    contrast: Annotated[
        Contrast | None,
        typer.Option(
            help="Contrast of the scans.  [default: by file name, sidecar or DICOM, then by image]"
        ),
    ] = None,
    grid: Annotated[
        Grid | None,
        typer.Option(
            help="1 mm isotropic along the scan's axes, or the scan's own grid.  "
            "[default: native for DICOM, else 1mm]"
        ),
    ] = None,
    format: Annotated[
        Format, typer.Option(help="Format of results; auto is what the scan came as.")
    ] = Format.auto,
    mark: Annotated[bool, typer.Option(help="Burn a mark into every DICOM image.")] = False,
    prefer: PreferOption = None,
    overwrite: Annotated[bool, typer.Option(help="Replace other results in the way.")] = False,
    as_bids: Annotated[
        bool,
        typer.Option("--bids", help="INPUT is BIDS_DIR OUT participant, as in BIDS apps."),
    ] = False,
    as_json: ScanJson = False,
    threads: Threads = None,
    runtime: RuntimeOption = RuntimeName.auto,
    precision: PrecisionOption = Precision.auto,
    limits: Annotated[
        Path | None, typer.Option(help="Quality limits (JSON) that go before the bundle's.")
    ] = None,
    deliver_held: Annotated[
        bool,
        typer.Option("--deliver-held", help="Write held results too, marked as held (research)."),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(help="Also write NAME_desc-uncertainty.nii.gz; takes five times as long."),
    ] = False,
    volumes: Annotated[
        bool, typer.Option(help="Also measure 33 regions before and after; takes longer.")
    ] = False,
) -> None:
    """Turn 64 mT head scans into synthetic 3 T-like images.

    Writes NAME_desc-synthetic.nii.gz and its receipt NAME_desc-synthetic.json for every scan; of a
    DICOM series a derived series in a folder NAME_desc-synthetic. Localizers, secondary captures
    and results of this command are skipped. Of a result that the quality check holds back only the
    receipt is written, as NAME_desc-withheld.json.
    A result that is there already is left alone, so an interrupted run can simply be repeated.

    Exit codes: 0 done, 2 usage, 3 bad input, 4 held by quality, 5 bundle or engine, 6 disk.

    Examples:

      lohi-edge enhance scan.nii.gz

      lohi-edge enhance scans/ -o results/ --json

      lohi-edge enhance sub-01_T1w.nii --grid native --threads 4

      lohi-edge enhance study/ -o results/ --format dicom

      lohi-edge enhance --bids data/ derivatives/ participant
    """
    from lohi_edge import batch, bids
    from lohi_edge.console import Reporter
    from lohi_edge.models import Models

    with Reporter(quiet=as_json) as reporter:
        outcomes = []
        options: dict[str, Any] = {
            "bundle": Models(bundle, threads, runtime.value, precision.value),
            "contrast": contrast and contrast.value,
            "grid": grid and grid.value,
            "format": format.value,
            "mark": mark,
            "prefer": prefer and prefer.value,
            "overwrite": overwrite,
            "limits": limits,
            "deliver_held": deliver_held,
            "uncertainty": uncertainty,
            "volumes": volumes,
        }
        if as_bids:
            results = bids.run(*bids.arguments(inputs, out), reporter.begin, **options)
        else:
            scans = batch.expand(inputs, reporter.skipped)
            results = batch.run(scans, _folder(out), reporter.begin, **options)
        for outcome in results:
            reporter.end(outcome)
            outcomes.append(outcome)
    if as_json:
        print_json([outcome.to_dict() for outcome in outcomes])
    raise typer.Exit(batch.exit_code(outcomes))


def _folder(out: Path | None) -> Path | None:
    from lohi_edge.errors import UsageError
    from lohi_edge.files import is_directory

    if out and (
        out.name.endswith((".nii", ".nii.gz")) or (os.path.lexists(out) and not is_directory(out))
    ):
        raise UsageError(f"expected a folder for --out, got {out}; results name themselves")
    return out
