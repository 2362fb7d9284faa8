"""How fast the daemon is here, measured on a real one beside bare `enhance`."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lohi_edge.models import Models
from lohi_edge.pipeline import enhance
from lohi_edge.watch.benchrig import BEGUN, CLOSED, Progress, Running, Scans, Steps

BACKLOG = 10_000
IDLE_S = 60.0
REACTIONS = 10
BARE, BATCH = 3, 10


def measure(
    scan: Path,
    bundle: Path | None,
    threads: int | None,
    rounds: int,
    progress: Progress,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Every figure but memory.

    Args:
        progress: called with (steps done, steps in all, what is being measured).
        say: told how long the longest part will take, as soon as that is known.
    """
    total = (rounds + 1) * (BARE + 1 + BATCH) + 2 * REACTIONS + int(IDLE_S) + 1
    steps = Steps(total, progress, say)
    return {
        "throughput": throughput(scan, bundle, threads, rounds, steps=steps),
        "reaction": reaction(scan, bundle, steps=steps),
        "idle": idle(bundle, steps=steps),
        "backlog": backlog(scan, bundle, steps=steps),
    }


def throughput(
    scan: Path,
    bundle: Path | None,
    threads: int | None,
    rounds: int,
    batch: int = BATCH,
    steps: Steps | None = None,
) -> dict[str, Any]:
    """Bare `enhance` against the daemon: one at a time, and `batch` at once; interleaved rounds.

    The first round, which is not counted, warms caches and arenas.

    Returns:
        Medians: seconds, and seconds of processor time (`cpu`), which other work on the machine
        disturbs less. `overhead` is per scan of a batch, over bare.
    """
    steps = steps or Steps()
    scans, models = Scans(scan), Models(bundle, threads)
    times: dict[str, list[float]] = {n: [] for n in ("bare", "single", "many", "cpu", "cpu_many")}
    with (
        tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
        Running(Path(base), bundle, threads) as daemon,
    ):
        out = Path(base) / "bare"
        for number in range(rounds + 1):
            what = f"throughput, round {number} of {rounds}"
            for path in scans.make(daemon.away, BARE):
                begin, used = time.perf_counter(), time.process_time()
                enhance(path, out=out, bundle=models)
                times["bare"].append(time.perf_counter() - begin)
                times["cpu"].append(time.process_time() - used)
                steps.step(f"{what}: bare enhance")
            if number == 0:
                count = (rounds + 1) * (BARE + 1 + batch)
                minutes = count * min(times["bare"]) / 60
                steps.say(f"throughput takes about {minutes:.0f} minutes: {count} scans")
            before = daemon.count(CLOSED)
            daemon.drop(scans.make(daemon.away, 1))
            times["single"].append(daemon.close(before, 1, steps, f"{what}: one"))
            files, used = scans.make(daemon.away, batch), sum(map(_cpu_s, daemon.pids))
            daemon.drop(files)
            daemon.wait_for(BEGUN, before + 2, 0.02)
            times["many"].append(daemon.close(before + 1, batch, steps, f"{what}: {batch} at once"))
            times["cpu_many"].append(sum(map(_cpu_s, daemon.pids)) - used)
            if number == 0:
                times = {name: [] for name in times}
    bare, one, many, cpu, cpu_many = (float(np.median(values)) for values in times.values())
    return {
        "bare_s": round(bare, 3),
        "daemon_single_s": round(one, 3),
        f"daemon_{batch}_s": round(many, 3),
        "overhead": round(many / batch / bare - 1, 4),
        f"{batch}_at_once_to_{batch}_singles": round(many / (batch * one), 4),
        "bare_cpu_s": round(cpu, 3),
        "daemon_cpu_s": round(cpu_many / batch, 3),
        "overhead_cpu": round(cpu_many / batch / cpu - 1, 4),
    }


def reaction(
    scan: Path, bundle: Path | None, runs: int = REACTIONS, steps: Steps | None = None
) -> dict[str, Any]:
    """Seconds from a complete file to the start of its work, with events and without."""
    steps = steps or Steps()
    found = {}
    for name, events in (("with_events_s", "true"), ("without_events_s", "false")):
        times = []
        scans = Scans(scan)
        with (
            tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
            Running(Path(base), bundle, None, LOHI_EDGE_WATCH_EVENTS=events) as daemon,
        ):
            for number in range(runs):
                time.sleep(0.137 * number % 1)  # at any phase of the daemon's own rhythm
                daemon.drop(scans.make(daemon.away, 1))
                times.append(daemon.wait_for(BEGUN, number + 1))
                daemon.wait_for(CLOSED, number + 1)
                steps.step("reaction")
        found[name] = {"median": round(float(np.median(times)), 3), "max": round(max(times), 3)}
    return found


def idle(
    bundle: Path | None, seconds: float = IDLE_S, steps: Steps | None = None
) -> dict[str, Any]:
    """Share of one core that a daemon without work uses, worker included."""
    steps = steps or Steps()
    with (
        tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
        Running(Path(base), bundle, None) as daemon,
    ):
        time.sleep(5)
        before = sum(map(_cpu_s, daemon.pids))
        for _ in range(int(seconds)):
            time.sleep(1.0)
            steps.step("idling")
        return {"core_share": round((sum(map(_cpu_s, daemon.pids)) - before) / seconds, 5)}


def backlog(
    scan: Path, bundle: Path | None, files: int = BACKLOG, steps: Steps | None = None
) -> dict[str, Any]:
    """Seconds until a folder of `files` scans that appears at once is listed, and started."""
    with (
        tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
        Running(Path(base), bundle, None) as daemon,
    ):
        (first,) = Scans(scan).make(daemon.away, 1)
        folder = daemon.away / "ward"
        folder.mkdir()
        for number in range(files):
            (folder / f"{number:05d}_T1w.nii").hardlink_to(first)
        used = _cpu_s(daemon.pids[0])
        folder.rename(daemon.inbox / "ward")
        listed = daemon.wait_for("1", files, 0.05)
        used = _cpu_s(daemon.pids[0]) - used
        started = listed + daemon.wait_for(BEGUN, 1)
    (steps or Steps()).step("backlog")
    return {
        "files": files,
        "listed_s": round(listed, 2),
        "listed_cpu_s": round(used, 2),
        "started_s": round(started, 2),
    }


def soak(
    scan: Path,
    bundle: Path | None,
    volumes: int,
    progress: Progress = lambda done, total, what: None,
) -> dict[str, Any]:
    """Memory of daemon and worker over many scans: MB after a tenth of them, at the end, slope."""
    scans, samples, steps = Scans(scan), [], Steps(volumes, progress)
    with (
        tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
        Running(Path(base), bundle, 1, LOHI_EDGE_DISK_KEEP_GB="0.05") as daemon,
    ):
        for done in range(0, volumes, 10):
            daemon.drop(scans.make(daemon.away, 10))
            daemon.wait_for(CLOSED, done + 10, 0.05)
            for path in daemon.inbox.iterdir():
                path.unlink()
            samples.append((done + 10, *map(_rss_mb, daemon.pids)))
            steps.step("memory", 10)
    table = np.array(samples)
    steady = table[len(table) // 10 :]
    return {
        "volumes": volumes,
        **{
            name: {
                "after_a_tenth_mb": round(float(steady[0, column]), 1),
                "at_the_end_mb": round(float(steady[-1, column]), 1),
                "mb_per_1000": round(
                    float(np.polyfit(steady[:, 0], steady[:, column], 1)[0]) * 1000, 2
                ),
            }
            for column, name in ((1, "daemon"), (2, "worker"))
        },
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
