"""Scans of a study measured side by side, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from lohi_edge.errors import UsageError
from lohi_export import session
from lohi_export.pairs.files import unstarted_dropped
from lohi_export.pairs.matching import Pair

T = TypeVar("T")


def share(jobs: int, threads: int | None) -> int | None:
    """Threads of each of `jobs` processes: as asked for, else an equal part of the processors."""
    if threads is not None or jobs == 1:
        return threads
    return max(1, (os.cpu_count() or 1) // jobs)


def side_by_side(
    measure: Callable[[Pair], T], pairs: Sequence[Pair], jobs: int, threads: int | None
) -> Iterator[tuple[Pair, T]]:
    """Every pair and what `measure`, which must be picklable, makes of it, as each is done.

    Raises:
        UsageError: one of the processes was killed, as where memory is short.
        What `measure` raises; pairs not yet begun are not begun then.
    """
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=session.set_up_cpu, initargs=(threads,)
    ) as pool:
        futures = {pool.submit(measure, pair): pair for pair in pairs}
        with unstarted_dropped(pool):
            for future in as_completed(futures):
                try:
                    result = future.result()
                except BrokenProcessPool:
                    raise UsageError(
                        f"expected {jobs} processes side by side, one was killed, perhaps for want "
                        "of memory; the same command with fewer --jobs goes on where it was"
                    ) from None
                yield futures[future], result
