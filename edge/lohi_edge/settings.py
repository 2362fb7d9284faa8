"""Settings of the daemon: a TOML file, over it LOHI_EDGE_<SECTION>_<KEY> from the environment.

Every section is a frozen dataclass; a key that none of them has is refused, with the nearest one.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from lohi_edge import toml
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import UsageError
from lohi_edge.files import may_be_file
from lohi_edge.runtime import PRECISIONS, RUNTIMES
from lohi_edge.sections import (
    CLASSES,
    ORIGINALS,
    Dicom,
    Disk,
    Enhance,
    Http,
    Latency,
    Log,
    Settings,
    Watch,
    Worker,
)

__all__ = [
    "CLASSES", "Dicom", "Disk", "Enhance", "Http", "Latency", "Log", "Settings", "Watch", "Worker",
    "file_in_use", "load",
]  # fmt: skip

PREFIX = "LOHI_EDGE_"
SYSTEM_FILE = Path("/etc/lohi-edge/config.toml")


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
        UsageError: unreadable file, unknown section or key, a value that is none, or unusable
            quality limits.
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
    enhance = made.get("enhance")
    if enhance and enhance.limits is not None:
        made["enhance"] = replace(enhance, limits=_limits(enhance.limits))
    return Settings(**made)


def _limits(path: str) -> str:
    from lohi_edge.quality import verdict  # loads scipy, which few settings need

    try:
        return json.dumps(verdict.read(Path(path)), sort_keys=True)
    except UsageError as error:
        raise UsageError(f"enhance.limits: {error}") from None


def file_in_use(environ: Mapping[str, str] | None = None) -> Path | None:
    """LOHI_EDGE_CONFIG, else /etc/lohi-edge/config.toml where it is there."""
    if named := (os.environ if environ is None else environ).get(PREFIX + "CONFIG"):
        return Path(named)
    return SYSTEM_FILE if may_be_file(SYSTEM_FILE) else None


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

        try:
            return shlex.split(text)
        except ValueError as error:  # a quotation that does not end
            raise UsageError(
                f"{name}: expected words as in a shell, got {text!r}: {error}"
            ) from None
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
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: expected a finite number, got {value!r}")
    return value
