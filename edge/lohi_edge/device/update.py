"""Install, activate and remove bundles: proved on this device first, switched by one rename.

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
from lohi_edge.device.library import Library
from lohi_edge.device.trial import CONTRAST, SelfTestFailed
from lohi_edge.engine.cache import EngineCache, Removed
from lohi_edge.errors import BundleError, LohiError, ModelFault, UsageError
from lohi_edge.runtime.cuda import probe
from lohi_edge.settings import Settings
from lohi_edge.store import Store
from lohi_edge.watch import faults
from lohi_edge.zipped import unpack

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
        SelfTestFailed, NotTested: the same, for its self-test.
        DiskError: the folder of bundles or the store cannot be written.
    """
    with library.locked():
        bundle = bundles.load(source)
        try:
            _screen(bundle, library, allow_downgrade, f"install {source}")
            faults.reach("bundle_checked")
            folder = library.add(bundle)
        except BundleError as error:
            # Of an archive what was given is named, not what it was unpacked into.
            words = str(error).replace(str(bundle.path), str(source))
            raise type(error)(words) from None
        finally:
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
        _screen(bundles.load(folder), library, allow_downgrade, f"activate {folder.name}")
        return _prove_and_switch(folder, settings, library, say)


def remove(
    name: str, settings: Settings, library: Library, say: Say, force: bool = False
) -> dict[str, Any]:
    """Remove an installed bundle with the engines that no other bundle here uses.

    Args:
        force: also the one that `rollback` goes back to.

    Returns:
        `removed` (folder), `engines` and `freed_mb`.

    Raises:
        UsageError: no such bundle, it is in use, or it is the way back and `force` is not given.
        DiskError: its folder or the store cannot be changed.
    """
    with library.locked():
        folder = library.find(name)
        _refuse_in_use(folder, settings, library, force)
        size = sum(path.stat().st_size for path in folder.iterdir())
        library.forget(folder)
        faults.reach("bundle_forgotten")
        engines = _remove_engines(folder, settings, library)
        faults.reach("bundle_engines_removed")
        library.discard(folder)
    freed = round((size + engines.freed) / 1e6, 1)
    say(f"removed {folder.name} and {engines.count} engines: {freed:g} MB")
    return {"removed": folder.name, "engines": engines.count, "freed_mb": freed}


def check_active(bundle: Path | None, settings: Settings, back: bool, say: Say) -> dict[str, Any]:
    """The self-test of what the daemon uses for T1w, or of a bundle by path.

    Args:
        back: where the active bundle fails, go back to the one before it, and say so; bundles of
            other contrasts stay.

    Raises:
        ModelFault, SelfTestFailed: it failed, whether or not anything was gone back to.
        NotTested, BundleError, UsageError, DiskError: it could not be tested; every bundle stays.
    """
    named = bundle or (settings.enhance.bundle and Path(settings.enhance.bundle))
    path = named or installed.resolve(CONTRAST)
    try:
        found = bundles.load(path)
        signing.screen(found, allow_downgrade=installed.is_active(path))
        report = selftest.run(found.path, settings)
        if not report["passed"]:
            raise SelfTestFailed(f"{path}: {'; '.join(report['problems'])}")
    except (ModelFault, SelfTestFailed) as error:
        if back and not named and (now := installed.fall_back(path, str(error))) is not None:
            serves = now.get(CONTRAST, "the bundle that ships")
            say(f"rolled back: {path.name} is refused, active for {CONTRAST} is {serves}")
        raise
    return report


def _screen(bundle: Bundle, library: Library, allow_downgrade: bool, command: str) -> None:
    """Signature and serial, against the device's record and against what serves here."""
    back = f"lohi-edge bundle {command} --allow-downgrade"
    signing.screen(bundle, allow_downgrade, back=back)
    if allow_downgrade:
        return
    name, serial = bundle.manifest.name, bundle.manifest.serial
    pointer = library.pointer()
    serving = {library.root / folder for folder in pointer.active.values()}
    unserved = {
        contrast for contrast in bundle.manifest.contrasts if contrast not in pointer.active
    }
    for folder in (*serving, *bundles.all_shipped()):
        try:
            manifest = bundles.read_manifest(folder)[0]
        except BundleError:
            continue  # a damaged one is what this installation may be about to replace
        if folder not in serving and not unserved.intersection(manifest.contrasts):
            continue  # it ships, and serves nothing here
        if manifest.name == name and serial < manifest.serial:
            how = "lohi-edge bundle rollback, or " if folder in serving else ""
            raise BundleError(
                f"{bundle.path}: expected serial {manifest.serial} or later of {name}, which "
                f"{'is active' if folder in serving else 'ships'}, got {serial}; to go back: "
                f"{how}{back}; a model of your own takes a name of its own"
            )


def _refuse_in_use(folder: Path, settings: Settings, library: Library, force: bool) -> None:
    pointer = library.pointer()
    serves = [contrast for contrast, name in pointer.active.items() if name == folder.name]
    if serves:
        raise UsageError(
            f"{folder.name} is active for {', '.join(sorted(serves))}; activate another one, or go "
            "back with lohi-edge bundle rollback, before it is removed"
        )
    if settings.enhance.bundle and Path(settings.enhance.bundle).resolve() == folder.resolve():
        raise UsageError(f"{folder.name} is in use: setting enhance.bundle names it")
    if folder.name in (pointer.previous or {}).values() and not force:
        raise UsageError(
            f"{folder.name} is what lohi-edge bundle rollback goes back to; --force removes it, "
            "and there is then nothing to go back to"
        )


def _remove_engines(folder: Path, settings: Settings, library: Library) -> Removed:
    """A damaged bundle does not say which engines were its own: they stay."""
    own = _onnx_hashes([folder])
    others = [path for path in library.folders() if path != folder] + bundles.all_shipped()
    if settings.enhance.bundle:  # it may lie elsewhere, and be an archive
        named = Path(settings.enhance.bundle)
        others.append(unpack(named) if named.is_file() else named)
    own -= _onnx_hashes(others)
    return EngineCache(Store()).remove(own)


def _onnx_hashes(folders: list[Path]) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        try:
            files = bundles.read_manifest(folder)[0].files
        except BundleError:
            continue
        found |= {sha for name, sha in files.items() if name.endswith(".onnx")}
    return found


def _prove_and_switch(
    folder: Path, settings: Settings, library: Library, say: Say
) -> dict[str, Any]:
    bundle = bundles.load(folder)
    try:
        report = _prove(bundle, settings, say)
    except LohiError as error:
        if isinstance(error, ModelFault | SelfTestFailed):
            library.refuse(folder, str(error))
        say(f"{folder.name} is not activated; what was active stays active")
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
        raise ModelFault(
            f"{bundle.path}: not accepted on this machine: {'; '.join(record['problems'])}"
        )
    say(f"accepted: {record['runtime']} {record['precision']}, error {record['max_error']:.2g}")
    if record["fallback"]:
        say(f"passed over: {record['fallback']}")
    faults.reach("bundle_accepted")
    report = selftest.run(bundle.path, settings)
    say(f"self-test: {selftest.summary(report)}")
    if not report["passed"]:
        raise SelfTestFailed(f"{bundle.path}: {'; '.join(report['problems'])}")
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
