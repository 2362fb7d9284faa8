"""The worker process: holds the model warm; reads a scan, computes one, writes one at a time.

Commands come in and events go out as JSON lines. Whatever goes wrong beyond a user's error ends
this process; the daemon counts that against the scan and starts another.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from lohi_edge import bundle as bundles
from lohi_edge import contrast, dicom, nifti, source
from lohi_edge.clock import Clock
from lohi_edge.device import installed
from lohi_edge.device.library import Library
from lohi_edge.errors import BundleError, Held, LohiError, ModelFault
from lohi_edge.models import Models
from lohi_edge.pipeline import Result, enhance
from lohi_edge.volume import Volume
from lohi_edge.watch import faults, process, staged
from lohi_edge.watch.names import clean_name
from lohi_edge.watch.process import Send
from lohi_edge.watch.staged import Facts

Tasks = queue.Queue[tuple[str, dict[str, Any]]]
_PROGRESS_S = 0.5


class Child:
    """Works through commands; `send(event, **facts)` reports.

    Attributes:
        proving: the bundle whose golden slices are being run, or have just failed.
    """

    def __init__(self, options: dict[str, Any], send: Send) -> None:
        self._options = options
        self._send = send
        self.proving: Path | None = None
        self._models = Models(
            options["bundle"], options["threads"], options["runtime"], options["precision"],
            prove=True,
        )  # fmt: skip
        self._limits = json.loads(options["limits"]) if options["limits"] else None
        self._volumes: dict[int, tuple[Volume, dict[str, float]]] = {}
        self._tasks: Tasks = queue.Queue()
        self._reads: Tasks = queue.Queue()
        self._writes: Tasks = queue.Queue()

    def accept(self) -> None:
        """Load every model that is there and run its golden slices.

        Raises:
            BundleError: none is there, or none can run on this machine.
            ModelFault: the one in `proving` is damaged, or does not reproduce its golden slices.
        """
        faults.reach("worker_start")
        models = []
        for path, served in self._bundles().items():
            self.proving = path
            models.append(self._accepted(path, served))
        self.proving = None
        self._send("ready", models=models)

    def _bundles(self) -> dict[Path, str | None]:
        """Every bundle in use here, with a contrast that it serves (None for its own first)."""
        if self._options["bundle"]:
            return {Path(self._options["bundle"]): None}
        Library().pointer()  # where it cannot be read, nothing is guessed
        found: dict[Path, str | None] = {}
        for name in bundles.CONTRASTS:
            try:
                found.setdefault(installed.resolve(name), name)
            except BundleError:
                continue  # a scan of this contrast is told so by itself
        return found or {bundles.shipped(bundles.CONTRASTS[0]): None}

    def _accepted(self, path: Path, contrast: str | None) -> dict[str, Any]:
        contrast = contrast or bundles.load(path).manifest.contrasts[0]
        model = self._models.get(contrast)
        manifest, choice = model.bundle.manifest, model.choice
        assert choice.acceptance
        return {
            "name": manifest.name,
            "version": manifest.version,
            "serial": manifest.serial,
            "contrasts": list(manifest.contrasts),
            "runtime": choice.runtime.name,
            "precision": choice.runtime.precision,
            "device": choice.runtime.device,
            "fallback": choice.fallback,
            "seconds_per_slice": choice.acceptance["seconds_per_slice"],
        }

    def listen(self) -> None:
        """Take commands; the daemon's end of the pipe closes when the daemon dies."""
        for line in sys.stdin:
            command = json.loads(line)
            kind = command.pop("do")
            # A scan that is forgotten may be read again at once: one after the other, as asked.
            (self._reads if kind in ("read", "forget") else self._tasks).put((kind, command))
        os._exit(0)

    def start(self) -> None:
        """Read and write beside the computing, each in a thread whose failure is the process's."""
        process.in_thread(self._do, self._reads)
        process.in_thread(self._do, self._writes)
        self._do(self._tasks)  # the model runs in the main thread alone

    def _do(self, tasks: Tasks) -> None:
        while True:
            kind, task = tasks.get()
            try:
                getattr(self, f"_{kind}")(**task)
            except LohiError as error:
                self._failed(task["id"], error)

    def _read(self, id: int, path: str, files: list[tuple[str, int | None]] | None) -> None:
        faults.reach("worker_read", Path(path).name)
        clock = Clock()
        with clock("read"):
            scan = source.resolve(path) if files is None else _series(Path(path), files)
        volume = source.read(scan, self._options["prefer"], clock)
        self._volumes[id] = (volume, clock.seconds())
        self._send("loaded", id=id)
        self._identify(id)

    def _failed(self, id: int, error: LohiError) -> None:
        self._volumes.pop(id, None)
        self._send("failed", id=id, kind=type(error).__name__, message=str(error))

    def _identify(self, id: int) -> None:
        """Say what makes the scan the same work as another; every model is loaded by now."""
        volume = self._volumes[id][0]
        origin = volume.origin
        assert origin
        named = (self._options["contrast"], nifti.stem(Path(origin.name)), origin.sidecar)
        fine = volume.isotropic() if contrast.unnamed(*named) else None
        name, _ = contrast.decide(*named, fine)
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

    def _enhance(
        self, id: int, path: str, out: str, home: str, stamp: dict[str, Any], held: tuple[str, str]
    ) -> None:
        """Compute a scan; `held`: of a result held back, name of the receipt and `home` from it."""
        volume, read = self._volumes.pop(id)
        assert volume.origin
        # The name goes into files and receipts: it must be valid UTF-8 and short enough.
        named = replace(volume, origin=replace(volume.origin, name=clean_name(volume.origin.name)))
        faults.reach("worker_compute", path)
        try:
            result = enhance(
                named,
                bundle=self._models,
                contrast=self._options["contrast"],
                grid=self._options["grid"],
                limits=self._limits,
                progress=self._progress(id),
            )
        except BundleError as error:
            # The model was there when the scan was read: it broke, and the next scan would find it
            # broken (memory, a GPU that failed). Another process may do better.
            raise RuntimeError(f"the model failed: {error}") from error
        except Held as error:
            name, home = held
            self._send("computed", id=id)
            self._writes.put(("withhold", {
                "id": id, "path": path, "error": error, "named": named, "beside": Path(out, name),
                "facts": (home, stamp, read),
            }))  # fmt: skip
            return
        self._send("computed", id=id)
        self._writes.put(("write", {
            "id": id, "path": path, "result": result, "named": named, "out": Path(out),
            "facts": (home, stamp, read),
        }))  # fmt: skip

    def _write(
        self, id: int, path: str, result: Result, named: Volume, out: Path, facts: Facts
    ) -> None:
        grid, mark = self._options["grid"], self._options["mark"]
        self._send("done", id=id, **staged.result(result, named, out, grid, mark, facts, path))

    def _withhold(
        self, id: int, path: str, error: Held, named: Volume, beside: Path, facts: Facts
    ) -> None:
        staged.held(error, named, beside, facts, path)
        raise error  # told as every failure is

    def _progress(self, id: int) -> Callable[[int, int], None]:
        last = time.monotonic()

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _PROGRESS_S:
                last = time.monotonic()
                self._send("progress", id=id, done=done, total=total)

        return report


def _series(place: Path, files: list[tuple[str, int | None]]) -> dicom.Series:
    """The series of these files (or members of archives) in a place, whatever else lies there."""
    return dicom.only(place, [dicom.Part(Path(file), member) for file, member in files])


def main() -> None:
    send = process.enter(oom_score=500)
    child = Child(json.loads(sys.stdin.readline()), send)
    try:
        child.accept()
    except LohiError as error:
        bundle = str(child.proving) if isinstance(error, ModelFault) else None
        send("refused", message=str(error), exit_code=error.exit_code, bundle=bundle)
        return
    process.in_thread(child.listen)
    child.start()


if __name__ == "__main__":
    process.or_crash(main)
