"""`lohi-export study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lohi_export.commands import ThreadsOption


def study(
    config: Annotated[Path, typer.Argument(help="TOML file; see --write-example.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: ThreadsOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="Scans to measure at a time.")] = 1,
    write_example: Annotated[
        bool, typer.Option("--write-example", help="Write a configuration to CONFIG, and end.")
    ] = False,
) -> None:
    """Train every model of a study, measure all on the same held-out heads, write one report.

    Stopped or killed at any moment, it goes on where it was when the same command is given again.

    --jobs measures several scans at a time, on an equal part of the CPU each unless --threads says
    otherwise; it takes about 1.5 GB of memory a scan. Training is one run at a time.

    Example: lohi-export study study.toml --write-example; lohi-export study study.toml --jobs 2
    """
    from lohi_export.study import config as configuration
    from lohi_export.study import same

    if write_example:
        _write_example(config, configuration.example())
        return
    loaded = configuration.load(config)
    same.refuse_another(loaded)

    from lohi_export import session
    from lohi_export.alone import alone
    from lohi_export.study import report
    from lohi_export.study.study import Stopped, Study
    from lohi_export.train import choose_device

    session.set_up_cpu(threads)
    where = choose_device(device).type
    study = Study(loaded, where, threads, jobs)
    if loaded.reference not in loaded.models:
        words = (
            f"reference {loaded.reference} is not among the models: nothing is tested against it"
        )
        session.console.print(words, markup=False)
    for line in study.outsiders():
        session.console.print(line, markup=False)
    with alone(loaded.out):
        try:
            outcome = study.run()
        except Stopped as stopped:
            raise typer.Exit(stopped.exit_code) from None
        sys.stdout.write(f"{report.write(loaded, outcome, where)}\n")


def _write_example(path: Path, text: str) -> None:
    from lohi_edge.errors import UsageError
    from lohi_edge.files import atomic_write

    if path.exists():
        raise UsageError(f"{path} exists; name a new file for the example")
    with atomic_write(path) as file:
        file.write(text.encode())
    sys.stdout.write(f"{path}\n")
