"""The anatomical scans of a BIDS data set, and the field strength that each was acquired at.

BIDS 1.10: names are sub-<label>[_<entity>-<label>...]_<suffix>.nii[.gz] under sub-*/[ses-*/]anat;
metadata is inherited from JSON files in the folders above ("The Inheritance Principle").
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput, UsageError
from lohi_edge.files import is_directory, read_bytes
from lohi_edge.nifti import MAX_SIDECAR, names_result

Field = Literal["low", "high"]
NAMES: dict[Field, str] = {"low": "64 mT", "high": "3 T"}
# Tesla. Portable scanners lie between 0.05 and 0.1 T; "3 T" magnets between 2.89 and 3.
TESLA: dict[Field, tuple[float, float]] = {"low": (0.03, 0.2), "high": (2.5, 3.5)}
_WORDS: dict[Field, re.Pattern[str]] = {
    "low": re.compile(r"(?<!\d)64mT|0p064T|hyperfine|lowfield|ulf", re.IGNORECASE),
    "high": re.compile(r"(?<![\dp])3T|highfield", re.IGNORECASE),
}
_SUFFIX = re.compile(rf"_({'|'.join(CONTRASTS)})\.nii(\.gz)?")
_NAME = re.compile(rf"(sub-[a-zA-Z0-9]+(?:_[a-z]+-[a-zA-Z0-9]+)*){_SUFFIX.pattern}")
_ENTITIES = re.compile(r"[a-z]+-[a-zA-Z0-9]+(_[a-z]+-[a-zA-Z0-9]+)*")


@dataclass(frozen=True)
class Finding:
    """Something that a data set's owner ought to know.

    Attributes:
        where: file or folder, relative to the data set.
        kind: one word or two, for programs.
        text: what was expected, what was found and what to do.
        grave: the data set cannot be used until it is mended; otherwise the scan is left out, or
            used with a warning.
    """

    where: str
    kind: str
    text: str
    grave: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True)
class Override:
    """Which scans are the 64 mT and which the 3 T ones, where metadata and names do not tell.

    Attributes:
        low, high: entities as in a file name, such as "ses-HFC" or "ses-GE_acq-MPRAGE"; a scan
            that has all of one string's entities is of that field. A field with none keeps to
            metadata and names; one with some has no other scans.

    Raises:
        UsageError: a string that is no list of entities.
    """

    low: tuple[str, ...] = ()
    high: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in self.low + self.high:
            if not _ENTITIES.fullmatch(text):
                raise UsageError(
                    f"expected entities such as ses-HFC or ses-GE_acq-MPRAGE, got {text!r}"
                )

    def of(self, field: Field) -> tuple[str, ...]:
        return self.low if field == "low" else self.high


@dataclass(frozen=True)
class Scan:
    """One T1w, T2w or FLAIR image of a data set.

    Attributes:
        path: of the image; `where` is the same relative to the data set.
        entities: of the name, in its order, "sub" first.
        contrast: the name's suffix.
        metadata: JSON of the scan and of the folders above it, merged.
        field: "low" or "high"; None where nothing tells or it is neither.
        rule: what decided the field, or why nothing did.
    """

    path: Path
    where: str
    entities: dict[str, str]
    contrast: str
    metadata: dict[str, Any]
    field: Field | None
    rule: str

    @property
    def subject(self) -> str:
        return self.entities["sub"]


def find_scans(
    root: Path, override: Override | None = None, contrasts: tuple[str, ...] = CONTRASTS
) -> tuple[list[Scan], list[Finding]]:
    """Every scan of some contrasts, by path, and what is wrong with names and metadata.

    Raises:
        BadInput: `root` is no folder.
    """
    if not is_directory(root):
        raise BadInput(f"{root}: expected a folder with a BIDS data set; check the path")
    scans, findings = [], []
    sidecars = _Sidecars(root)
    for path in sorted([*root.glob("sub-*/anat/*"), *root.glob("sub-*/ses-*/anat/*")]):
        suffix = _SUFFIX.search(path.name)
        if not suffix or suffix[1] not in contrasts or names_result(path.name):
            continue
        where = path.relative_to(root).as_posix()
        entities = _entities(path)
        if entities is None:
            text = (
                "expected a BIDS name like sub-01_ses-64mT_run-01_T1w.nii.gz in the folder of its "
                "subject and session; rename it"
            )
            findings.append(Finding(where, "name", text))
            continue
        try:
            metadata = sidecars.merged(path, entities, suffix[1])
        except BadInput as error:
            findings.append(Finding(where, "sidecar", str(error)))
            continue
        field, rule = decide_field(entities, metadata, override or Override())
        scans.append(Scan(path, where, entities, suffix[1], metadata, field, rule))
    return scans, findings


def decide_field(
    entities: dict[str, str], metadata: dict[str, Any], override: Override
) -> tuple[Field | None, str]:
    """The field a scan was acquired at and the rule that said so.

    In this order: the override; MagneticFieldStrength in tesla; the entities' labels.
    """
    has = {f"{key}-{value}" for key, value in entities.items()}
    asked = {f: [t for t in override.of(f) if has >= set(t.split("_"))] for f in NAMES}
    if asked["low"] and asked["high"]:
        return None, f"both {asked['low'][0]} (64 mT) and {asked['high'][0]} (3 T) name it"
    for field, texts in asked.items():
        if texts:
            return field, f"{texts[0]} was given as {NAMES[field]}"
    found, rule = _own_field(has, metadata)
    if found and override.of(found):
        return None, f"not among those given as {NAMES[found]}"
    return found, rule


def _own_field(has: set[str], metadata: dict[str, Any]) -> tuple[Field | None, str]:
    tesla = metadata.get("MagneticFieldStrength")
    if tesla is not None:
        if isinstance(tesla, (int, float)):
            for field, (least, most) in TESLA.items():
                if least <= tesla <= most:
                    return field, f"MagneticFieldStrength {tesla:g}"
        return None, f"MagneticFieldStrength {tesla!r} is neither about 0.064 nor about 3 tesla"
    named = {f: next((e for e in sorted(has) if _WORDS[f].search(e)), None) for f in NAMES}
    if bool(named["low"]) == bool(named["high"]):
        return None, "neither MagneticFieldStrength nor its name tells 64 mT from 3 T"
    field = "low" if named["low"] else "high"
    return field, f"{named[field]} in its name"


def _entities(path: Path) -> dict[str, str] | None:
    """Entities of a well-formed name that agrees with its folders, else None."""
    match = _NAME.fullmatch(path.name)
    if not match:
        return None
    parts = [part.partition("-")[::2] for part in match[1].split("_")]
    entities = dict(parts)
    folders = [p for p in path.parts[-4:-2] if p.startswith(("sub-", "ses-"))]
    stated = [f"{key}-{entities[key]}" for key in ("sub", "ses") if key in entities]
    return entities if len(entities) == len(parts) and folders[-len(stated) :] == stated else None


class _Sidecars:
    """Metadata of scans, each JSON file read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, list[tuple[Path, set[str]]]] = {}
        self._contents: dict[Path, dict[str, Any]] = {}

    def merged(self, path: Path, entities: dict[str, str], suffix: str) -> dict[str, Any]:
        """What applies to a scan: the nearest folder and the longest name win.

        Raises:
            BadInput: a file that applies is no JSON object.
        """
        has = {f"{key}-{value}" for key, value in entities.items()}
        below = path.parent.relative_to(self.root).parts
        metadata: dict[str, Any] = {}
        for depth in range(len(below) + 1):
            folder = self.root.joinpath(*below[:depth])
            fitting = [(len(e), p) for p, e in self._of(folder, suffix) if e <= has]
            for _, file in sorted(fitting):
                metadata |= self._read(file)
        return metadata

    def _of(self, folder: Path, suffix: str) -> list[tuple[Path, set[str]]]:
        if folder not in self._folders:
            self._folders[folder] = [(p, set(p.stem.split("_"))) for p in folder.glob("*.json")]
        return [(p, e - {suffix}) for p, e in self._folders[folder] if suffix in e]

    def _read(self, file: Path) -> dict[str, Any]:
        if file not in self._contents:
            self._contents[file] = read_object(file)
        return self._contents[file]


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a data set.

    Raises:
        BadInput: it cannot be read, or holds something else.
    """
    try:
        values = json.loads(read_bytes(file, MAX_SIDECAR))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file.name} is not JSON ({error}); mend or remove it") from None
    if not isinstance(values, dict):
        raise BadInput(f"{file.name} is not a JSON object; mend or remove it")
    return values
