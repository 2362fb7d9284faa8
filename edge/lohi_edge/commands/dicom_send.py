"""Commands that send over the DICOM network: send, echo; and what all commands on it share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lohi_edge.dicom.sendqueue import Queue
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


def send(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="DICOM files or folders.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The other node, as TITLE@host:port.")
    ] = None,
    title: Title = "LOHI_EDGE",
    queue: Annotated[
        Path | None,
        typer.Option("--queue", help="Queue here first and keep what cannot be sent yet."),
    ] = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry", help="Try all that is in --queue now, what was set aside too; no PATH."
        ),
    ] = False,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_ca: Authority = None,
) -> None:
    """Send DICOM series to a PACS or viewer.

    With --queue a job survives crashes and outages; each further call tries every job that is due,
    and of a node that is away the first one alone. A job whose files are no DICOM is set aside
    (failed-*.json in the queue): mend them, then --retry.
    Exits with 7 where the other node does not answer or refuses, or a job is set aside; with 3
    where --retry finds one that is damaged.

    Examples:

      lohi-edge send results/series-3-1a2b3c4d_desc-synthetic --to PACS@10.0.0.5:104

      lohi-edge send --queue outgoing --retry
    """
    from lohi_edge.dicom import send as scu
    from lohi_edge.dicom.sendqueue import Queue
    from lohi_edge.errors import BadInput, UsageError
    from lohi_edge.files import is_directory, may_be_file

    tls = tls_of(tls_cert, tls_key, tls_ca)
    if retry:
        if paths or to or queue is None:
            raise UsageError("expected --retry with --queue alone: its jobs name files and node")
        raise typer.Exit(_retry(queue, tls))
    if not paths or not to:
        raise UsageError("expected PATH and --to; with --queue and --retry neither")
    node = scu.Node.parse(to, title)
    if queue is None:
        say(f"{node}: stored {scu.send(paths, node, tls)} instances")
        return
    for path in paths:
        # What is not there now will hardly come; the queue would wait for it.
        if not is_directory(path) and not may_be_file(path):
            raise BadInput(
                f"{path}: expected a DICOM file or folder, found nothing; check the path"
            )
    jobs = Queue(queue, tls)
    jobs.add(paths, node)
    raise typer.Exit(_run(jobs, queue))


def _retry(folder: Path, tls: Tls | None) -> int:
    """Try every job of a queue, those too that wait or were set aside; returns the exit code."""
    from lohi_edge.dicom.sendqueue import Queue
    from lohi_edge.errors import BadInput, UsageError
    from lohi_edge.files import is_directory

    if not is_directory(folder):
        raise UsageError(f"{folder}: expected the folder of a queue, found none; check --queue")
    jobs = Queue(folder, tls)
    jobs.hurry(file.stem for file in jobs.pending())
    _, damaged = jobs.retry(jobs.given_up())
    for file in damaged:
        sys.stderr.write(f"error: {file} is damaged: send its files anew and remove it\n")
    return _run(jobs, folder) or (BadInput.exit_code if damaged else 0)


def _run(jobs: Queue, folder: Path) -> int:
    """Try what is due, and say what is left; returns the exit code."""
    from lohi_edge.dicom.send import NetworkError

    failed = jobs.run()
    for line in failed:
        sys.stderr.write(f"error: {line}\n")
    say(f"{len(jobs.pending())} jobs left in {folder}")
    return NetworkError.exit_code if failed else 0


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
    seconds = scu.echo(node, tls_of(tls_cert, tls_key, tls_ca))
    say(f"{node}: answered in {1000 * seconds:.0f} ms")


def tls_of(certificate: Path | None, key: Path | None, authority: Path | None) -> Tls | None:
    """What the three options of TLS ask for; None for no TLS.

    Raises:
        UsageError: some of them are missing.
    """
    from lohi_edge.dicom.tls import Tls
    from lohi_edge.errors import UsageError

    if not any((certificate, key, authority)):
        return None
    if not (certificate and key and authority):
        raise UsageError("expected --tls-cert, --tls-key and --tls-ca together")
    return Tls(certificate, key, authority)


def say(line: str) -> None:
    """Print a line at once, into a pipe too."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
