"""Commands about this device: doctor, selftest, settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lohi_edge.commands.options import Config, Json, print_json

SLOW = 7  # the exit code where all is right but slower than the budget


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(doctor)
    app.command()(selftest)
    app.command()(settings)


def settings(
    config: Config = None,
    folders: Annotated[
        bool, typer.Option("--folders", help="Ask as well that inbox and outbox are there.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the settings in force: defaults, over them the file, over that the environment.

    Exit codes: 0, 2 where `watch` would refuse them: a setting that does not exist or is no value,
    or with --folders a folder that is not there.

    Examples:

      lohi-edge settings

      lohi-edge settings --config new.toml --folders
    """
    from lohi_edge.commands.watch import with_state
    from lohi_edge.console import show_mapping
    from lohi_edge.settings import load
    from lohi_edge.watch import network

    found = with_state(load(config))
    network.check(found)
    if folders:
        from lohi_edge.watch.folders import folders as check_folders

        check_folders(found)
    values = found.to_dict()
    print_json(values) if as_json else show_mapping(values)


def doctor(
    state: Annotated[
        Path | None,
        typer.Option("--state", help="State folder of the daemon.  [default: as for watch]"),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Look at everything that must be right on this device, with the fix beside what is not.

    Changes nothing. Run it as the daemon's user: what that user may not do, the daemon may not do.

    Exit codes: 0 nothing failed, 1 something did, 2 usage or settings.

    Example: sudo -u lohi-edge lohi-edge doctor
    """
    from lohi_edge.commands.watch import with_state
    from lohi_edge.device import doctor as checks
    from lohi_edge.settings import file_in_use, load

    settings = with_state(load(config))
    where = state or Path(str(settings.watch.state))
    report = checks.examine(checks.Context(settings, where, config or file_in_use()))
    if as_json:
        print_json(report)
    else:
        sys.stdout.write("\n".join(checks.lines(report)) + "\n")
    raise typer.Exit(0 if report["healthy"] else 1)


def selftest(
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Bundle directory.  [default: the one the daemon uses for T1w]"
        ),
    ] = None,
    roll_back: Annotated[
        bool,
        typer.Option(
            "--rollback", help="Where the active bundle fails, go back to the one before it."
        ),
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Enhance the scan that ships, from inbox to outbox of a private daemon, and compare.

    The result must agree with the golden output (what fp32.onnx gives on onnxruntime, kept since
    the first run) as closely as the bundle grants its precision, and must not be farther from the
    scan's 3 T truth than the scan. Each phase is timed against the latency budget.

    Exit codes: 0 passed, 1 not tested (killed, out of time), 2 usage, 4 the result is not what it
    must be, 5 bundle or engine refused, 6 disk, 7 right, but slower than the budget. --rollback
    goes back after 4, and after 5 where the bundle itself is damaged or computes wrongly here.

    Examples:

      lohi-edge selftest

      lohi-edge selftest --rollback --json
    """
    from lohi_edge.device import update
    from lohi_edge.settings import load

    report = update.check_active(bundle, load(config), roll_back, _say)
    if as_json:
        print_json(report)
    else:
        _show(report)
    raise typer.Exit(0 if not report.get("slow") else SLOW)


def _show(report: dict[str, Any]) -> None:
    from lohi_edge.device.selftest import summary

    sys.stdout.write(summary(report) + "\n")
    for name, phase in report.get("phases", {}).items():
        mark = "" if phase["within"] else "  SLOW"
        budget = phase["budget_s"]
        sys.stdout.write(f"  {name:9} {phase['seconds']:8.3f} s of {budget:g} s{mark}\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
