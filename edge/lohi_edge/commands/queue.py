"""Commands on what the daemon has recorded: queue, audit."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lohi_edge.commands.options import Config, Json, print_json
from lohi_edge.commands.watch import State, state_of

queue_app = typer.Typer(help="Look at the daemon's queue and change it.", no_args_is_help=True)
audit_app = typer.Typer(help="The daemon's audit log.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="SCAN", help="Number from `queue list`.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.add_typer(queue_app, name="queue")
    app.add_typer(audit_app, name="audit")


@queue_app.command(name="list")
def list_queue(
    state: State = None,
    config: Config = None,
    every: Annotated[bool, typer.Option("--all", help="Delivered scans too.")] = False,
    as_json: Json = False,
) -> None:
    """List the scans that wait, run, or need somebody.

    Example: lohi-edge queue list --all
    """
    from lohi_edge.watch import queue

    rows = queue.rows(state_of(state, config), every)
    print_json(rows) if as_json else queue.show(rows)


@queue_app.command()
def show(scan: Number, state: State = None, config: Config = None, as_json: Json = False) -> None:
    """Print all that the ledger knows of one scan.

    Example: lohi-edge queue show 1
    """
    from lohi_edge.console import show_mapping
    from lohi_edge.watch import queue

    found = queue.one(state_of(state, config), scan)
    print_json(found) if as_json else show_mapping(found)


@queue_app.command()
def retry(
    scan: Annotated[
        int | None, typer.Argument(metavar="SCAN", help="Number from `queue list`.")
    ] = None,
    sends: Annotated[
        bool, typer.Option("--sends", help="Every result that is not sent yet, instead.")
    ] = False,
    state: State = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Try a scan again, or the sending of results.

    SCAN was held, failed or quarantined; or it is done, and its sending was given up. What waits
    for a node that does not answer was not given up: it is tried again by itself, after up to an
    hour, and with this at once. Exits with 3 where a job of sending is damaged.

    Examples:

      lohi-edge queue retry 2

      lohi-edge queue retry --sends --json
    """
    from lohi_edge.errors import UsageError
    from lohi_edge.watch import control

    if (scan is None) != sends:
        raise UsageError(f"expected SCAN or --sends, got {'both' if sends else 'neither'}")
    answer = control.ask(state_of(state, config), "resend" if sends else "retry", scan)
    print_json(answer) if as_json else sys.stdout.write(f"{answer['did']}\n")
    raise typer.Exit(3 if answer.get("damaged") else 0)


@queue_app.command()
def drop(scan: Number, state: State = None, config: Config = None) -> None:
    """Take a waiting scan out of the queue; its original stays untouched.

    Example: lohi-edge queue drop 3
    """
    from lohi_edge.watch import control

    sys.stdout.write(control.ask(state_of(state, config), "drop", scan)["did"] + "\n")


@audit_app.command()
def verify(state: State = None, config: Config = None, as_json: Json = False) -> None:
    """Check the audit log against its own chain, the ledger and the receipts; exit 3 on a fault.

    The log of installed bundles, beside them, is checked against its own chain as well.

    Finds any edit, removal or reorder before the last line that ledger or receipts know. It cannot
    find that later lines were cut off.

    Example: lohi-edge audit verify
    """
    from lohi_edge.watch import queue

    found = queue.verify_audit(state_of(state, config))
    if as_json:
        print_json(found)
    else:
        for fault in found["faults"]:
            sys.stdout.write(f"fault: {fault}\n")
        sys.stdout.write(f"{found['lines']} lines, {found['anchors']} known heads, ")
        sys.stdout.write("no fault\n" if not found["faults"] else "NOT intact\n")
    raise typer.Exit(3 if found["faults"] else 0)
