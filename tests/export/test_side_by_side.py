"""Work in processes side by side: what fails, what is killed, who gets how much of the CPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lohi_edge.errors import UsageError
from lohi_export.side_by_side import share, side_by_side


def test_every_item_comes_with_its_result() -> None:
    assert sorted(side_by_side(abs, [-3, 2, -1], 2)) == [(-3, 3), (-1, 1), (2, 2)]


def test_what_was_not_begun_when_one_failed_is_not_begun_any_more(tmp_path: Path) -> None:
    orders = [f"touch {tmp_path}/{n}; sleep 0.05; test {n} != 2" for n in range(50)]
    with pytest.raises(subprocess.CalledProcessError):
        list(side_by_side(subprocess.check_call, [["sh", "-c", order] for order in orders], 1))
    assert len(list(tmp_path.iterdir())) < 10


def test_a_killed_process_beside_others_is_told_as_too_many() -> None:
    with pytest.raises(UsageError, match=r"2 processes side by side, one was killed.*fewer --jobs"):
        list(side_by_side(os._exit, [1, 1, 1], 2))


@pytest.mark.parametrize(("jobs", "asked", "each"), [(1, None, None), (4, 3, 3), (10_000, None, 1)])
def test_processes_share_the_cpu(jobs: int, asked: int | None, each: int | None) -> None:
    assert share(jobs, asked) == each
