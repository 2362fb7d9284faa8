"""Settings of the daemon: a TOML file, over it LOHI_EDGE_<SECTION>_<KEY> from the environment.

Every section is a frozen dataclass; a key that none of them has is refused, with the nearest one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from lohi_edge import toml
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import UsageError
from lohi_edge.runtime import PRECISIONS, RUNTIMES

PREFIX = "LOHI_EDGE_"
SYSTEM_FILE = Path("/etc/lohi-edge/config.toml")
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
    """Section [enhance]: the options of `lohi-edge enhance`."""

    bundle: str | None = None
    contrast: str | None = None
    grid: str | None = None
    prefer: str | None = None
    threads: int | None = None
    runtime: str = "auto"
    precision: str = "auto"
    mark: bool = False

    def digest(self) -> str:
        """Eight hex digits that change with every setting a result depends on.

        Contrast and bundle are part of a scan's identity by themselves.
        """
        what = {"grid": self.grid, "prefer": self.prefer, "precision": self.precision}
        what |= {"mark": "yes"} if self.mark else {}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Worker:
    """Section [worker].

    Attributes:
        timeout_s: for one scan; a worker that takes longer is killed.
        start_timeout_s: to load and accept the model; building an engine takes minutes.
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


_RULES: dict[str, tuple[Any, str]] = {
    "watch.interval_s": (lambda v: 0.05 <= v <= 3600, "0.05 to 3600"),
    "watch.incomplete_s": (lambda v: v > 0, "more than 0"),
    "watch.series_quiet_s": (lambda v: v >= 0, "0 or more"),
    "watch.originals": (lambda v: v in ORIGINALS, f"one of {', '.join(ORIGINALS)}"),
    "watch.hook_timeout_s": (lambda v: v > 0, "more than 0"),
    "enhance.contrast": (lambda v: v in (None, *CONTRASTS), f"one of {', '.join(CONTRASTS)}"),
    "enhance.grid": (lambda v: v in (None, "1mm", "native"), "1mm or native"),
    "enhance.prefer": (lambda v: v in (None, "sform", "qform"), "sform or qform"),
    "enhance.runtime": (lambda v: v in ("auto", *RUNTIMES), f"auto or {', '.join(RUNTIMES)}"),
    "enhance.precision": (
        lambda v: v in ("auto", *PRECISIONS),
        f"auto or {', '.join(PRECISIONS)}",
    ),
    "enhance.threads": (lambda v: v is None or v >= 1, "1 or more"),
    "worker.timeout_s": (lambda v: v > 0, "more than 0"),
    "worker.start_timeout_s": (lambda v: v > 0, "more than 0"),
    "worker.attempts": (lambda v: 1 <= v <= 100, "1 to 100"),
    "worker.backoff_s": (lambda v: 0 <= v <= 3600, "0 to 3600"),
    "disk.reserve_gb": (lambda v: v >= 0, "0 or more"),
    "disk.keep_days": (lambda v: v >= 0, "0 or more"),
    "disk.keep_gb": (lambda v: v >= 0, "0 or more"),
    "log.format": (lambda v: v in ("text", "json"), "text or json"),
    "http.port": (lambda v: 0 <= v <= 65535, "0 to 65535"),
    "latency.device": (lambda v: v in ("auto", *CLASSES), f"auto or {', '.join(CLASSES)}"),
    **{f"latency.{name}_p95_s": (lambda v: v > 0, "more than 0") for name in CLASSES},
    "dicom.port": (lambda v: 0 <= v <= 65535, "0 to 65535"),
    "dicom.title": (lambda v: 0 < len(v.strip()) <= 16, "1 to 16 characters"),
}


def load(
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Settings from defaults, file, environment and overrides, later ones winning.

    Args:
        path: a TOML file; None for LOHI_EDGE_CONFIG, else /etc/lohi-edge/config.toml if there.
        environ: instead of the process's own.
        overrides: {"section": {"key": value}} from a command line.

    Raises:
        UsageError: unreadable file, unknown section or key, or a value that is none.
    """
    environ = os.environ if environ is None else environ
    path = path or file_in_use(environ)
    merged: dict[str, dict[str, Any]] = {}
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if path is not None:
        layers.append((str(path), toml.read(path)))
    layers += [("environment", _from_environment(environ)), ("command line", overrides or {})]
    for where, layer in layers:
        for section, values in layer.items():
            toml.refuse_unknown(where, "section", section, _sections())
            if not isinstance(values, Mapping):
                raise UsageError(f"{where}: expected a section [{section}], got one value")
            for key in values:
                toml.refuse_unknown(where, f"key in [{section}]", key, _keys(section))
            merged.setdefault(section, {}).update(values)
    made = {s: _section(s, values) for s, values in merged.items()}
    return Settings(**made)


def file_in_use(environ: Mapping[str, str] | None = None) -> Path | None:
    """LOHI_EDGE_CONFIG, else /etc/lohi-edge/config.toml where it is there."""
    if named := (os.environ if environ is None else environ).get(PREFIX + "CONFIG"):
        return Path(named)
    return SYSTEM_FILE if SYSTEM_FILE.is_file() else None


def _sections() -> dict[str, type]:
    return {f.name: get_type_hints(Settings)[f.name] for f in fields(Settings)}


def _keys(section: str) -> dict[str, Any]:
    return get_type_hints(_sections()[section])


def _from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Only variables that begin with a section's name are settings; others belong to others."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in environ.items():
        section, _, key = name.removeprefix(PREFIX).lower().partition("_")
        if not name.startswith(PREFIX) or section not in _sections() or not key:
            continue
        toml.refuse_unknown(
            "environment", f"setting {name}, key in [{section}]", key, _keys(section)
        )
        found.setdefault(section, {})[key] = _parse(name, text, toml.kinds(_keys(section)[key]))
    return found


def _parse(name: str, text: str, kinds: tuple[Any, ...]) -> Any:
    if bool in kinds:
        words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in words:
            raise UsageError(f"{name}: expected true or false, got {text!r}")
        return words[text.lower()]
    if not text and type(None) in kinds:
        return None
    for number in (int, float):
        if number in kinds:
            try:
                return number(text)
            except ValueError:
                raise UsageError(f"{name}: expected a number, got {text!r}") from None
    if tuple in kinds:
        import shlex

        return shlex.split(text)
    return text


def _section(name: str, values: Mapping[str, Any]) -> Any:
    hints = _keys(name)
    return _sections()[name](
        **{key: _checked(f"{name}.{key}", value, hints[key]) for key, value in values.items()}
    )


def _checked(name: str, value: Any, hint: Any) -> Any:
    value = toml.typed(name, value, hint)
    rule, words = _RULES.get(name, (None, ""))
    if rule and not rule(value):
        raise UsageError(f"{name}: expected {words}, got {value!r}")
    return value
