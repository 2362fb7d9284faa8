"""Commands of precision and trust: calibrate, build-engine, verify, keygen, sign."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

BundleArgument = Annotated[Path, typer.Argument(help="Bundle directory.")]
SubjectsOption = Annotated[
    str | None, typer.Option(help="Comma-separated, e.g. 11,12 [default: as the bundle says].")
]
CacheOption = Annotated[Path | None, typer.Option(help="Slice cache [default: DATA/.slices].")]


def calibrate(
    bundle: BundleArgument,
    data: Annotated[Path, typer.Option(help="Paired data set (BIDS layout).")],
    out: Annotated[
        Path | None, typer.Option(help="Bundle directory to make instead; must not exist.")
    ] = None,
    budget_db: Annotated[float, typer.Option(min=0.01, help="PSNR that INT8 may lose (dB).")] = 0.3,
    slices: Annotated[int, typer.Option(help="Calibration slices.")] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    subjects: SubjectsOption = None,
    cache: CacheOption = None,
) -> None:
    """Add FP16 and INT8 files to a bundle, within an accuracy budget against FP32 and the truth.

    Measures what quantizing each layer costs and saves (OUT.calibration/sensitivity.csv and .png),
    then leaves the most sensitive layers unquantized until the budget holds. Interrupted, it goes
    on where it stopped. Without --out BUNDLE itself gets the files and keeps its serial; what
    --out names is a release of the next serial. The result needs signing again.

    Examples:

      lohi-export calibrate t1w-edge --data pairs

      lohi-export calibrate t1w-edge --data pairs --out t1w-edge-int8 --budget-db 0.2
    """
    from lohi_calibration.overflow import overflows
    from lohi_edge.bundle import load
    from lohi_edge.errors import UsageError
    from lohi_export import precision, precision_data

    if out is None and not bundle.is_dir():
        raise UsageError(f"expected a bundle directory to write into, or --out, got {bundle}")
    opened, out = load(bundle), out or bundle
    named = _names(subjects)
    precision_data.refuse_reported(data, opened.manifest, named)
    names = named or precision_data.part_of(opened.manifest, "validation")
    chosen = precision_data.load(data, opened.manifest, names, slices, seed, cache)
    if overflows():
        sys.stderr.write(
            "INT8 sums overflow on this processor (x86 without VNNI): what INT8 computes "
            "elsewhere is told in FP32, and this processor will run no INT8\n"
        )
    with _progress() as stage:
        manifest = precision.calibrate(opened, chosen, out, budget_db, stage)
    sys.stdout.write(json.dumps(manifest.metrics["precision"], indent=2) + f"\n{out}\n")


def build_engine(
    bundle: BundleArgument,
    precision: Annotated[
        str | None, typer.Option(help="fp16, int8 or fp32 [default: all].")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes MIN,OPT,MAX.")] = "1,8,8",
    workspace: Annotated[int, typer.Option(min=1, help="Workspace limit in MB.")] = 512,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Timing cache file [default: this machine's own].")
    ] = None,
) -> None:
    """Build and accept TensorRT engines for the GPU of this machine, as `lohi-edge engine build`.

    Example: lohi-export build-engine t1w-edge --precision fp16 --batch 1,8,16
    """
    from lohi_edge.engine import report
    from lohi_edge.engine.build import Profile
    from lohi_edge.errors import UsageError

    profile = Profile.parse(batch)
    if precision not in (None, "fp16", "int8", "fp32"):
        raise UsageError(f"expected --precision fp16, int8 or fp32, got {precision}")
    (opened,), target, store = report.open_all(bundle)
    wanted = [precision] if precision else report.precisions(opened)
    rows = report.build_and_accept(opened, wanted, profile, workspace, timing_cache, target, store)
    sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    raise typer.Exit(0 if all(row["accepted"] for row in rows) else 5)


def verify(
    bundle: BundleArgument,
    data: Annotated[
        Path | None, typer.Option(help="Paired data set; its test subjects are measured too.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path(
        "verify-out"
    ),
    subjects: SubjectsOption = None,
    cache: CacheOption = None,
) -> None:
    """Report every precision on every runtime here: errors and latency; exit 5 on a failed gate.

    With --data also PSNR, SSIM and the volumes of brain regions on heads no model was fitted on.

    Example: lohi-export verify t1w-edge --data pairs --out report
    """
    from lohi_edge.bundle import load
    from lohi_edge.files import atomic_write, make_directory
    from lohi_export import precision_data
    from lohi_export import verify as verifying
    from lohi_export.steps import of_bundle

    opened = load(bundle)
    if (steps := of_bundle(opened.manifest)) and steps.warning:
        sys.stderr.write(f"the training behind {bundle} {steps.warning}\n")
    held_out = []
    if data:
        named = _names(subjects)
        precision_data.refuse_learned(data, opened.manifest, named)
        names = named or precision_data.part_of(opened.manifest, "test")
        if known := precision_data.learned_before(data, opened.manifest, names):
            sys.stderr.write(
                f"the weights that this bundle's training began with learned from "
                f"{', '.join(known)}: figures on them will flatter\n"
            )
        held_out = precision_data.heads(data, opened.manifest, names, cache)
    make_directory(out)  # before minutes of work that could not be written
    with _progress() as stage:
        report = verifying.verify(opened, held_out, stage("Runtimes"), _region_volumes(held_out))
    for name, text in (
        ("report.json", verifying.to_json(report)),
        ("report.html", verifying.to_html(report)),
    ):
        with atomic_write(out / name) as file:
            file.write(text.encode())
    sys.stdout.write("".join(f"failed: {gate}\n" for gate in report["gates"]))
    sys.stdout.write(f"{'passed' if report['passed'] else 'FAILED'}: {out / 'report.html'}\n")
    raise typer.Exit(0 if report["passed"] else 5)


def keygen(
    stem: Annotated[Path, typer.Argument(help="STEM.key and STEM.pub are written.")],
) -> None:
    """Make an Ed25519 key pair; STEM.pub goes into /etc/lohi-edge/keys of a device.

    Example: lohi-export keygen maker
    """
    from lohi_edge import signing

    for path in signing.keygen(stem):
        sys.stdout.write(f"{path}\n")


def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="Private key of `lohi-export keygen`.")],
) -> None:
    """Sign a bundle's manifest, and through it every file.

    Example: lohi-export sign t1w-edge --key maker.key
    """
    from lohi_edge import signing
    from lohi_edge.bundle import load

    load(bundle)
    sys.stdout.write(f"{signing.sign(bundle, key)}\n")


def register(app: typer.Typer) -> None:
    """Put every command on the app."""
    for command in (calibrate, build_engine, verify, keygen, sign):
        app.command()(command)


def _region_volumes(held_out: Sequence[Any]) -> Callable[[Any], dict[str, float]] | None:
    """What measures brain regions, where there is something to measure."""
    if not held_out:
        return None
    from lohi_edge.quality.morphometry import Segmenter, region_volumes

    segmenter = Segmenter()
    return lambda volume: region_volumes(segmenter.segment(volume))


def _names(text: str | None) -> list[str]:
    """Subjects of --subjects; none where it is not given.

    Raises:
        UsageError: a name in it is empty.
    """
    from lohi_edge.errors import UsageError

    if text is None:
        return []
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"expected --subjects such as 11,12, got {text!r}")
    return names


@contextmanager
def _progress() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Bars on a terminal, one a stage; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bars:

        def stage(title: str) -> Callable[[int, int], None]:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield stage
