"""Sections of the settings, and what each key means; `settings.load` reads them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

ORIGINALS = ("keep", "move", "delete")
CLASSES = ("orin_nano", "orin", "thor", "gpu", "cpu")


@dataclass(frozen=True)
class Watch:
    """Section [watch].

    Attributes:
        inbox, outbox: folders; usually given on the command line.
        state: folder of ledger, audit log and lock; on a local file system.
        interval_s: seconds between two looks at the inbox.
        events: let file events wake the scan early.
        incomplete_s: a file that is cut off and no longer grows is given up after so long.
        series_quiet_s: a DICOM series is complete when no slice has come for so long.
        originals: what becomes of a scan once its result is on disk: keep, move, delete.
        hook: command run after each delivery, with the receipt's path as its last argument.
        hook_timeout_s: after which the hook is killed.
    """

    inbox: str | None = None
    outbox: str | None = None
    state: str | None = None
    interval_s: float = 1.0
    events: bool = True
    incomplete_s: float = 600.0
    series_quiet_s: float = 10.0
    originals: str = "keep"
    hook: tuple[str, ...] = ()
    hook_timeout_s: float = 60.0


@dataclass(frozen=True)
class Enhance:
    """Section [enhance]: the options of `lohi-edge enhance`.

    Attributes:
        limits: in the settings a file of quality limits; here what it held (JSON) when they were
            read, so that a file changed later counts only from the next reload on.
    """

    bundle: str | None = None
    contrast: str | None = None
    grid: str | None = None
    prefer: str | None = None
    threads: int | None = None
    runtime: str = "auto"
    precision: str = "auto"
    mark: bool = False
    limits: str | None = None

    def digest(self) -> str:
        """Eight hex digits that change with every setting a result depends on.

        Contrast and bundle are part of a scan's identity by themselves.
        """
        what = {"grid": self.grid, "prefer": self.prefer, "precision": self.precision}
        what |= {"mark": "yes"} if self.mark else {}
        what |= {"limits": self.limits} if self.limits else {}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Worker:
    """Section [worker].

    Attributes:
        timeout_s: for one scan; a worker that takes longer is killed.
        start_timeout_s: to load and accept the model; the first time on every runtime.
        attempts: crashes or timeouts after which a scan is quarantined.
        backoff_s: wait after the first crash; doubles with each.
    """

    timeout_s: float = 600.0
    start_timeout_s: float = 1800.0
    attempts: int = 3
    backoff_s: float = 5.0


@dataclass(frozen=True)
class Disk:
    """Section [disk].

    Attributes:
        reserve_gb: intake pauses while less than this would stay free.
        keep_days, keep_gb: delivered images beyond this age or total size are removed, oldest
            first; their receipts stay. 0 keeps all.
    """

    reserve_gb: float = 2.0
    keep_days: float = 0.0
    keep_gb: float = 0.0


@dataclass(frozen=True)
class Log:
    """Section [log]: format is text or json."""

    format: str = "text"


@dataclass(frozen=True)
class Http:
    """Section [http].

    Attributes:
        port: of the loopback interface, for health and metrics; 0 opens no socket at all.
        page: "PORT" (of the loopback interface) or "HOST:PORT" of the web page; None is no page.
    """

    port: int = 0
    page: str | None = None


@dataclass(frozen=True)
class Dicom:
    """Section [dicom]: receive series into the inbox, send results on.

    Attributes:
        port: to receive on; 0 receives nothing.
        host: address to receive on.
        title: our AE title.
        callers: AE titles that may send.
        allow: IP addresses or networks that may connect; empty is every one.
        send: where results go, each as TITLE@host:port.
        peers: more nodes that `lohi-edge doctor` asks whether they are there.
        tls_cert, tls_key, tls_ca: PEM files; together they turn TLS on, both ways.
    """

    port: int = 0
    host: str = "127.0.0.1"
    title: str = "LOHI_EDGE"
    callers: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    send: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None


@dataclass(frozen=True)
class Latency:
    """Section [latency]: how long a scan may take.

    Attributes:
        device: one of CLASSES, whose budget holds; auto looks at the machine.
        orin_nano_p95_s, ...: 95th percentile of whole scans, by class of device.
    """

    device: str = "auto"
    orin_nano_p95_s: float = 15.0
    orin_p95_s: float = 10.0
    thor_p95_s: float = 8.0
    gpu_p95_s: float = 8.0
    cpu_p95_s: float = 30.0


@dataclass(frozen=True)
class Settings:
    """All sections."""

    watch: Watch = field(default_factory=Watch)
    enhance: Enhance = field(default_factory=Enhance)
    worker: Worker = field(default_factory=Worker)
    disk: Disk = field(default_factory=Disk)
    log: Log = field(default_factory=Log)
    http: Http = field(default_factory=Http)
    latency: Latency = field(default_factory=Latency)
    dicom: Dicom = field(default_factory=Dicom)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
