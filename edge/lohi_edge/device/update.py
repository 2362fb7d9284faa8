"""Install and activate bundles: proved on this device first, switched by one rename.

Whatever is refused, whenever the power goes: the bundles that were active stay active, and the same
command, given again, goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lohi_edge import acceptance, signing
from lohi_edge import bundle as bundles
from lohi_edge.bundle import Bundle
from lohi_edge.device import installed, selftest
from lohi_edge.device.installed import Library
from lohi_edge.errors import BundleError, LohiError
from lohi_edge.runtime.cuda import probe
from lohi_edge.settings import Settings
from lohi_edge.store import Store
from lohi_edge.watch import faults

Say = Callable[[str], None]
PROFILE = "1,8,8"  # batch sizes of engines


def install(
    source: Path, settings: Settings, library: Library, say: Say, allow_downgrade: bool = False
) -> dict[str, Any]:
    """Copy a bundle (directory or .zip) to this device, prove it, and activate it.

    Returns:
        `folder`, `active` (contrast -> folder) and the reports of `engines`, `acceptance` and
        `selftest`.

    Raises:
        BundleError: damaged, not signed as this device asks, older than what runs here, or not
            accepted; what was active stays active.
        SelfTestFailed: the same, for its self-test.
        DiskError: the folder of bundles or the store cannot be written.
    """
    with library.locked():
        bundle = bundles.load(source)
        _screen(bundle, library, allow_downgrade)
        faults.reach("bundle_checked")
        folder = library.add(bundle)
        if source.is_file():
            shutil.rmtree(bundle.path)  # what the archive was unpacked into
        faults.reach("bundle_copied")
        say(f"copied to {folder}")
        return _prove_and_switch(folder, settings, library, say)


def activate(
    name: str, settings: Settings, library: Library, say: Say, allow_downgrade: bool = False
) -> dict[str, Any]:
    """Activate a bundle that is installed already; as `install`.

    Raises:
        UsageError: no such bundle is installed.
    """
    with library.locked():
        folder = library.find(name)
        _screen(bundles.load(folder), library, allow_downgrade)
        return _prove_and_switch(folder, settings, library, say)


def check_active(bundle: Path | None, settings: Settings, back: bool, say: Say) -> dict[str, Any]:
    """The self-test of what the daemon uses for T1w, or of a bundle by path.

    Args:
        back: where the active bundle fails, go back to the one before it, and say so.

    Raises:
        BundleError, SelfTestFailed: it failed, whether or not anything was gone back to.
    """
    named = bundle or (settings.enhance.bundle and Path(settings.enhance.bundle))
    path = named or installed.resolve(selftest.CONTRAST)
    try:
        report = selftest.run(path, settings)
        if not report["passed"]:
            raise selftest.SelfTestFailed(f"{path}: {'; '.join(report['problems'])}")
    except (BundleError, selftest.SelfTestFailed) as error:
        if back and not named and (now := installed.fall_back(str(error))) is not None:
            say(f"rolled back: active is {', '.join(now.values()) or 'the bundle that ships'}")
        raise
    return report


def _screen(bundle: Bundle, library: Library, allow_downgrade: bool) -> None:
    """Signature and serial, against the device's record and against what is active."""
    signing.screen(bundle, allow_downgrade)
    name, serial = bundle.manifest.name, bundle.manifest.serial
    if allow_downgrade:
        return
    for folder in set(library.pointer().active.values()):
        try:
            active = bundles.load(library.root / folder).manifest
        except BundleError:
            continue  # a damaged one is what this installation may be about to replace
        if active.name == name and serial < active.serial:
            raise BundleError(
                f"{bundle.path}: expected serial {active.serial} or later of {name}, got {serial}; "
                "to go back: lohi-edge bundle rollback, or --allow-downgrade"
            )


def _prove_and_switch(
    folder: Path, settings: Settings, library: Library, say: Say
) -> dict[str, Any]:
    bundle = bundles.load(folder)
    try:
        report = _prove(bundle, settings, say)
    except LohiError as error:
        if isinstance(error, BundleError | selftest.SelfTestFailed):
            library.refuse(folder, str(error))
            say(f"rolled back: {folder.name} is not activated; what was active stays active")
        raise
    library.switch(folder, bundle.manifest.contrasts)
    faults.reach("bundle_switched")
    signing.admit(bundle, allow_downgrade=True)  # remembers the serial
    active = library.pointer().active
    say(f"active: {', '.join(f'{c} {name}' for c, name in sorted(active.items()))}")
    return {"folder": folder.name, "active": active, **report}


def _prove(bundle: Bundle, settings: Settings, say: Say) -> dict[str, Any]:
    engines = _build(bundle, say)
    faults.reach("bundle_built")
    wanted = settings.enhance
    record = acceptance.accept(bundle, wanted.threads, wanted.runtime, wanted.precision)
    if not record["accepted"]:
        raise BundleError(
            f"{bundle.path}: not accepted on this machine: {'; '.join(record['problems'])}"
        )
    say(f"accepted: {record['runtime']} {record['precision']}, error {record['max_error']:.2g}")
    faults.reach("bundle_accepted")
    report = selftest.run(bundle.path, settings)
    say(f"self-test: {selftest.summary(report)}")
    if not report["passed"]:
        raise selftest.SelfTestFailed(f"{bundle.path}: {'; '.join(report['problems'])}")
    faults.reach("bundle_tested")
    return {"engines": engines, "acceptance": record, "selftest": report}


def _build(bundle: Bundle, say: Say) -> list[dict[str, Any]]:
    """Engines that this GPU lacks for the bundle, each accepted or not; none without a GPU."""
    gpu = probe()
    if isinstance(gpu, str):
        say(f"no engine to build: {gpu}")
        return []
    from lohi_edge.engine import manage, report
    from lohi_edge.engine.build import Profile

    try:
        target = manage.this_machine()
    except BundleError as error:
        say(f"no engine to build: {error}")
        return []
    store = Store()
    missing = [
        p for p in report.precisions(bundle) if manage.find(bundle, p, target, store) is None
    ]
    if missing:
        say(f"building engines ({', '.join(missing)}); this takes minutes")
    profile = Profile.parse(PROFILE)
    return report.build_and_accept(
        bundle, missing, profile, manage.WORKSPACE_MB, None, target, store
    )
