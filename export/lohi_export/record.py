"""config.json of a run folder: what the run was given, what it and its `--init` learned from."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lohi_edge.bundle import load
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import sha256
from lohi_export.json_files import write_json

CONFIG, WEIGHTS, CHECKPOINT = "config.json", "weights.safetensors", "checkpoint.safetensors"
LEARNED = ("train", "validation")  # the parts of a split that decide a run's weights
NAMED = 5  # scans of one kind that an error names

Scans = Mapping[str, Mapping[str, str]]  # of LEARNED: name of a pair -> digest of its files


@dataclass(frozen=True)
class Origin:
    """What weights learned from.

    Attributes:
        weights: sha256 of them.
        data_set: its name; empty where it has none.
        subjects: BIDS labels, of training and validation; None where nobody knows.
    """

    weights: str
    data_set: str
    subjects: tuple[str, ...] | None

    def knows(self, data_set: str, subjects: Iterable[str]) -> list[str]:
        """Which of these subjects they learned from.

        A label means a person within one data set; two without a name are taken for the same.
        """
        if not self.subjects or self.data_set != data_set:
            return []
        return sorted(set(subjects) & set(self.subjects))


def read_record(folder: Path) -> dict[str, Any]:
    """config.json of a run folder.

    Raises:
        BadInput: missing, not JSON, not a run's, or its scans are not as runs keep them.
    """
    path = folder / CONFIG
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except OSError:
        raise BadInput(f"{folder} holds no run; expected {path}") from None
    except ValueError as error:
        raise BadInput(f"{path}: not JSON: {error}") from None
    wanted = {"config": dict, "data": str, "cache": str}
    if not isinstance(record, dict) or not all(
        isinstance(record.get(key), kind) for key, kind in wanted.items()
    ):
        raise BadInput(f"{path}: expected a run's {', '.join(wanted)}; this is no run's config")
    if "scans" in record and not _are_scans(record["scans"]):
        raise BadInput(
            f'{path}: expected "scans" of the form {{"train": {{"NAME": "SHA256"}}, '
            '"validation": {...}}; put back what the run wrote there'
        )
    return record


def _are_scans(value: Any) -> bool:
    parts = [value.get(part) for part in LEARNED] if isinstance(value, dict) else [None]
    return all(
        isinstance(part, dict) and all(isinstance(digest, str) for digest in part.values())
        for part in parts
    )


def settle_scans(folder: Path, scans: Scans) -> bool:
    """Refuse to go on with other scans than the run learned from so far.

    A run that was begun before runs kept their scans takes these as its own.

    Returns:
        Whether it did so.

    Raises:
        UsageError: says which pairs have changed, are new, or are gone.
        DiskError: they cannot be kept.
    """
    record = read_record(folder)
    if "scans" not in record:
        write_json(folder / CONFIG, record | {"scans": scans})
        return True
    had, now = (
        {(part, name): digest for part in LEARNED for name, digest in of.get(part, {}).items()}
        for of in (record["scans"], scans)
    )
    odd = {
        "changed": [key for key in now if key in had and now[key] != had[key]],
        "new": [key for key in now if key not in had],
        "gone": [key for key in had if key not in now],
    }
    if any(odd.values()):
        said = "; ".join(f"{kind}: {_named(keys)}" for kind, keys in odd.items() if keys)
        raise UsageError(
            f"{folder}: its data set is not the one that this run learned from so far ({said}); "
            f"put the former files back to go on, or begin a run with another --out, "
            f"--init {folder} to keep what it learned"
        )
    return False


def _named(keys: list[tuple[str, str]]) -> str:
    names = [name for _, name in keys]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def digest_of(scans: Mapping[str, str]) -> str:
    """sha256 over the names and digests of scans, whatever their folder and order."""
    return sha256("\n".join(sorted(f"{name} {one}" for name, one in scans.items())).encode())


def origins(source: Path, weights: str) -> list[Origin]:
    """What the weights that a run is to begin with learned from, those they began with last.

    Args:
        source: a bundle, an ONNX or a safetensors file.
        weights: sha256 of what is taken from it.
    """
    config: Any
    if source.is_dir():
        record = dict(load(source).manifest.provenance)
        config = record.get("training", {})
    elif source.name == WEIGHTS and (source.parent / CONFIG).is_file():
        record = read_record(source.parent)
        config = record["config"]
    else:
        return [Origin(weights, "", None)]
    try:
        learned = sorted({subject for part in LEARNED for subject in config["split"][part]})
        name = record["data_set"].get("Name", "")
    except (AttributeError, KeyError, TypeError):  # free-form in a bundle
        return [Origin(weights, "", None)]
    own = {"weights": weights, "data_set": name, "subjects": learned}
    return [_read(own), *began_with(record, config)]


def began_with(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[Origin]:
    """`origins` of the weights that a run began with, from its record; none for random ones."""
    if not config.get("init"):
        return []
    kept = record.get("init_learned")
    if not isinstance(kept, list):  # older than that
        return [Origin(str(config["init"]), "", None)]
    return [_read(one) for one in kept]


def _read(one: Any) -> Origin:
    """An entry of `init_learned`; free-form in a bundle: what is of other types is not known."""
    found = one if isinstance(one, dict) else {}
    subjects, name = found.get("subjects"), found.get("data_set")
    if not isinstance(subjects, list) or not all(isinstance(label, str) for label in subjects):
        subjects = None
    return Origin(
        str(found.get("weights", "")),
        name if isinstance(name, str) else "",
        None if subjects is None else tuple(subjects),
    )


def as_json(found: Iterable[Origin]) -> list[dict[str, Any]]:
    """What `began_with` reads."""
    return [asdict(origin) for origin in found]


def software() -> dict[str, str]:
    """Versions that decide a result."""
    return {"python": platform.python_version(), "torch": torch.__version__}
