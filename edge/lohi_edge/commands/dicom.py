"""Commands of the DICOM network: receive, send, echo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lohi_edge.dicom.tls import Tls

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
    inbox: Annotated[Path, typer.Argument(help="Folder for what arrives.")],
    caller: Annotated[
        list[str], typer.Option("--caller", help="AE title that may send; repeat for several.")
    ],
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
) -> None:
    """Receive MR series from a scanner or PACS into INBOX, until stopped.

    Success is answered when an instance is on disk, not before. Every series gets a folder.

    Example: lohi-edge receive inbox/ --caller SCANNER --host 0.0.0.0 --peer 10.0.0.7
    """
    import signal

    from lohi_edge.dicom.receive import Listening, Receiver
    from lohi_edge.watch.localfs import not_mounted

    listening = Listening(
        title=title,
        host=host,
        port=port,
        callers=tuple(caller),
        peers=tuple(peer or ()),
        tls=_tls(tls_cert, tls_key, tls_ca),
        reserve=reserve_mb << 20,
    )
    if point := not_mounted(inbox):
        _say(f"warning: {point} is not mounted: everything is refused until it is")
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with Receiver(inbox, listening, _say) as receiver:
        _say(f"listening as {title} on {host}:{receiver.port}")
        signal.sigwait(signals)


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

    node, tls = scu.Node.parse(to, title), _tls(tls_cert, tls_key, tls_ca)
    if queue is None:
        _say(f"{node}: stored {scu.send(paths, node, tls)} instances")
        return
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
