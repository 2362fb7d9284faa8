"""Commands of the DICOM network: receive and bench-dicom, beside those that send."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from lohi_edge.commands.dicom_send import (
    Authority,
    Certificate,
    Key,
    Title,
    echo,
    say,
    send,
    tls_of,
)
from lohi_edge.commands.options import Config

LOOK_S = 2.0  # between two looks at which inbox the settings name


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(receive)
    app.command()(send)
    app.command()(echo)
    app.command(name="bench-dicom")(bench)


def receive(
    caller: Annotated[
        list[str], typer.Option("--caller", help="AE title that may send; repeat for several.")
    ],
    inbox: Annotated[
        Path | None,
        typer.Argument(help="Folder for what arrives.  [default: watch.inbox of the settings]"),
    ] = None,
    title: Title = "LOHI_EDGE",
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 11112,
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", help="IP address or network that may connect.  [default: any]"),
    ] = None,
    reserve_mb: Annotated[int, typer.Option(min=0, help="MB of disk that stay free.")] = 2048,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_ca: Authority = None,
    config: Config = None,
) -> None:
    """Receive MR series from a scanner or PACS into INBOX, until stopped.

    Success is answered when an instance is on disk, not before. Every series gets a folder. Without
    INBOX it is the daemon's; where the settings come to name another, this ends with 2, for what
    went on into the old one nobody would look at.

    Examples:

      lohi-edge receive inbox/ --caller SCANNER --host 0.0.0.0 --peer 10.0.0.7

      lohi-edge receive --config /etc/lohi-edge/config.toml --caller SCANNER
    """
    import signal

    # Before anything starts a thread: one that does not block them would take them.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    from lohi_edge.dicom.receive import Listening, Receiver

    listening = Listening(
        title=title,
        host=host,
        port=port,
        callers=tuple(caller),
        peers=tuple(peer or ()),
        tls=tls_of(tls_cert, tls_key, tls_ca),
        reserve=reserve_mb << 20,
    )
    folder = inbox or _inbox_of(config)
    with Receiver(folder, listening, say) as receiver:
        _warn_of(folder)
        say(f"listening as {title} on {host}:{receiver.port}, into {folder}")
        while signal.sigtimedwait(signals, LOOK_S) is None:
            if inbox is None:
                _require_same(folder, config)


def _inbox_of(config: Path | None) -> Path:
    """The inbox of the settings.

    Raises:
        UsageError: they name none, or one that is not there.
    """
    from lohi_edge.errors import UsageError
    from lohi_edge.files import is_directory
    from lohi_edge.settings import load

    named = load(config).watch.inbox
    if named is None:
        raise UsageError("expected a folder for what arrives, got none; name it, or watch.inbox")
    if not is_directory(Path(named)):
        raise UsageError(f"{named}: expected a folder for the inbox, found none; create it")
    return Path(named)


def _require_same(folder: Path, config: Path | None) -> None:
    """Stop where the settings have come to name another inbox than `folder`.

    Raises:
        UsageError: they have.
    """
    from lohi_edge.errors import UsageError
    from lohi_edge.settings import load

    try:
        named = load(config).watch.inbox
    except UsageError:
        return  # just being edited; a daemon keeps the old ones then as well
    if named and Path(named) != folder:
        raise UsageError(
            f"the settings now name {named} as the inbox: receiving into {folder} has ended; "
            "start it again"
        )


def _warn_of(folder: Path) -> None:
    """Say why everything will be refused; what is wrong may be put right while this runs."""
    from lohi_edge.watch.localfs import not_mounted

    if point := not_mounted(folder):
        say(f"warning: {point} is not mounted: everything is refused until it is")
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        say(f"warning: {folder} cannot be written: everything is refused until it can be")


def bench(
    slices: Annotated[int, typer.Option(min=2, help="Of the made-up series.")] = 200,
    runs: Annotated[int, typer.Option(min=1, help="Runs; the median is told.")] = 5,
) -> None:
    """Time DICOM on this machine: a series read, a derived one written, instances received.

    Example: lohi-edge bench-dicom --runs 3
    """
    from lohi_edge.console import show_mapping
    from lohi_edge.dicom.bench import measure

    show_mapping(measure(slices, runs=runs))
