"""`lohi-edge volumes`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from lohi_edge.commands.options import PreferOption, ScanJson

if TYPE_CHECKING:
    from lohi_edge.nifti_header import Prefer


def volumes(
    scans: Annotated[
        list[Path],
        typer.Argument(
            metavar="SCAN...",
            help="Scans or results: NIfTI files or a folder of them; a folder, zip or DICOMDIR of "
            "DICOM series.",
        ),
    ],
    csv: Annotated[Path | None, typer.Option(help="Write a line a scan and region here.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Folder for NAME_dseg.nii.gz, the regions at 1 mm.")
    ] = None,
    segmenter: Annotated[
        Path | None, typer.Option(help="ONNX file.  [default: the one that ships]")
    ] = None,
    prefer: PreferOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    as_json: ScanJson = False,
) -> None:
    """Measure the volumes of 33 regions of the head. Research use only.

    Regions that are measured too badly to be relied on are marked as not usable.

    Exit codes: 0 done, 2 usage, 3 a scan that cannot be measured, 6 disk.

    Examples:

      lohi-edge volumes scan.nii.gz

      lohi-edge volumes scan.nii.gz results/scan_desc-synthetic.nii.gz --csv volumes.csv

      lohi-edge volumes results/ --csv volumes.csv
    """
    from lohi_edge.batch import expand
    from lohi_edge.files import atomic_write, require_place
    from lohi_edge.quality import volumes as measure
    from lohi_edge.quality.morphometry import Segmenter

    found = expand(scans, lambda line: sys.stderr.write(line + "\n"), measure.measurable)
    if labels:
        measure.refuse_same_names(found)
    if csv:
        require_place(csv)  # before minutes of measuring
    loaded = Segmenter(segmenter, threads)
    records = []
    for scan in found:
        records.append(
            measure.check(scan, loaded, labels, cast("Prefer | None", prefer and prefer.value))
        )
        if not as_json:
            sys.stdout.write(measure.lines(records[-1]))
    if csv:
        with atomic_write(csv) as file:
            file.write(measure.to_csv(records).encode(errors="backslashreplace"))
    if as_json:
        sys.stdout.write(json.dumps(records, indent=2, allow_nan=False) + "\n")
    raise typer.Exit(measure.exit_code(records))
