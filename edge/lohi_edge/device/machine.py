"""What Linux and JetPack say of this machine; every path lies below one root."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path("/")
_MAX = 1 << 16
_RELEASE = re.compile(r"# R(\d+) \(release\), REVISION: ([\d.]+)")
# Jetson Linux releases and the JetPack that carries them.
_JETPACKS = {35: 5, 36: 6, 38: 7, 39: 7}
# Cooling devices that slow something down; the others are fans.
_SLOWING = ("throttle", "freq", "processor")
_MODE = re.compile(r"pmode:0*(\d+)")
_MODE_NAME = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")


@dataclass(frozen=True)
class Jetson:
    """A Jetson's software.

    Attributes:
        linux: release of Jetson Linux, e.g. "36.4.3".
        jetpack: its JetPack's first number; None where it is not known.
        model: in the words of the device tree.
    """

    linux: str
    jetpack: int | None
    model: str


def word(path: Path) -> str | None:
    """A small text file's content, stripped; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX).decode(errors="replace").strip("\0 \t\n")
    except OSError:
        return None


def jetson(root: Path = ROOT) -> Jetson | None:
    """None where this is no Jetson."""
    found = _RELEASE.search(word(root / "etc/nv_tegra_release") or "")
    if found is None:
        return None
    model = word(root / "proc/device-tree/model") or "unknown"
    return Jetson(f"{found[1]}.{found[2]}", _JETPACKS.get(int(found[1])), model)


def power_mode(root: Path = ROOT) -> str | None:
    """nvpmodel's mode on a Jetson, e.g. "MAXN (0)"; elsewhere the CPU's frequency governor."""
    if mode := _MODE.search(word(root / "var/lib/nvpmodel/status") or ""):
        names = dict(_MODE_NAME.findall(word(root / "etc/nvpmodel.conf") or ""))
        return f"{names.get(mode[1], 'unnamed')} ({mode[1]})"
    return word(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def heat(root: Path = ROOT) -> dict[str, Any]:
    """Temperatures in degrees Celsius, and what was slowed down.

    Returns:
        `temperature_c` (zone -> value), `cooling_active` (device -> state, where not 0),
        `throttled_times` (thermal, since the start), `overcurrent_times` (Jetson's OC events).
    """
    sys = root / "sys"
    zones = {}
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        name, value = word(zone / "type"), word(zone / "temp")
        if name and value and value.lstrip("-").isdigit():
            zones[name] = int(value) / 1000
    cooling = {}
    for device in sorted(sys.glob("class/thermal/cooling_device*")):
        name, value = word(device / "type"), word(device / "cur_state")
        if name and value and value.isdigit() and int(value) > 0:
            cooling[f"{name} ({device.name})"] = int(value)
    cpus = sys.glob("devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
    return {
        "temperature_c": zones,
        "cooling_active": cooling,
        "throttled_times": sum(map(_count, cpus)),
        "overcurrent_times": sum(map(_count, sys.glob("class/hwmon/hwmon*/oc*_event_cnt"))),
    }


def throttled(seen: dict[str, Any]) -> bool:
    """Whether `heat` says that the machine was slowed down at all."""
    slowed = any(w in name.lower() for name in seen["cooling_active"] for w in _SLOWING)
    return slowed or seen["throttled_times"] > 0 or seen["overcurrent_times"] > 0


def memory_mb(root: Path = ROOT) -> dict[str, int]:
    """Total and available memory in MB; empty where Linux does not say."""
    found = {}
    for line in (word(root / "proc/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            found[name] = int(value.split()[0]) // 1024
    return found


def _count(path: Path) -> int:
    value = word(path) or ""
    return int(value) if value.isdigit() else 0
