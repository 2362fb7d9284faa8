"""Engines on disk: one private folder each, found by what they were built from and for.

A plan is compiled code. One is loaded only from a folder that is ours alone, with a record whose
seal was made here and whose hash is the plan's.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lohi_edge.engine.build import Profile
from lohi_edge.errors import BadInput, BundleError
from lohi_edge.files import disk_error, fsync_directory, read_bytes, sha256
from lohi_edge.runtime.cuda import Gpu
from lohi_edge.store import Store, check_private, digest

MAX_PLAN = 2 << 30
PLAN, RECORD = "engine.plan", "engine.json"
_REMOVED = ".removed-"


@dataclass(frozen=True)
class EngineKey:
    """All that a plan depends on; another value of any field is another engine."""

    onnx_sha256: str
    module: str
    tensorrt: str
    cuda: str
    gpu: str
    sm: str
    precision: str
    profile: tuple[int, int, int]

    @classmethod
    def of(
        cls, onnx_sha256: str, trt: Any, gpu: Gpu, precision: str, profile: Profile
    ) -> EngineKey:
        """For a TensorRT module and a GPU of this machine."""
        sizes = (profile.smallest, profile.best, profile.largest)
        return cls(
            onnx_sha256, trt.__name__, trt.__version__, gpu.cuda, gpu.name, gpu.sm, precision, sizes
        )

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "profile": list(self.profile)}


@dataclass(frozen=True)
class Entry:
    """A cached engine: its folder and its record (`key`, `plan_sha256`, `bytes`, `seconds`...)."""

    path: Path
    record: dict[str, Any]


@dataclass(frozen=True)
class Removed:
    """Engines that are gone: how many, and their bytes."""

    count: int
    freed: int


class EngineCache:
    """The folder `plans` of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = store.root / "plans"
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise disk_error(self.root, error) from None
        check_private(self.root)

    def workspace(self) -> Path:
        """A fresh private folder to build in; `publish` takes it, or the caller removes it."""
        return Path(tempfile.mkdtemp(prefix=".building-", dir=self.root))

    def publish(self, folder: Path, key: EngineKey, facts: dict[str, Any]) -> Entry:
        """Make the plan in `folder` the engine for `key`, in one step.

        Raises:
            DiskError: it cannot be written.
        """
        plan = read_bytes(folder / PLAN, MAX_PLAN)
        record = {
            "key": key.to_dict(),
            "plan_sha256": sha256(plan),
            "bytes": len(plan),
            **facts,
        }
        (folder / PLAN).chmod(0o600)
        self.store.write(folder / RECORD, record)
        for other in folder.iterdir():
            if other.name not in (PLAN, RECORD):
                other.unlink()
        final = self.root / digest(key.to_dict())
        try:
            if final.exists():
                final.rename(folder.with_name(folder.name + "-old"))
            folder.rename(final)
            fsync_directory(self.root)
        except OSError as error:
            raise disk_error(final, error) from None
        shutil.rmtree(folder.with_name(folder.name + "-old"), ignore_errors=True)
        return Entry(final, record)

    def find(self, key: EngineKey) -> Entry | None:
        """The engine for `key`; None where there is none with an unbroken record."""
        path = self.root / digest(key.to_dict())
        record = self.store.read(path / RECORD)
        return Entry(path, record) if record and record.get("key") == key.to_dict() else None

    def entries(self) -> list[Entry]:
        """Every engine with an unbroken record, oldest first."""
        found = [
            Entry(path, record)
            for path in self.root.iterdir()
            if not path.name.startswith(".") and (record := self.store.read(path / RECORD))
        ]
        return sorted(found, key=lambda entry: str(entry.record.get("built")))

    def read(self, entry: Entry) -> bytes:
        """The plan, once more proven to be the one that was built here.

        Raises:
            BundleError: its folder or file is not ours alone, or its hash differs.
        """
        check_private(entry.path)
        path = entry.path / PLAN
        try:
            status = path.lstat()
            plan = read_bytes(path, MAX_PLAN)
        except (OSError, BadInput):
            raise BundleError(f"{path}: the engine is gone; {_AGAIN}") from None
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise BundleError(f"{path}: expected a file of user {os.geteuid()}; {_AGAIN}")
        if status.st_mode & 0o022:
            raise BundleError(f"{path}: others may write to this engine; {_AGAIN}")
        if sha256(plan) != entry.record["plan_sha256"]:
            raise BundleError(f"{path}: the engine is not the one that was built; {_AGAIN}")
        return plan

    def remove(self, onnx: set[str]) -> Removed:
        """Remove the engines that were built from these ONNX files (sha256).

        Each is gone by one rename; what a kill leaves of it the next call frees.

        Raises:
            DiskError: not all of them can be removed.
        """
        gone = [entry for entry in self.entries() if entry.record["key"]["onnx_sha256"] in onnx]
        for path in [*(entry.path for entry in gone), *self.root.glob(f"{_REMOVED}*")]:
            try:
                hidden = path.with_name(_REMOVED + path.name.removeprefix(_REMOVED))
                path.rename(hidden)
                fsync_directory(self.root)
                shutil.rmtree(hidden)
            except OSError as error:
                raise disk_error(path, error) from None
        return Removed(len(gone), sum(entry.record["bytes"] for entry in gone))

    def clear(self) -> int:
        """Remove every engine, and what interrupted builds left; returns how many engines.

        Raises:
            DiskError: not all of it can be removed.
        """
        count = len(self.entries())
        for path in list(self.root.iterdir()):
            try:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:
                raise disk_error(path, error) from None
        return count


_AGAIN = "run `lohi-edge engine clear`, then `lohi-edge engine build`, as this user"
