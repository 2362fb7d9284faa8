"""The worker process: holds the model warm, reads one scan ahead, enhances one at a time.

Commands come in and events go out as JSON lines. Whatever goes wrong beyond a user's error ends
this process; the daemon counts that against the scan and starts another.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lohi_edge import acceptance, contrast, delivery, nifti, source
from lohi_edge import bundle as bundles
from lohi_edge.clock import Clock
from lohi_edge.device import installed
from lohi_edge.errors import BundleError, LohiError
from lohi_edge.files import atomic_write, disk_error, read_bytes
from lohi_edge.pipeline import Models, enhance
from lohi_edge.volume import Volume
from lohi_edge.watch import faults
from lohi_edge.watch.outbox import clean_name, size_of

CRASH = 70  # EX_SOFTWARE of sysexits.h
_PR_SET_PDEATHSIG = 1
_PROGRESS_S = 0.5
Send = Callable[..., None]


class Child:
    """Works through commands; `send(event, **facts)` reports."""

    def __init__(self, options: dict[str, Any], send: Send) -> None:
        self._options = options
        self._send = send
        self._models = Models(
            options["bundle"], options["threads"], options["runtime"], options["precision"]
        )
        self._volumes: dict[int, tuple[Volume, dict[str, float]]] = {}
        self.tasks: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.reads: queue.Queue[dict[str, Any]] = queue.Queue()

    def accept(self) -> None:
        """Load every model that is there and run its golden slices.

        Raises:
            BundleError: none is there, or one does not reproduce its golden slices.
        """
        faults.reach("worker_start")
        self._send("ready", models=[self._accepted(*item) for item in self._bundles().items()])

    def _bundles(self) -> dict[Path, str | None]:
        """Every bundle in use here, with a contrast that it serves (None for its own first)."""
        if self._options["bundle"]:
            return {Path(self._options["bundle"]): None}
        installed.Library().pointer()  # where it cannot be read, nothing is guessed
        found: dict[Path, str | None] = {}
        for name in bundles.CONTRASTS:
            try:
                found.setdefault(installed.resolve(name), name)
            except BundleError:
                continue  # a scan of this contrast is told so by itself
        return found or {bundles.shipped(bundles.CONTRASTS[0]): None}

    def _accepted(self, path: Path, contrast: str | None) -> dict[str, Any]:
        bundle = bundles.load(path)
        model = self._models.get(contrast or bundle.manifest.contrasts[0])
        # What was accepted once is checked again: drivers and hardware change under a daemon.
        record = acceptance.examine(bundle, model.choice.runtime, model.choice.onnx)
        if not record["accepted"]:
            raise BundleError(
                f"{path}: not accepted on this machine: {'; '.join(record['problems'])}; "
                "install the bundle again"
            )
        return {
            "name": bundle.manifest.name,
            "version": bundle.manifest.version,
            "serial": bundle.manifest.serial,
            "contrasts": list(bundle.manifest.contrasts),
            "runtime": record["runtime"],
            "precision": record["precision"],
            "device": model.choice.runtime.device,
            "fallback": model.choice.fallback,
            "seconds_per_slice": record["seconds_per_slice"],
        }

    def work(self) -> None:
        """The main thread: only here does the model run."""
        while True:
            kind, task = self.tasks.get()
            try:
                getattr(self, f"_{kind}")(**task)
            except LohiError as error:
                self._failed(task["id"], error)

    def load(self) -> None:
        """The reading thread: the next scan is read while the current one is computed."""
        while True:
            task = self.reads.get()
            try:
                faults.reach("worker_read", Path(task["path"]).name)
                clock = Clock()
                with clock("read"):
                    scan = source.resolve(task["path"])
                volume = source.read(scan, self._options["prefer"], clock)
                self._volumes[task["id"]] = (volume, clock.seconds())
                self._send("loaded", id=task["id"])
                self.tasks.put(("identify", {"id": task["id"]}))
            except LohiError as error:
                self._failed(task["id"], error)
            except BaseException:  # noqa: BLE001 (this thread's failure is the process's)
                crash()

    def _failed(self, id: int, error: LohiError) -> None:
        self._volumes.pop(id, None)
        self._send("failed", id=id, kind=type(error).__name__, message=str(error))

    def _identify(self, id: int) -> None:
        volume = self._volumes[id][0]
        origin = volume.origin
        assert origin
        name, _ = contrast.decide(
            self._options["contrast"], nifti.stem(Path(origin.name)), origin.sidecar
        )
        manifest = self._models.get(name).bundle.manifest
        grown = volume.zooms if self._options["grid"] != "native" else (1.0, 1.0, 1.0)
        voxels = 1.0
        for count, factor in zip(volume.shape, grown, strict=True):
            voxels *= count * float(factor)
        self._send(
            "read",
            id=id,
            sha256=origin.sha256,
            contrast=name,
            bundle=f"{manifest.name}-{manifest.serial}",
            expected_bytes=int(2 * voxels),
        )

    def _forget(self, id: int) -> None:
        self._volumes.pop(id, None)

    def _enhance(self, id: int, path: str, out: str, home: str, stamp: dict[str, Any]) -> None:
        volume, read = self._volumes.pop(id)
        assert volume.origin
        # The name goes into files and receipts: it must be valid UTF-8 and short enough.
        named = replace(volume, origin=replace(volume.origin, name=clean_name(volume.origin.name)))
        faults.reach("worker_compute", path)
        result = enhance(
            named,
            out=out,
            bundle=self._models,
            contrast=self._options["contrast"],
            grid=self._options["grid"],
            progress=self._progress(id),
        )
        assert result.path
        receipt = delivery.receipt_path(result.path)
        try:
            faults.reach("worker_write", path)
        except OSError as error:
            raise disk_error(receipt, error) from None
        record = stamp_receipt(receipt, home, stamp, read)
        faults.reach("after_write", path)
        self._send(
            "done",
            id=id,
            verdict=record["verdict"],
            seconds=record["timings"]["total"],
            bytes=sum(size_of(path) for path in Path(out).iterdir() if path != receipt),
        )

    def _progress(self, id: int) -> Callable[[int, int], None]:
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _PROGRESS_S:
                last = time.monotonic()
                self._send("progress", id=id, done=done, total=total)

        return report


def stamp_receipt(
    path: Path, home: str, stamp: dict[str, Any], read: dict[str, float]
) -> dict[str, Any]:
    """Add to a receipt what only the daemon knows, and the time that reading ahead took.

    Args:
        home: where the original will be, as seen from the result.
    """
    sidecar = json.loads(read_bytes(path, delivery.MAX_RECEIPT))
    record: dict[str, Any] = sidecar["LohiEdge"]
    sidecar["Sources"] = [home]
    record["source"]["path"] = home
    record["watch"] = stamp
    timings = record["timings"]
    timings["total"] = round(timings["total"] + read["total"], 4)
    for phase in ("read", "validate"):
        timings[phase] = read[phase]
    with atomic_write(path) as file:
        file.write(json.dumps(sidecar, indent=2, allow_nan=False).encode() + b"\n")
    return record


def crash() -> None:
    """End the whole process now, whichever thread notices."""
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(CRASH)


def _die_with_parent(parent: int) -> None:
    """A worker without its daemon must not go on; and it is the one to go when memory is short."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above could notice
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        return  # some containers forbid it; the daemon then takes its chances


def _listen(child: Child) -> None:
    """The listening thread: the daemon's end of the pipe closes when the daemon dies."""
    for line in sys.stdin:
        command = json.loads(line)
        kind = command.pop("do")
        if kind == "read":
            child.reads.put(command)
        else:
            child.tasks.put((kind, command))
    os._exit(0)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the daemon, which decides
    _die_with_parent(int(sys.argv[1]))
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an event
    lock = threading.Lock()

    def send(event: str, **facts: Any) -> None:
        with lock:
            events.write(json.dumps({"event": event, **facts}) + "\n")

    child = Child(json.loads(sys.stdin.readline()), send)
    try:
        try:
            child.accept()
        except LohiError as error:
            send("refused", message=str(error), exit_code=error.exit_code)
            return
        for target in (child.load, lambda: _listen(child)):
            threading.Thread(target=target, daemon=True).start()
        child.work()
    except BaseException:  # noqa: BLE001 (logged, and the process ends)
        crash()


if __name__ == "__main__":
    main()
