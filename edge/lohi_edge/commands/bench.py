"""lohi-edge bench and demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lohi_edge.commands.options import (
    BundleOption,
    Json,
    Precision,
    PrecisionOption,
    RuntimeName,
    RuntimeOption,
    Threads,
    print_json,
)


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
    scanner: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead: what limits of a scanner's own scans catch. Data of `simulate "
            "--scanner`; again for each scanner."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Of --quality and --scanner: where figures go.")
    ] = Path("quality-bench"),
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

    With --scanner, measure what limits catch that `lohi-edge limits` learns: those of 15 heads and
    more are put to the one left out.

    With --compare time the generator alone instead: every runtime and precision, at batch 1 and 8,
    turn by turn in --runs rounds, and FP32 against the processor's peak.

    Examples:

      lohi-edge bench scan.nii.gz --runs 10 --threads 2

      lohi-edge bench --quality pairs/ -o quality-bench/

      lohi-edge bench --scanner scanner-1/ --scanner scanner-2/ -o own-limits-bench/

      lohi-edge bench --compare --threads 1 --runs 9
    """
    from lohi_edge.errors import UsageError

    if sum(map(bool, (quality, scanner, side_by_side))) > 1:
        raise UsageError("expected one of --quality, --scanner and --compare, got several")
    if quality:
        from lohi_edge.commands.quality import bench as bench_quality

        bench_quality(quality, out, bundle, threads, as_json)
        return
    if scanner:
        from lohi_edge.commands.quality import bench_own_limits

        bench_own_limits(scanner, out, as_json)
        return
    from lohi_edge import bench as benchmark
    from lohi_edge import console, demo

    if side_by_side:
        from lohi_edge.compare import compare

        with console.bar("rounds", as_json) as bar:
            table = compare(bundle, runs, threads, lambda done, total: bar(done, total, ""))
        print_json(table) if as_json else console.show_compare(table)
        return
    report = benchmark.measure(
        scan or demo.SCAN, bundle, runs, threads, runtime.value, precision.value
    )
    print_json(report) if as_json else console.show_bench(report)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results.")] = Path(
        "demo-out"
    ),
    as_json: Json = False,
) -> None:
    """Enhance the simulated scan that ships, and compare with the truth it was simulated from.

    Example: lohi-edge demo -o demo-out
    """
    from lohi_edge import console
    from lohi_edge import demo as shipped

    report = shipped.run(out)
    print_json(report) if as_json else console.show_demo(report)
