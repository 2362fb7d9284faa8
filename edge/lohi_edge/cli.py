"""lohi-edge: the commands of the device."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from lohi_edge.commands import bundle as bundle_commands
from lohi_edge.commands import device as device_commands
from lohi_edge.commands import dicom as dicom_commands
from lohi_edge.commands import engine
from lohi_edge.commands import quality as quality_commands
from lohi_edge.commands import queue as queue_commands
from lohi_edge.commands import volumes as volumes_commands
from lohi_edge.commands import watch as watch_commands
from lohi_edge.errors import LohiError

RESEARCH = "Research use only: results are synthetic images, not for diagnosis."
app = typer.Typer(
    name="lohi-edge",
    help=f"Synthetic 3 T-like images from portable 64 mT head scans.\n\n{RESEARCH}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(bundle_commands.app, name="bundle")
device_commands.register(app)
watch_commands.register(app)
queue_commands.register(app)
quality_commands.register(app)
app.command()(volumes_commands.volumes)
app.add_typer(engine.app, name="engine")
dicom_commands.register(app)


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


class Prefer(str, Enum):
    sform = "sform"
    qform = "qform"


class RuntimeName(str, Enum):
    auto = "auto"
    tensorrt = "tensorrt"
    openvino = "openvino"
    onnxruntime = "onnxruntime"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Bundle directory.  [default: the one that ships]"),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads.  [default: one per core]"),
]
RuntimeOption = Annotated[
    RuntimeName, typer.Option("--runtime", help="What computes; auto: the fastest accepted here.")
]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="What it computes in; auto: the fastest accepted.")
]


@app.command()
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
        typer.Option(help="Contrast of the scans.  [default: by file name, then sidecar]"),
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
    prefer: Annotated[
        Prefer | None,
        typer.Option(help="Transform to believe where sform and qform contradict each other."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace other results in the way.")] = False,
    as_bids: Annotated[
        bool,
        typer.Option("--bids", help="INPUT is BIDS_DIR OUT participant, as in BIDS apps."),
    ] = False,
    as_json: Json = False,
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
    and results of this command are skipped.
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
    from lohi_edge.pipeline import Models

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
        _print_json([outcome.to_dict() for outcome in outcomes])
    raise typer.Exit(batch.exit_code(outcomes))


@app.command()
def bench(
    scan: Annotated[
        Path | None,
        typer.Argument(help="NIfTI file.  [default: the demo scan]"),
    ] = None,
    bundle: BundleOption = None,
    runs: Annotated[int, typer.Option(min=1, help="Warm runs.")] = 5,
    threads: Threads = None,
    runtime: RuntimeOption = RuntimeName.auto,
    precision: PrecisionOption = Precision.auto,
    quality: Annotated[
        Path | None,
        typer.Option(help="Instead: does the quality check catch faults? On this simulated data."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Of --quality: where figures go.")] = (
        Path("quality-bench")
    ),
    side_by_side: Annotated[
        bool,
        typer.Option("--compare", help="The generator alone, on everything accepted here."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Time every phase of an enhancement, cold and warm, on this machine.

    With --quality, measure instead what the quality check catches, on pairs written by
    `lohi-export simulate`: limits are set on heads 01-12 and reported on 13-16. A run that was
    interrupted goes on where it was.

    With --compare time the generator alone instead: every runtime and precision, at batch 1 and 8,
    turn by turn in --runs rounds, and FP32 against the processor's peak.

    Examples:

      lohi-edge bench scan.nii.gz --runs 10 --threads 2

      lohi-edge bench --quality pairs/ -o quality-bench/

      lohi-edge bench --compare --threads 1 --runs 9
    """
    if quality:
        from lohi_edge.commands.quality import bench as bench_quality

        bench_quality(quality, out, bundle, threads, as_json)
        return
    from lohi_edge import bench as benchmark
    from lohi_edge import console, demo

    if side_by_side:
        from lohi_edge.compare import compare

        with console.bar("rounds", as_json) as bar:
            table = compare(bundle, runs, threads, lambda done, total: bar(done, total, ""))
        _print_json(table) if as_json else console.show_compare(table)
        return
    report = benchmark.measure(
        scan or demo.SCAN, bundle, runs, threads, runtime.value, precision.value
    )
    _print_json(report) if as_json else console.show_bench(report)


@app.command(name="demo")
def run_demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.")] = Path(
        "demo-out"
    ),
    as_json: Json = False,
) -> None:
    """Enhance the simulated scan that ships, and compare with the truth it was simulated from.

    Example: lohi-edge demo -o demo-out
    """
    from lohi_edge import console, demo

    report = demo.run(out)
    _print_json(report) if as_json else console.show_demo(report)


def _folder(out: Path | None) -> Path | None:
    from lohi_edge.errors import UsageError

    if out and (out.name.endswith((".nii", ".nii.gz")) or (out.exists() and not out.is_dir())):
        raise UsageError(f"expected a folder for --out, got {out}; results name themselves")
    return out


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def run_app(command: Callable[..., Any]) -> None:
    """Run a Typer app; a user's error becomes one line on stderr and its exit code."""
    try:
        command()
    except LohiError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def main() -> None:
    run_app(app)
