"""Commands of the DICOM network: receive, send, echo."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lohi_edge.commands.options import Config

if TYPE_CHECKING:
    from lohi_edge.dicom.tls import Tls

LOOK_S = 2.0  # between two looks at which inbox the settings name

Certificate = Annotated[
    Path | None, typer.Option("--tls-cert", help="Our certificate (PEM); turns TLS on.")
]
Key = Annotated[Path | None, typer.Option("--tls-key", help="Its private key (PEM).")]
Authority = Annotated[
    Path | None, typer.Option("--tls-ca", help="Certificate (PEM) that signed the other end's.")
]
Title = Annotated[str, typer.Option("--title", help="Our AE title.")]
To = Annotated[str, typer.Option("--to", help="The other node, as TITLE@host:port.")]


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
        tls=_tls(tls_cert, tls_key, tls_ca),
        reserve=reserve_mb << 20,
    )
    folder = inbox or _inbox_of(config)
    with Receiver(folder, listening, _say) as receiver:
        _warn_of(folder)
        _say(f"listening as {title} on {host}:{receiver.port}, into {folder}")
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
        _say(f"warning: {point} is not mounted: everything is refused until it is")
    elif not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        _say(f"warning: {folder} cannot be written: everything is refused until it can be")


def send(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="DICOM files or folders.")],
    to: To,
    title: Title = "LOHI_EDGE",
    queue: Annotated[
        Path | None,
        typer.Option("--queue", help="Queue here first and keep what cannot be sent yet."),
    ] = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_ca: Authority = None,
) -> None:
    """Send DICOM series to a PACS or viewer.

    With --queue a job survives crashes and outages; each further call tries every job that is due,
    and of a node that is away the first one alone.
    Exits with 7 where the other node does not answer or refuses.

    Example: lohi-edge send results/series-3-1a2b3c4d_desc-synthetic --to PACS@10.0.0.5:104
    """
    from lohi_edge.dicom import send as scu
    from lohi_edge.dicom.sendqueue import Queue
    from lohi_edge.errors import BadInput
    from lohi_edge.files import is_directory, may_be_file

    node, tls = scu.Node.parse(to, title), _tls(tls_cert, tls_key, tls_ca)
    if queue is None:
        _say(f"{node}: stored {scu.send(paths, node, tls)} instances")
        return
    for path in paths:
        # What is not there now will hardly come; the queue would wait for it.
        if not is_directory(path) and not may_be_file(path):
            raise BadInput(
                f"{path}: expected a DICOM file or folder, found nothing; check the path"
            )
    jobs = Queue(queue, tls)
    jobs.add(paths, node)
    failed = jobs.run()
    for line in failed:
        sys.stderr.write(f"error: {line}\n")
    _say(f"{len(jobs.pending())} jobs left in {queue}")
    raise typer.Exit(scu.NetworkError.exit_code if failed else 0)


def echo(
    to: To,
    title: Title = "LOHI_EDGE",
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_ca: Authority = None,
) -> None:
    """Ask another DICOM node whether it is there (C-ECHO).

    Example: lohi-edge echo --to PACS@10.0.0.5:104
    """
    from lohi_edge.dicom import send as scu

    node = scu.Node.parse(to, title)
    seconds = scu.echo(node, _tls(tls_cert, tls_key, tls_ca))
    _say(f"{node}: answered in {1000 * seconds:.0f} ms")


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


def _tls(certificate: Path | None, key: Path | None, authority: Path | None) -> Tls | None:
    from lohi_edge.dicom.tls import Tls
    from lohi_edge.errors import UsageError

    if not any((certificate, key, authority)):
        return None
    if not (certificate and key and authority):
        raise UsageError("expected --tls-cert, --tls-key and --tls-ca together")
    return Tls(certificate, key, authority)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
