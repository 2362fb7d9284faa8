"""TOML files that people write: bounded reads, unknown names met with the nearest known one."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import read_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_FILE = 1 << 20


def read(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        UsageError: unreadable, or not TOML.
    """
    try:
        values: dict[str, Any] = tomllib.loads(read_bytes(path, MAX_FILE).decode())
    except (BadInput, ValueError) as error:
        raise UsageError(f"{path}: cannot be used as settings: {error}") from None
    except RecursionError:
        raise UsageError(f"{path}: cannot be used as settings: nested too deeply") from None
    return values


def refuse_unknown(where: str, what: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that is not among `known`.

    Raises:
        UsageError: names the nearest one that is.
    """
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    raise UsageError(f"{where}: unknown {what}: {name!r}; did you mean {near[0]!r}?")


def kinds(hint: Any) -> tuple[Any, ...]:
    """The types that an annotation such as `str | None` or `tuple[str, ...]` allows."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return tuple(getattr(part, "__origin__", part) for part in parts)


def typed(name: str, value: Any, hint: Any) -> Any:
    """A value of the annotated type; an integer may stand for a float, a list for a tuple of text.

    Raises:
        UsageError: another type.
    """
    allowed = kinds(hint)
    if float in allowed and type(value) is int:
        value = float(value)
    if tuple in allowed and isinstance(value, list) and all(isinstance(v, str) for v in value):
        value = tuple(value)
    expected = " or ".join("list of text" if k is tuple else k.__name__ for k in allowed)
    if type(value) not in allowed:
        raise UsageError(f"{name}: expected {expected}, got {value!r}")
    return value
