"""lohi-edge engine: TensorRT engines for this machine's GPU."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Build, accept and list TensorRT engines of this GPU.", no_args_is_help=True)
_AS_DAEMON = "sudo -u lohi-edge lohi-edge engine build"


class EnginePrecision(str, Enum):
    int8 = "int8"
    fp16 = "fp16"
    fp32 = "fp32"


BundleArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="BUNDLE", help="Bundle directory or .zip.  [default: every bundle in use here]"
    ),
]
PrecisionOption = Annotated[
    EnginePrecision | None,
    typer.Option("--precision", help="[default: every one that a bundle has]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command()
def build(
    path: BundleArgument = None,
    precision: PrecisionOption = None,
    batch: Annotated[str, typer.Option(help="Batch sizes MIN,OPT,MAX.")] = "1,8,8",
    workspace: Annotated[int, typer.Option(min=1, help="Workspace limit in MB.")] = 512,
    timing_cache: Annotated[
        Path | None, typer.Option(help="Timing cache file.  [default: this machine's own]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Build engines of the bundles on this GPU, and accept each on the golden slices.

    Takes minutes an engine. The build runs in a process of its own. Engines are for the user who
    builds them alone: on a device do it as the daemon's, and restart the daemon after it. Exit 5
    where an engine asked for is not accepted; what is then used instead is said.

    Examples:

      sudo -u lohi-edge lohi-edge engine build

      lohi-edge engine build t1w-edge --precision fp16 --batch 1,8,16 --workspace 256
    """
    from lohi_edge.engine import report
    from lohi_edge.engine.build import Profile

    profile = Profile.parse(batch)
    found, target, store = report.open_all(path)
    if store.is_not_the_daemon_s():
        sys.stderr.write(f"warning: built for {store.root} alone; for the daemon: {_AS_DAEMON}\n")
    rows = []
    for bundle in found:
        wanted = [precision.value] if precision else report.precisions(bundle)
        rows += report.build_and_accept(
            bundle, wanted, profile, workspace, timing_cache, target, store
        )
    _finish(rows, as_json)


@app.command()
def accept(path: BundleArgument = None, as_json: Json = False) -> None:
    """Run the golden slices on every engine of the bundles, now; exit 5 where one fails.

    An engine without a passing record is never used: INT8 gives way to FP16, FP16 to the CPU.

    Example: lohi-edge engine accept
    """
    from lohi_edge.engine import report

    found, target, store = report.open_all(path)
    _finish([row for b in found for row in report.accept_all(b, target, store)], as_json)


@app.command()
def show(as_json: Json = False) -> None:
    """List the engines that this machine built.

    Example: lohi-edge engine show --json
    """
    from lohi_edge.engine import report

    rows = report.list_all()
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    elif not rows:
        sys.stdout.write("no engines; build them with: lohi-edge engine build\n")
    else:
        _print(rows)


@app.command()
def clear() -> None:
    """Remove every engine of this machine; bundles stay.

    Example: lohi-edge engine clear
    """
    from lohi_edge.engine.cache import EngineCache
    from lohi_edge.store import Store

    sys.stdout.write(f"removed {EngineCache(Store()).clear()} engines\n")


def _finish(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        _print(rows)
    raise typer.Exit(0 if rows and all(row["accepted"] for row in rows) else 5)


def _print(rows: list[dict[str, Any]]) -> None:
    from lohi_edge.console import show_mapping

    for row in rows:
        show_mapping(row)
        sys.stdout.write("\n")
