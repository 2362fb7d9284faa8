"""Bundles installed on this device, and which of them are active.

One folder holds them: `NAME-SERIAL-HASH/` is a bundle, never changed once it is there, and
`active.json` says which of them serves each contrast. That file is replaced by one rename, so at
any moment, a power cut included, either the old or the new bundles are active. `audit.jsonl` has a
line for every change, on disk before the change is made, chained as the daemon's own log is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lohi_edge import bundle as bundles
from lohi_edge import signing
from lohi_edge.bundle import MANIFEST, Bundle
from lohi_edge.device import pointer as pointers
from lohi_edge.device import shelf
from lohi_edge.device.pointer import Pointer
from lohi_edge.errors import LohiError, UsageError
from lohi_edge.files import atomic_write, is_directory, make_directory

VARIABLE = "LOHI_EDGE_BUNDLES"
SYSTEM = Path("/var/lib/lohi-edge/bundles")
POINTER = "active.json"


def default_root() -> Path:
    """LOHI_EDGE_BUNDLES, else the system's folder where there is one, else the user's own."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if is_directory(SYSTEM):
        return SYSTEM
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "lohi-edge" / "bundles"


class Library:
    """The folder of installed bundles."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()

    # Reading.

    def pointer(self) -> Pointer:
        """Which bundles are active; the default where nothing was installed yet.

        Raises:
            BundleError: the file is there and makes no sense.
        """
        return pointers.read(self.root / POINTER)

    def active(self, contrast: str) -> Path | None:
        """Folder of the installed bundle that serves a contrast; None where none does."""
        name = self.pointer().active.get(contrast)
        return self.root / name if name else None

    def stamp(self) -> tuple[int, int] | None:
        """Changes with every switch; cheap enough to be asked every second."""
        try:
            status = (self.root / POINTER).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    def folders(self) -> list[Path]:
        """Every installed bundle."""
        if not is_directory(self.root):
            return []
        return sorted(path.parent for path in self.root.glob(f"[!.]*/{MANIFEST}"))

    def find(self, name: str) -> Path:
        """An installed bundle by its folder's name, or by its beginning up to a hyphen.

        Raises:
            UsageError: there is none, or more than one.
        """
        names = [path.name for path in self.folders()]
        fits = [n for n in names if n == name] or [n for n in names if n.startswith(f"{name}-")]
        if len(fits) != 1:
            raise UsageError(
                f"expected one of the installed bundles, got {name!r}; they are: "
                f"{', '.join(names) or 'none, install one with lohi-edge bundle install'}"
            )
        return self.root / fits[0]

    def rows(self) -> list[dict[str, Any]]:
        """What is installed, as `lohi-edge bundle list` prints it; damaged bundles say so."""
        pointer = self.pointer()
        rows = (self._row(path, pointer) for path in self.folders())
        return [row for row in rows if row is not None]

    def _row(self, path: Path, pointer: Pointer) -> dict[str, Any] | None:
        row: dict[str, Any] = {
            "folder": path.name,
            "active": sorted(c for c, name in pointer.active.items() if name == path.name),
            "previous": path.name in (pointer.previous or {}).values(),
            "refused": pointer.refused.get(path.name),
        }
        try:
            manifest = bundles.load(path).manifest
        except LohiError as error:
            # Another command may remove it meanwhile: then it is not there to be damaged.
            return row | {"problem": str(error)} if path.is_dir() else None
        return row | {
            "name": manifest.name,
            "version": manifest.version,
            "serial": manifest.serial,
            "contrasts": list(manifest.contrasts),
        }

    # Writing: only by whoever holds the lock.

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the folder, cleared of what an interrupted installation left.

        Raises:
            UsageError: another command is changing it, or it is another user's.
            DiskError: it cannot be made or written.
        """
        from lohi_edge.watch import localfs

        make_directory(self.root)
        localfs.require_own(self.root)
        try:
            descriptor = localfs.lock(self.root, "folder of bundles", required=True)
        except UsageError:
            raise UsageError(
                f"{self.root}: another command is changing the installed bundles; wait for it"
            ) from None
        assert descriptor is not None
        try:
            shelf.sweep(self.root)
            yield
        finally:
            os.close(descriptor)

    def add(self, bundle: Bundle) -> Path:
        """Copy a checked bundle in, as `shelf.put` does; returns its folder."""
        return shelf.put(self.root, bundle)

    def record(self, event: str, **facts: Any) -> None:
        """One more line of this folder's audit log.

        Raises:
            DiskError: it cannot be written.
        """
        from lohi_edge.watch.audit import Audit

        audit = Audit(self.root)
        try:
            audit.append(event, **facts)
        finally:
            audit.close()

    def _write(self, pointer: Pointer, event: str, **facts: Any) -> None:
        self.record(event, active=pointer.active, **facts)
        with atomic_write(self.root / POINTER, shelf.READABLE) as file:
            file.write(pointer.to_json().encode())

    def switch(self, folder: Path, contrasts: tuple[str, ...]) -> None:
        """Make a bundle serve its contrasts; what served before can be gone back to."""
        before = self.pointer()
        active = {**before.active, **dict.fromkeys(contrasts, folder.name)}
        refused = {name: why for name, why in before.refused.items() if name != folder.name}
        previous = before.previous if active == before.active else before.active
        self._write(Pointer(active, previous, refused), "bundle.switch", bundle=folder.name)

    def refuse(self, folder: Path, why: str) -> None:
        """Remember why a bundle is not active."""
        before = self.pointer()
        refused = {**before.refused, folder.name: why}
        self._write(replace(before, refused=refused), "bundle.refuse", bundle=folder.name, why=why)

    def roll_back(self) -> dict[str, str]:
        """Go back to what was active before the last switch; again goes forward.

        Returns:
            What is active now.

        Raises:
            UsageError: there is nothing to go back to.
            BundleError: it is not whole any more, or signed by no key that is trusted now;
                nothing was switched.
        """
        before = self.pointer()
        if before.previous is None:
            raise UsageError(f"{self.root}: no earlier bundle to go back to")
        self._screen(before.previous)
        self._write(Pointer(before.previous, before.active, before.refused), "bundle.rollback")
        return before.previous

    def retire(self, folder: Path, why: str) -> dict[str, str]:
        """Stop using a bundle that is no good; what it does not serve stays as it is.

        Each contrast it serves gets the bundle that served it before the last switch, where that
        is another one and was not refused, else the one that ships. Nothing goes forward to it.

        Returns:
            What is active now.

        Raises:
            BundleError: what would serve instead is not whole, or signed by no key that is trusted
                now; nothing was switched.
        """
        before = self.pointer()
        refused = {**before.refused, folder.name: why}
        earlier = {c: name for c, name in (before.previous or {}).items() if name not in refused}
        served = {c for c, name in before.active.items() if name == folder.name}
        back = {contrast: name for contrast, name in earlier.items() if contrast in served}
        self._screen(back)
        others = {c: name for c, name in before.active.items() if c not in served}
        now = others | back
        previous = None if before.previous is None or earlier == now else earlier
        self._write(Pointer(now, previous, refused), "bundle.retire", bundle=folder.name, why=why)
        return now

    def _screen(self, names: dict[str, str]) -> None:
        """Raises BundleError where any of these bundles may not serve."""
        for name in set(names.values()):
            signing.screen(bundles.load(self.root / name), allow_downgrade=True)

    def forget(self, folder: Path) -> None:
        """Nothing goes back to a bundle any more, and why it was refused is forgotten."""
        before = self.pointer()
        refused = {name: why for name, why in before.refused.items() if name != folder.name}
        previous = before.previous
        if folder.name in (previous or {}).values():
            previous = None
        after = Pointer(before.active, previous, refused)
        if after != before:
            self._write(after, "bundle.forget", bundle=folder.name)

    def discard(self, folder: Path) -> None:
        """Remove a bundle's folder, as `shelf.remove` does.

        Raises:
            DiskError: it cannot be renamed, or not all of its bytes can be freed.
        """
        self.record("bundle.remove", bundle=folder.name)
        shelf.remove(folder)
