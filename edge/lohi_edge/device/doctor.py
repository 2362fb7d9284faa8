"""The doctor: everything that must be right on a device, each with its fix beside it.

A check looks, and changes nothing. It gets all it may look at from a `Context`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lohi_edge.device import machine
from lohi_edge.device.library import Library
from lohi_edge.errors import LohiError
from lohi_edge.runtime.cuda import Gpu, probe
from lohi_edge.settings import Settings

PASS, WARN, FAIL, NOT_APPLICABLE = "pass", "warn", "fail", "not applicable"
_TIMEX_BYTES = 208 + 64  # struct timex of adjtimex(2), and room to grow
_COMMAND_S = 10


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        status: one of PASS, WARN, FAIL, NOT_APPLICABLE.
        found: what is there, in words.
        fix: what to do about it; "" where nothing is to be done.
    """

    status: str
    found: str
    fix: str = ""


def run_command(*words: str) -> tuple[int, str]:
    """(exit code, stdout) of a command; 127 where it is not there."""
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_COMMAND_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return 127, ""
    return done.returncode, done.stdout


def tensorrt_version() -> str:
    """Version of the TensorRT that Python sees here.

    Raises:
        ImportError, OSError: it sees none, or no pycuda.
    """
    import importlib

    found = importlib.import_module("tensorrt")
    importlib.import_module("pycuda")
    return str(found.__version__)


def clock_state() -> int:
    """The kernel's clock state (adjtimex(2)); 5 is TIME_ERROR, not synchronised."""
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))


@dataclass(frozen=True)
class Context:
    """What checks may look at.

    Attributes:
        state: the daemon's state folder.
        config: the settings file in use, where there is one.
        root: in front of every path of the system's own (/proc, /sys, /etc, /run, /var).
    """

    settings: Settings
    state: Path
    config: Path | None = None
    root: Path = machine.ROOT
    python: tuple[int, int] = sys.version_info[:2]
    gpu: Gpu | str = field(default_factory=probe)
    library: Library = field(default_factory=Library)
    tensorrt: Callable[[], str] = tensorrt_version
    clock: Callable[[], int] = clock_state
    command: Callable[..., tuple[int, str]] = run_command
    uid: int = field(default_factory=os.geteuid)


Check = Callable[[Context], Finding]


def examine(context: Context) -> dict[str, Any]:
    """Every check, in order.

    Returns:
        `healthy` (no check failed), `counts` by status, `checks`: name, status, found and fix.
    """
    from lohi_edge.device import checks_data, checks_machine, checks_service

    rows = []
    groups = checks_machine.CHECKS, checks_data.CHECKS, checks_service.CHECKS
    for name, check in (item for group in groups for item in group.items()):
        try:
            finding = check(context)
        except (LohiError, OSError) as error:
            finding = Finding(FAIL, str(error), "put this right, then ask the doctor again")
        rows.append({"check": name, **asdict(finding)})
    states = [row["status"] for row in rows]
    return {
        "healthy": FAIL not in states,
        "counts": {s: states.count(s) for s in (PASS, WARN, FAIL, NOT_APPLICABLE)},
        "checks": rows,
    }


def lines(report: dict[str, Any]) -> list[str]:
    """The report on one page."""
    page = []
    for row in report["checks"]:
        status = "-" if row["status"] == NOT_APPLICABLE else row["status"]
        page.append(
            f"{status.upper() if status == FAIL else status:5} {row['check']:17} {row['found']}"
        )
        if row["fix"]:
            page.append(f"{'':23} fix: {row['fix']}")
    counts = ", ".join(f"{n} {status}" for status, n in report["counts"].items() if n)
    return [*page, counts]
