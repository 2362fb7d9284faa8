"""Commands of the daemon: watch, status, bench-watch; queue and audit stand in `queue`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lohi_edge.commands.options import Config, Json, print_json

State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="State folder of the daemon.  [default: setting watch.state, $STATE_DIRECTORY, "
        "~/.local/state/lohi-edge]",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(watch)
    app.command()(status)
    app.command(name="bench-watch")(bench)


def watch(
    inbox: Annotated[Path | None, typer.Argument(help="Folder where scans arrive.")] = None,
    outbox: Annotated[Path | None, typer.Argument(help="Folder for results.")] = None,
    state: State = None,
    config: Config = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Bundle directory.  [default: the one that ships]"),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option("--http-port", help="Serve health and metrics on loopback.")
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(
            "--page",
            metavar="[HOST:]PORT",
            help="Serve a web page, read-only, with "
            "queue, verdicts and pictures; on loopback unless HOST is named.",
        ),
    ] = None,
) -> None:
    """Enhance every scan that arrives in INBOX, for ever, losing none.

    Each result is a folder in OUTBOX with image and receipt. Stop it with Ctrl-C or SIGTERM at any
    time; starting it again carries on. SIGHUP reads the settings again.

    Exit codes: 0 stopped, 2 usage or another daemon is there, 5 model refused, 6 disk.

    Examples:

      lohi-edge watch /srv/inbox /srv/outbox

      lohi-edge watch /srv/inbox /srv/outbox --page 8080

      lohi-edge watch --config /etc/lohi-edge/config.toml
    """
    from lohi_edge.settings import load
    from lohi_edge.watch.service import Daemon

    watching = {"inbox": inbox, "outbox": outbox, "state": state}
    given: dict[str, dict[str, Any]] = {
        "watch": {key: str(value) for key, value in watching.items() if value},
        "enhance": {"bundle": str(bundle)} if bundle else {},
        "http": {k: v for k, v in (("port", http_port), ("page", page)) if v is not None},
    }

    def read() -> Any:
        settings = load(config, overrides=given)
        return with_state(settings)

    Daemon(read(), read).run()


def bench(
    scan: Annotated[
        Path | None, typer.Argument(help="NIfTI file.  [default: the demo scan]")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Bundle directory.  [default: the one that ships]"),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Rounds.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    soak: Annotated[
        int, typer.Option(min=0, help="Measure memory over so many scans instead.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Measure the daemon on this machine: overhead over bare enhance, reaction, idling, backlog.

    Examples:

      lohi-edge bench-watch --runs 2

      lohi-edge bench-watch small.nii --soak 2000
    """
    from lohi_edge import demo
    from lohi_edge.console import bar, show_mapping
    from lohi_edge.watch import bench as benchmark

    scan = scan or demo.SCAN
    with bar("scans" if soak else "steps") as progress:
        found = (
            benchmark.soak(scan, bundle, soak, progress)
            if soak
            else benchmark.measure(scan, bundle, threads, runs, progress, _tell)
        )
    print_json(found) if as_json else show_mapping(found)


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")  # above the progress bar, where there is one


def status(state: State = None, config: Config = None, as_json: Json = False) -> None:
    """Say how the daemon is: queue, last verdicts, model, temperature, disk.

    Example: lohi-edge status --json
    """
    from lohi_edge.console import show_mapping
    from lohi_edge.watch import status as reading

    found = reading.read(state_of(state, config))
    print_json(found) if as_json else show_mapping(_readable(found))


def default_state() -> Path:
    """$STATE_DIRECTORY of systemd, else the user's own state folder."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "lohi-edge"


def with_state(settings: Any) -> Any:
    """Settings that name a state folder."""
    from dataclasses import replace

    if settings.watch.state:
        return settings
    return replace(settings, watch=replace(settings.watch, state=str(default_state())))


def state_of(state: Path | None, config: Path | None) -> Path:
    """The state folder that is meant.

    Raises:
        UsageError: there is none.
    """
    from lohi_edge.settings import load
    from lohi_edge.watch.status import require

    if state is None:
        state = Path(with_state(load(config)).watch.state)
    return require(state)


def _readable(found: dict[str, Any]) -> dict[str, Any]:
    last = {
        f"scan {row['scan']}": f"{row['state']} {row['verdict'] or ''}" for row in found["last"]
    }
    put_off = {f"scan {row['scan']}": row["reason"] for row in found["put_off"]}
    return {**found, "put_off": put_off, "last": last}
