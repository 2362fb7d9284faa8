"""The doctor's checks of what systemd runs: the daemon, and the receiver beside it."""

from __future__ import annotations

import re
from pathlib import Path

from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN, Check, Context, Finding

UNIT = "lohi-edge-watch.service"
RECEIVER = "lohi-edge-receive.service"
_STATES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts")


def service(context: Context) -> Finding:
    """systemd runs the daemon, and will after a restart."""
    if not _systemd(context):
        return Finding(NOT_APPLICABLE, "systemd does not run here")
    said = _asked(context, UNIT, *_STATES)
    if said.get("LoadState") != "loaded":
        return Finding(NOT_APPLICABLE, f"{UNIT} is not installed")
    words = f"{said['ActiveState']} ({said['SubState']}), {said['UnitFileState']}"
    if said["ActiveState"] != "active":
        return Finding(FAIL, words, f"journalctl -u {UNIT}; sudo systemctl restart {UNIT}")
    if said["UnitFileState"] != "enabled":
        return Finding(WARN, words, f"sudo systemctl enable {UNIT}")
    if said["NRestarts"] != "0":
        return Finding(
            WARN, f"{words}, restarted {said['NRestarts']} times", f"journalctl -u {UNIT}"
        )
    return Finding(PASS, words)


def receiver(context: Context) -> Finding:
    """A receiver that is enabled runs, and puts series where the daemon looks."""
    if not _systemd(context):
        return Finding(NOT_APPLICABLE, "systemd does not run here")
    said = _asked(context, RECEIVER, *_STATES, "ExecStart", "ReadWritePaths")
    states = (said.get("ActiveState"), said.get("UnitFileState"))
    if said.get("LoadState") != "loaded" or states in (("inactive", "disabled"), ("inactive", "")):
        return Finding(NOT_APPLICABLE, f"{RECEIVER} is not enabled")
    inbox = context.settings.watch.inbox
    words = f"{said['ActiveState']} ({said['SubState']})"
    named = re.search(r" receive ([^-$; ]\S*)", said.get("ExecStart", ""))
    if named and inbox and not _same(named[1], inbox):
        found = f"{words}, receives into {named[1]}, the daemon looks in {inbox}"
        return Finding(FAIL, found, f"take the folder out of ExecStart: systemctl cat {RECEIVER}")
    if inbox and not _opened(inbox, said.get("ReadWritePaths", "")):
        fix = f"sudo systemctl edit {RECEIVER}: [Service] ReadWritePaths={inbox}; then restart it"
        return Finding(FAIL, f"{words}, may not write {inbox}", fix)
    if said["ActiveState"] != "active":
        return Finding(FAIL, words, f"journalctl -u {RECEIVER}; sudo systemctl restart {RECEIVER}")
    return Finding(PASS, f"{words}, into {inbox}")


def _systemd(context: Context) -> bool:
    return (context.root / "run/systemd/system").is_dir()


def _asked(context: Context, unit: str, *properties: str) -> dict[str, str]:
    """What systemd says of a unit; nothing where it does not answer."""
    code, text = context.command("systemctl", "show", f"--property={','.join(properties)}", unit)
    return {} if code else dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _opened(folder: str, paths: str) -> bool:
    """Whether one of a unit's ReadWritePaths is a folder or lies above it."""
    opened = (Path(path.lstrip("-+")).resolve() for path in paths.split())
    return any(Path(folder).resolve().is_relative_to(path) for path in opened)


CHECKS: dict[str, Check] = {"service": service, "receiver": receiver}
