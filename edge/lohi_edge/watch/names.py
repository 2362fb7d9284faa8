"""Names and sizes in the outbox: what a scan's result, and what is left of it, may be called."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath

from lohi_edge import nifti
from lohi_edge.watch.log import printable

MAX_NAME = 180  # bytes of a stem; leaves room for what output names add within 255
ORIGINALS, SIDECARS = "originals", "sidecars"
TROUBLE = ("held", "failed", "quarantined")
_KEPT_TAIL = 40


def clean_name(name: str) -> str:
    """A file name that is valid UTF-8, printable, and short enough for what output names add.

    Two names never become one: what is changed bears a hash.
    """
    stem = nifti.stem(Path(name))
    suffix = name[len(stem) :]
    text = printable(stem)
    short = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
    if text != stem:
        text = f"{short}-{text}"
    if len(text.encode()) > MAX_NAME:
        head = text.encode()[: MAX_NAME - _KEPT_TAIL - 10].decode(errors="ignore")
        tail = text.encode()[-_KEPT_TAIL:].decode(errors="ignore")
        text = f"{head}-{short}-{tail}"
    return text + suffix


def result_names(path: str, identity: str) -> Iterator[str]:
    """Names for the folder of the result of inbox `path`, best first, relative to the outbox."""
    pure = PurePath(path)
    stem = nifti.stem(Path(clean_name(pure.name))).removesuffix(".zip")
    parents = [clean_name(part) for part in pure.parent.parts]
    if parents or stem not in (*TROUBLE, ORIGINALS, SIDECARS):
        yield "/".join((*parents, stem))
    yield "/".join((*parents, f"{stem}-{identity[:8]}"))
    for number in itertools.count(2):
        yield "/".join((*parents, f"{stem}-{identity[:8]}-{number}"))


def moved(root: Path, path: str, kind: str) -> Path:
    """Where in the outbox `root` the original of inbox `path` goes: "originals", "failed", ..."""
    pure = PurePath(path)
    parents = (clean_name(part) for part in pure.parent.parts)
    return root.joinpath(kind, *parents, clean_name(pure.name))


def remove(path: Path) -> None:
    """A file or a whole folder; nothing where there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
    return path.stat().st_size
