"""Work on many things at a time, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from lohi_edge.errors import UsageError

T = TypeVar("T")
R = TypeVar("R")


def share(jobs: int, threads: int | None) -> int | None:
    """Threads of each of `jobs` processes: as asked for, else an equal part of the processors."""
    if threads is not None or jobs == 1:
        return threads
    return max(1, (os.cpu_count() or 1) // jobs)


def side_by_side(
    work: Callable[[T], R],
    items: Iterable[T],
    jobs: int,
    set_up: Callable[..., object] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[tuple[T, R]]:
    """Every item and what `work`, which must be picklable, makes of it, as each is done.

    What fails or is interrupted ends with the items in work: the others are not begun.

    Args:
        set_up: called in each process first, with `given`.

    Raises:
        UsageError: one of the processes was killed, as where memory is short.
        What `work` raises.
    """
    # spawn: a forked child would inherit the locks of BLAS and progress threads.
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=set_up, initargs=given
    ) as pool:
        futures = {pool.submit(work, item): item for item in items}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise UsageError(
                f"expected {jobs} processes side by side, one was killed, perhaps for want of "
                "memory; the same command with fewer --jobs goes on where it was"
            ) from None
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
