"""A daemon of its own for one scan, in a private folder: what came of it, or why nothing did."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lohi_edge import demo, finished, nifti, signing
from lohi_edge.device.private import private_folder
from lohi_edge.errors import BadInput, BundleError, LohiError, ModelFault, of_exit_code
from lohi_edge.files import disk_error
from lohi_edge.settings import Settings
from lohi_edge.volume import Volume
from lohi_edge.watch import audit

PREFIX = "lohi-edge-selftest-"  # of folders in the temporary one
CONTRAST = "T1w"  # of the scan that ships
_STOP_S = 20.0
# Whoever starts the daemon may be killed, or lose its terminal: then the daemon ends too.
_TETHERED = (
    "import os, signal, sys; from lohi_edge.watch.process import die_with; "
    "die_with(int(sys.argv.pop(1)), signal.SIGTERM); from lohi_edge.cli import main; main()"
)
_KEEP = ("runtime", "precision", "threads", "prefer")
_UNKNOWN = "nothing is known of the model"


class SelfTestFailed(LohiError):
    """The result is not what it must be."""

    exit_code = 4


class NotTested(LohiError):
    """The self-test did not come to an end: nothing is known of the model."""

    exit_code = 1


def run(bundle: Path, settings: Settings) -> tuple[dict[str, Any], Volume]:
    """Enhance the scan that ships; its receipt and result.

    Raises:
        ModelFault: the daemon refuses the bundle itself.
        SelfTestFailed: it held the result back.
        NotTested: it was killed, hung, or gave the scan up.
        BundleError, UsageError, DiskError: it could not work here, whatever the bundle.
    """
    try:
        with private_folder(PREFIX) as (folder, lock):
            return _through_the_daemon(bundle, settings, folder, lock)
    except OSError as error:
        raise disk_error(Path(tempfile.gettempdir()), error) from None


def _through_the_daemon(
    bundle: Path, settings: Settings, folder: Path, lock: int
) -> tuple[dict[str, Any], Volume]:
    inbox, outbox, state = (folder / name for name in ("inbox", "outbox", "state"))
    for path in (inbox, outbox):
        path.mkdir()
    (folder / "none.toml").touch()
    shutil.copyfile(demo.SCAN, inbox / demo.SCAN.name)
    command = [
        sys.executable, "-c", _TETHERED, str(os.getpid()), "watch", str(inbox), str(outbox),
        "--state", str(state), "--config", str(folder / "none.toml"), "--bundle", str(bundle),
    ]  # fmt: skip
    log = folder / "log"
    limit_s = settings.worker.start_timeout_s + settings.worker.timeout_s
    with log.open("wb") as words:
        process = subprocess.Popen(
            command, env=environment(os.environ, settings, folder), stdout=words, stderr=words,
            pass_fds=(lock,),  # it may outlive this process by some seconds
        )  # fmt: skip
        try:
            _wait(process, folder, limit_s)
        finally:
            _end(process)
    (found,) = [*outbox.rglob("*_desc-synthetic*.json"), *outbox.rglob("*.reason.txt")]
    receipt = finished.read_receipt(found) if found.suffix == ".json" else None
    if receipt is None:
        # The rest of the text is for whoever brought a patient's scan.
        lines = found.read_text().splitlines()
        reason = next((line for line in lines if line.startswith("Why: ")), " ".join(lines))
        why = (
            f"the daemon delivered no result of the scan that ships: {reason.removeprefix('Why: ')}"
        )
        held = found.relative_to(outbox).parts[0] == "held"
        raise SelfTestFailed(why) if held else NotTested(f"{why}; {_UNKNOWN}")
    return receipt, nifti.read(found.parent / receipt["result"]["path"])


def environment(own: Mapping[str, str], settings: Settings, folder: Path) -> dict[str, str]:
    """For the private daemon: how the device computes and judges, nothing else of its settings."""
    kept = {
        name: value
        for name, value in own.items()
        if name in (signing.KEYS, "LOHI_EDGE_CACHE", "LOHI_EDGE_BUNDLES")
        or not name.startswith(("LOHI_EDGE_", "NOTIFY_", "WATCHDOG_", "STATE_DIRECTORY"))
    }
    options = {
        f"LOHI_EDGE_ENHANCE_{name.upper()}": str(value)
        for name in _KEEP
        if (value := getattr(settings.enhance, name)) is not None
    }
    if settings.enhance.limits:
        file = folder / "limits.json"  # what they were when they were read, not what they are now
        file.write_text(settings.enhance.limits)
        options["LOHI_EDGE_ENHANCE_LIMITS"] = str(file)
    own_options = {
        signing.SERIALS: str(folder / "serials"),
        "LOHI_EDGE_ENHANCE_CONTRAST": CONTRAST,
        "LOHI_EDGE_ENHANCE_GRID": "1mm",
        "LOHI_EDGE_DISK_RESERVE_GB": "0",
        "LOHI_EDGE_WATCH_INTERVAL_S": "0.2",
        "LOHI_EDGE_WORKER_ATTEMPTS": "1",
    }
    return kept | options | own_options


def _wait(process: subprocess.Popen[bytes], folder: Path, limit_s: float) -> None:
    """Until a receipt or a reason is there, or the daemon has ended."""
    end = time.monotonic() + limit_s
    outbox = folder / "outbox"
    patterns = ("*_desc-synthetic*.json", "*.reason.txt")
    while not any(_visible(path, outbox) for p in patterns for path in outbox.rglob(p)):
        code = process.poll()
        if code is not None:
            raise _why_it_ended(code, folder)
        if time.monotonic() > end:
            last = _last_words(folder)
            raise NotTested(
                f"the daemon delivered nothing within {limit_s:g} s, its last words: {last}; "
                f"{_UNKNOWN}"
            )
        time.sleep(0.05)


def _why_it_ended(code: int, folder: Path) -> LohiError:
    if code < 0:
        how = f"the daemon was killed by {signal.Signals(-code).name}"
        return NotTested(f"{how}, most likely because memory ran out; {_UNKNOWN}")
    error = of_exit_code(code, _last_words(folder))
    if isinstance(error, BundleError):
        return ModelFault(str(error)) if _refused_itself(folder) else error
    if type(error) is LohiError:
        return NotTested(f"the daemon ended with {code}: {error}; {_UNKNOWN}")
    return error


def _refused_itself(folder: Path) -> bool:
    """Whether the daemon's last word on the model was that its bundle is at fault."""
    try:
        said = audit.last(folder / "state" / audit.FILE, "model.refused")
    except BadInput:
        return False
    return bool(said and said["bundle"])


def _last_words(folder: Path) -> str:
    lines = (folder / "log").read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else "none"


def _visible(path: Path, outbox: Path) -> bool:
    """Whether it is delivered: what is still being written lies below a dot-name."""
    return not any(part.startswith(".") for part in path.relative_to(outbox).parts)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
