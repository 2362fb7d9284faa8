"""What the engine commands of both programs do, as plain rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lohi_edge import bundle as bundles
from lohi_edge.bundle import Bundle
from lohi_edge.device.library import Library
from lohi_edge.device.serving import in_use
from lohi_edge.engine import manage
from lohi_edge.engine.build import Profile
from lohi_edge.engine.cache import EngineCache, Entry
from lohi_edge.errors import BundleError
from lohi_edge.settings import load
from lohi_edge.store import Store

_DEMOTION = {
    "int8": "fp16 is used instead if it is accepted, else the CPU",
    "fp16": "the CPU is used instead, on fp32.onnx or int8.cpu.onnx",
    "fp32": "the CPU is used instead",
}


def open_all(path: Path | None) -> tuple[list[Bundle], manage.Target, Store]:
    """The bundle of a path, without one every bundle in use here; TensorRT and store.

    Raises:
        BundleError: any of them cannot be used.
        UsageError: the settings, which may name a bundle, cannot be read.
    """
    paths = [path] if path else in_use(load(), Library())
    return [bundles.load(one) for one in paths], manage.this_machine(), Store()


def precisions(bundle: Bundle) -> list[str]:
    """Those a bundle has files for, fastest first."""
    return [p for p, onnx in manage.FILES.items() if onnx in bundle.manifest.files]


def build_and_accept(
    bundle: Bundle,
    wanted: list[str],
    profile: Profile,
    workspace_mb: int,
    timing_cache: Path | None,
    target: manage.Target,
    store: Store,
) -> list[dict[str, Any]]:
    """One row a precision; a precision that fails does not keep the others from being built."""
    rows = []
    for precision in wanted:
        try:
            entry = manage.build_engine(
                bundle, precision, profile, workspace_mb, timing_cache, target, store
            )
        except BundleError as error:
            rows.append(_failed(bundle, precision, error))
        else:
            rows.append(_accept(bundle, precision, entry, target, store))
    return rows


def accept_all(bundle: Bundle, target: manage.Target, store: Store) -> list[dict[str, Any]]:
    """One row a precision that an engine was built for; one that says so where none was."""
    found = [(p, manage.find(bundle, p, target, store)) for p in precisions(bundle)]
    rows = [_accept(bundle, p, entry, target, store) for p, entry in found if entry]
    missing = {
        "bundle": bundle.manifest.name,
        "accepted": False,
        "problems": ["no engine was built here; run `lohi-edge engine build` as this user"],
    }
    return rows or [missing]


def list_all() -> list[dict[str, Any]]:
    """Records of every engine in the store."""
    return [{**entry.record, "path": str(entry.path)} for entry in EngineCache(Store()).entries()]


def _accept(
    bundle: Bundle, precision: str, entry: Entry, target: manage.Target, store: Store
) -> dict[str, Any]:
    facts = {"engine": str(entry.path), "plan_sha256": entry.record["plan_sha256"]}
    facts["build_seconds"] = entry.record["seconds"]
    try:
        record = manage.accept_engine(bundle, entry, store, target)
    except BundleError as error:
        return {**facts, **_failed(bundle, precision, error)}
    row = {"bundle": bundle.manifest.name, **record, **facts}
    return row if record["accepted"] else {**row, "demotion": _DEMOTION[precision]}


def _failed(bundle: Bundle, precision: str, error: BundleError) -> dict[str, Any]:
    return {
        "bundle": bundle.manifest.name,
        "precision": precision,
        "accepted": False,
        "problems": [str(error)],
        "demotion": _DEMOTION[precision],
    }
