"""What a bundle says of itself: manifest.json, every field of it checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lohi_edge.errors import BundleError
from lohi_edge.slices import SliceContract

SCHEMA = 1
INTENDED_USE = "research use only"
CONTRASTS = ("T1w", "T2w", "FLAIR")
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
MAX_LIMITS = 2000
MAX_SHORT = 100  # characters of a name or version
FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)+")  # of a file in a bundle


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself; `to_dict` is manifest.json.

    Attributes:
        name, version: for people, e.g. "t1w-edge", "2026.11".
        serial: grows with every release of this name; a device refuses to go back.
        contrasts: of "T1w", "T2w", "FLAIR".
        slice_contract: what the generator must be fed.
        files: name -> sha256 (hex) of every file but the manifest.
        tolerance: precision ("fp32", ...) -> largest |error| on the golden slices.
        metrics, provenance: free-form records of training and evaluation; `provenance.limits`, a
            text of up to MAX_LIMITS characters, is shown with every result.
    """

    name: str
    version: str
    serial: int
    contrasts: tuple[str, ...]
    slice_contract: SliceContract
    files: Mapping[str, str]
    tolerance: Mapping[str, float]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> str | None:
        """What the model gets wrong, in its maker's words; None where they say nothing."""
        text: str | None = self.provenance.get("limits")
        return text

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "intended_use": INTENDED_USE,
            "name": self.name,
            "version": self.version,
            "serial": self.serial,
            "contrasts": list(self.contrasts),
            "slice_contract": self.slice_contract.to_dict(),
            "files": dict(self.files),
            "tolerance": dict(self.tolerance),
            "metrics": dict(self.metrics),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, values: Any) -> Manifest:
        """Raises BundleError where a field is missing, unknown or not what it should be."""
        if not isinstance(values, dict):
            raise BundleError(f"expected a JSON object in {MANIFEST}")
        if values.get("schema") != SCHEMA:
            raise BundleError(
                f"expected manifest schema {SCHEMA}, got {values.get('schema')!r}; "
                "this bundle needs another version of lohi-edge"
            )
        _check(values)
        return cls(
            name=values["name"],
            version=values["version"],
            serial=values["serial"],
            contrasts=tuple(values["contrasts"]),
            slice_contract=SliceContract.from_dict(values["slice_contract"]),
            files=values["files"],
            tolerance=values["tolerance"],
            metrics=values["metrics"],
            provenance=values["provenance"],
        )


def is_short_text(value: Any) -> bool:
    """Whether a value may be the name or version of a bundle."""
    return isinstance(value, str) and 0 < len(value) <= MAX_SHORT and value.isprintable()


def _check(values: dict[str, Any]) -> None:
    def words(v: Any) -> bool:
        return isinstance(v, str) and 0 < len(v) <= MAX_LIMITS and v.isprintable()

    def hashes(v: Any) -> bool:
        return isinstance(v, dict) and all(
            FILE_NAME.fullmatch(k) and re.fullmatch(r"[0-9a-f]{64}", str(h)) for k, h in v.items()
        )

    def tolerances(v: Any) -> bool:
        return isinstance(v, dict) and all(
            type(t) in (int, float) and 0 < t <= 2 and f"{p}.onnx" in values["files"]
            for p, t in v.items()
        )

    def known(v: Any) -> bool:
        return isinstance(v, list) and bool(v) and all(c in CONTRASTS for c in v)

    rules = {
        "schema": lambda v: v == SCHEMA,
        "intended_use": lambda v: v == INTENDED_USE,
        "name": is_short_text,
        "version": is_short_text,
        "serial": lambda v: type(v) is int and v >= 1,
        "contrasts": known,
        "slice_contract": lambda v: isinstance(v, dict),
        "files": lambda v: hashes(v) and {"fp32.onnx", GOLDEN} <= v.keys(),
        "tolerance": lambda v: tolerances(v) and "fp32" in v,
        "metrics": lambda v: isinstance(v, dict),
        "provenance": lambda v: isinstance(v, dict) and ("limits" not in v or words(v["limits"])),
    }
    if values.keys() != rules.keys():
        odd = sorted(values.keys() ^ rules.keys())
        raise BundleError(f"missing or unknown fields in {MANIFEST}: {', '.join(odd)}")
    for name, rule in rules.items():
        if not rule(values[name]):
            raise BundleError(f"unusable {name!r} in {MANIFEST}: {str(values[name])[:80]}")
