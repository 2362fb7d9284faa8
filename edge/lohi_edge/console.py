"""What a person sees: progress and tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from lohi_edge.batch import Outcome
from lohi_edge.dicom import Series
from lohi_edge.runtime import Progress as Callback
from lohi_edge.source import label

COMPARE_TITLE = "{bundle}, ms a slice, {rounds} rounds, {threads} threads, {cpu}"
BENCH_TITLE = "{scan} on {runtime} {version}, {precision}, {threads} threads, {device}"


class Reporter:
    """Progress of a batch on stderr and one line per scan on stdout; silent when `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} slices"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
            redirect_stdout=False,  # results go where the user sends them
            redirect_stderr=False,
        )

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def skipped(self, line: str) -> None:
        """Say what was passed over."""
        self._say(line, sys.stderr)

    def begin(self, scan: Path | Series) -> Callback:
        """Announce a scan; returns the callback that moves its bar."""
        for task in self._bar.task_ids:
            self._bar.remove_task(task)
        task = self._bar.add_task(escape(scan.name), total=None)
        return lambda done, total: self._bar.update(task, completed=done, total=total)

    def end(self, outcome: Outcome) -> None:
        """One line: what became of the scan."""
        if outcome.error:
            self._say(f"error: {outcome.error}", sys.stderr)
        elif not self._quiet:
            assert outcome.result
            self._say(f"{label(outcome.scan)}: {_summary(outcome)}", sys.stdout)

    def _say(self, line: str, stream: Any) -> None:
        self._bar.console.file.flush()
        stream.write(line + "\n")


@contextmanager
def bar(unit: str, quiet: bool = False) -> Iterator[Callable[[int, int, str], None]]:
    """A progress bar on stderr, where that is a terminal: call it with (done, of, what is next)."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
        TimeRemainingColumn(),
    )
    hidden = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=None)

        def move(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=escape(what))

        yield move


def _summary(outcome: Outcome) -> str:
    assert outcome.result
    receipt, path = outcome.result.receipt, outcome.result.path
    if outcome.result.done_before:
        return f"done before -> {path}"
    seconds = receipt["timings"]["total"]
    contrast = receipt["contrast"]
    reasons = "; ".join(reason["text"] for reason in receipt["reasons"])
    return (
        f"{receipt['verdict']} in {seconds:.1f} s -> {path}\n"
        f"  {contrast['name']} ({contrast['rule']}); SYNTHETIC, {receipt['intended_use']}"
        + (f"\n  {receipt['verdict']}: {reasons}" if reasons else "")
        + (f"\n  fallback: {receipt['fallback']}" if receipt["fallback"] else "")
    )


def show_mapping(values: dict[str, Any], indent: int = 0) -> None:
    """Nested key: value lines."""
    for key, value in values.items():
        pad = "  " * indent
        if isinstance(value, dict) and value:
            sys.stdout.write(f"{pad}{key}:\n")
            show_mapping(value, indent + 1)
        else:
            sys.stdout.write(f"{pad}{key}: {value}\n")


def show_bench(report: dict[str, Any]) -> None:
    """The table of `lohi-edge bench`."""
    table = Table(title=BENCH_TITLE.format(**report))
    for column in ("phase", "p50 ms", "p95 ms", "share"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, row in report["phases"].items():
        table.add_row(
            phase, f"{row['p50'] * 1e3:.1f}", f"{row['p95'] * 1e3:.1f}", f"{row['share']:.1%}"
        )
    Console().print(table)
    for name in ("cold_start_s", "cold_first_slice_s", "slices_per_second", "peak_rss_mb"):
        sys.stdout.write(f"{name}: {report[name]}\n")


def show_compare(report: dict[str, Any]) -> None:
    """The table of `lohi-edge bench --compare`."""
    table = Table(title=COMPARE_TITLE.format(**report))
    figures = ("best ms", "p50 ms", "cpu ms", "ratio", "cpu ratio", "of peak")
    for column in ("runtime", "precision", "batch", *figures):
        table.add_column(column, justify="left" if column == "runtime" else "right")
    for row in report["rows"]:
        share = row.get("peak_share")
        table.add_row(
            row["runtime"],
            row["precision"],
            str(row["batch"]),
            *(f"{row['ms_a_slice'][name]:.2f}" for name in ("best", "p50", "cpu")),
            *(f"{row['ratio'][name]:.2f}" for name in ("p50", "cpu")),
            "" if share is None else f"{share:.0%}",
        )
    Console().print(table)
    sys.stdout.write(f"peak of one thread: {report['peak_gflops']} GFLOP/s\n")
    for line in report["missing"]:
        sys.stdout.write(f"not compared: {line}\n")


def show_demo(report: dict[str, Any]) -> None:
    """Where the demo's files are, and its figures."""
    for name in ("result", "receipt", "picture"):
        sys.stdout.write(f"{name}: {report[name]}\n")
    for name, before in report["before"].items():
        after = report["after"][name]
        sys.stdout.write(f"{name}: {before:.3f} before, {after:.3f} after\n")
    sys.stdout.write(f"{report['note']}\n")
