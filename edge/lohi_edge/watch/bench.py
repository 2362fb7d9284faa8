"""How fast the daemon is here, measured on a real one beside bare `enhance`."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import nibabel as nib
import numpy as np

from lohi_edge.errors import LohiError
from lohi_edge.pipeline import Models, enhance
from lohi_edge.watch.ledger import FILE
from lohi_edge.watch.status import said

BACKLOG = 10_000
BEGUN, CLOSED = "attempts > 0", "finished_at IS NOT NULL"
_WAIT_S = 3600.0


class Running:
    """A daemon on folders of its own, as a context manager.

    Args:
        base: an empty folder.
        bundle, threads: of the worker.
        environ: settings, as environment variables.
    """

    def __init__(
        self, base: Path, bundle: Path | None, threads: int | None, **environ: str
    ) -> None:
        self.inbox, self.outbox, self.state = (base / n for n in ("in", "out", "state"))
        self.away = base / "away"
        for folder in (self.inbox, self.outbox, self.away):
            folder.mkdir(parents=True)
        self._command: list[str | Path] = [sys.executable, "-m", "lohi_edge", "watch"]
        self._command += [self.inbox, self.outbox, "--state", self.state]
        self._command += ["--bundle", bundle] if bundle else []
        self._environ = {**os.environ, "LOHI_EDGE_DISK_RESERVE_GB": "0", **environ}
        if threads:
            self._environ["LOHI_EDGE_ENHANCE_THREADS"] = str(threads)

    def __enter__(self) -> Running:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, env=self._environ, stderr=quiet)
        self.wait(lambda: (said(self.state) or {}).get("phase") == "ready")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()

    @property
    def pids(self) -> tuple[int, int]:
        """Of daemon and worker."""
        status = said(self.state) or {}
        return int(status["pid"]), int(status["worker_pid"])

    def count(self, where: str) -> int:
        """Rows of the ledger."""
        with sqlite3.connect(f"file:{self.state / FILE}?mode=ro", uri=True) as db:
            (count,) = db.execute(f"SELECT count(*) FROM scans WHERE {where}").fetchone()
        db.close()
        return int(count)

    def wait(self, done: Callable[[], bool], step_s: float = 0.005) -> float:
        """Seconds until `done()`.

        Raises:
            LohiError: the daemon ended.
        """
        begin = time.perf_counter()
        while not done():
            if self._process.poll() is not None or time.perf_counter() - begin > _WAIT_S:
                raise LohiError("the daemon of the measurement ended; run `lohi-edge watch`")
            time.sleep(step_s)
        return time.perf_counter() - begin

    def wait_for(self, where: str, count: int, step_s: float = 0.005) -> float:
        """Seconds until so many rows of the ledger meet a condition."""
        return self.wait(lambda: self.count(where) >= count, step_s)

    def drop(self, files: list[Path]) -> None:
        """Let finished files appear in the inbox."""
        for file in files:
            file.rename(self.inbox / file.name)


class Scans:
    """Copies of a scan that differ in a byte, so that each is another scan."""

    def __init__(self, scan: Path) -> None:
        image = nib.Nifti1Image.from_filename(scan)
        self._data, self._image = np.asanyarray(image.dataobj), image
        self._made = 0

    def make(self, folder: Path, count: int) -> list[Path]:
        files = []
        for _ in range(count):
            self._made += 1
            header = self._image.header.copy()
            header["descrip"] = f"bench {self._made}"
            path = folder / f"bench-{self._made:06d}_T1w.nii"
            nib.save(nib.Nifti1Image(self._data, self._image.affine, header), path)
            files.append(path)
        return files


def measure(scan: Path, bundle: Path | None, threads: int | None, rounds: int) -> dict[str, Any]:
    """Every figure but memory."""
    return {
        "throughput": throughput(scan, bundle, threads, rounds),
        "reaction": reaction(scan, bundle),
        "idle": idle(bundle),
        "backlog": backlog(scan, bundle),
    }


def throughput(
    scan: Path, bundle: Path | None, threads: int | None, rounds: int, batch: int = 10
) -> dict[str, Any]:
    """Bare `enhance` against the daemon: one at a time, and `batch` at once; interleaved rounds.

    Returns:
        Medians: seconds, and seconds of processor time (`cpu`), which other work on the machine
        disturbs less. `overhead` is per scan of a batch, over bare.
    """
    scans, models = Scans(scan), Models(bundle, threads)
    times: dict[str, list[float]] = {n: [] for n in ("bare", "single", "many", "cpu", "cpu_many")}
    with (
        tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
        Running(Path(base), bundle, threads) as daemon,
    ):
        out = Path(base) / "bare"
        for number in range(rounds + 1):
            for path in scans.make(daemon.away, 3):
                begin, used = time.perf_counter(), time.process_time()
                enhance(path, out=out, bundle=models)
                times["bare"].append(time.perf_counter() - begin)
                times["cpu"].append(time.process_time() - used)
            before = daemon.count(CLOSED) + 1
            daemon.drop(scans.make(daemon.away, 1))
            times["single"].append(daemon.wait_for(CLOSED, before, 0.02))
            files, used = scans.make(daemon.away, batch), sum(map(_cpu_s, daemon.pids))
            daemon.drop(files)
            daemon.wait_for(BEGUN, before + 1, 0.02)
            times["many"].append(daemon.wait_for(CLOSED, before + batch, 0.02))
            times["cpu_many"].append(sum(map(_cpu_s, daemon.pids)) - used)
            if number == 0:  # caches and arenas are warm from now on
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


def reaction(scan: Path, bundle: Path | None, runs: int = 10) -> dict[str, Any]:
    """Seconds from a complete file to the start of its work, with events and without."""
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
        found[name] = {"median": round(float(np.median(times)), 3), "max": round(max(times), 3)}
    return found


def idle(bundle: Path | None, seconds: float = 60.0) -> dict[str, Any]:
    """Share of one core that a daemon without work uses, worker included."""
    with (
        tempfile.TemporaryDirectory(prefix="lohi-edge-bench-") as base,
        Running(Path(base), bundle, None) as daemon,
    ):
        time.sleep(5)
        before = sum(map(_cpu_s, daemon.pids))
        time.sleep(seconds)
        return {"core_share": round((sum(map(_cpu_s, daemon.pids)) - before) / seconds, 5)}


def backlog(scan: Path, bundle: Path | None, files: int = BACKLOG) -> dict[str, Any]:
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
    return {
        "files": files,
        "listed_s": round(listed, 2),
        "listed_cpu_s": round(used, 2),
        "started_s": round(started, 2),
    }


def soak(scan: Path, bundle: Path | None, volumes: int) -> dict[str, Any]:
    """Memory of daemon and worker over many scans: MB after a tenth of them, at the end, slope."""
    scans, samples = Scans(scan), []
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
