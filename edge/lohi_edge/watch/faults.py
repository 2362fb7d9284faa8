"""Named fault points: places where tests make the process die, hang or fail for real.

LOHI_EDGE_FAULT is `POINT`, `POINT:N` (the N-th time only), `POINT=ACTION` or `POINT=ACTION@TEXT`
(only for a scan whose path contains TEXT). Actions: kill (SIGKILL, the default), hang, memory,
enospc, eio.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections import Counter

VARIABLE = "LOHI_EDGE_FAULT"
# In the order in which a scan passes them; the worker's own are marked.
DAEMON_POINTS = (
    "after_seen",
    "after_received",
    "after_begun",
    "after_read",
    "after_computed",
    "after_placed",
    "after_audit",
    "after_ledger",
    "after_original",
    "after_closed",
)
# Passed where a result is held back, before `after_audit`: its receipt is placed, then its reason.
HELD_POINTS = ("after_withheld", "after_reason")
# Passed for each file of a series that leaves the inbox.
SERIES_POINTS = ("after_slice_left",)
# Passed for each file or folder that `lohi-edge queue retry` brings back into the inbox.
RETRY_POINTS = ("after_brought_back",)
WORKER_POINTS = ("worker_start", "worker_read", "worker_compute", "worker_write", "after_write")
# Those of `lohi-edge bundle install`.
INSTALL_POINTS = (
    "bundle_checked",
    "bundle_copied",
    "bundle_built",
    "bundle_accepted",
    "bundle_tested",
    "bundle_switched",
)
# Those of `lohi-edge bundle remove`.
REMOVE_POINTS = ("bundle_forgotten", "bundle_engines_removed", "bundle_hidden")
POINTS = (
    *DAEMON_POINTS, *HELD_POINTS, *SERIES_POINTS, *RETRY_POINTS, *WORKER_POINTS, *INSTALL_POINTS,
    *REMOVE_POINTS,
)  # fmt: skip
_ERRNO = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_SPEC = re.compile(r"(?P<point>\w+)(:(?P<n>\d+))?(=(?P<action>\w+))?(@(?P<text>.+))?")
_passed: Counter[str] = Counter()


def reach(point: str, scan: str = "") -> None:
    """Called at each step; does nothing unless the environment asks for a fault here.

    Raises:
        OSError: the action is enospc or eio.
    """
    asked = os.environ.get(VARIABLE)
    if not asked:
        return
    spec = _SPEC.fullmatch(asked)
    if spec is None or spec["point"] not in POINTS:
        raise ValueError(f"{VARIABLE}={asked}: expected one of {', '.join(POINTS)}")
    if spec["point"] != point or (spec["text"] or "") not in scan:
        return
    _passed[point] += 1
    if spec["n"] and _passed[point] != int(spec["n"]):
        return
    _act(spec["action"] or "kill")


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "hang":
        time.sleep(86400)
    elif action == "memory":
        raise MemoryError
    raise OSError(_ERRNO[action], os.strerror(_ERRNO[action]))
