"""`lohi-edge bench --quality`: the whole fault bench on a simulated data set, resumable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput
from lohi_edge.files import atomic_write, make_directory, read_bytes, sha256
from lohi_edge.models import Models
from lohi_edge.nifti import MAX_FILE_BYTES
from lohi_edge.quality import benchstats, limits, verdict
from lohi_edge.quality.faultbench import Case, Row, cases, scan_rows
from lohi_edge.quality.resultbench import result_rows

FITTED = range(1, 13)  # heads that limits of scans are set on
# A generator has seen heads 1-10: limits of results are set on those that it has not.
RESULTS_FITTED = range(11, 13)
REPORTED = range(13, 17)
RESULT_SCANS = 3  # of a pose that are enhanced
# Changes of these change no figure.
_NO_MEASURE = {
    "advice.py", "benchrun.py", "benchstats.py", "drift.py", "features.py", "frame.py",
    "limits.json", "limits.py", "morphometry.py", "own_limits.py", "own_limits_file.py",
    "ownbench.py", "qc.py", "regions.py", "rejudge.py", "segmentation.py", "segmenter.onnx",
    "segmenter_file.py", "tissue.py", "verdict.py", "volumes.py",
}  # fmt: skip
# What measures and enhances outside of `quality`.
_MEASURE = ("head.py", "nifti.py", "pipeline.py", "slices.py", "volume.py")

Progress = Callable[[int, int, str], None]  # cases done, cases in all, what is next


def run(data: Path, out: Path, models: Models | None, progress: Progress) -> list[dict[str, Any]]:
    """Measure every case of a data set, and say what is caught.

    Writes into `out`: rows/*.json (one a case; not measured again while scan, model and check are
    the same), limits.json (set on the fitted heads, ready for --limits), overview.md (contrasts
    together), summary.md and curves.svg.

    Args:
        data: of `lohi-export simulate`.
        models: what makes results; None to measure scans alone.

    Raises:
        BadInput: the data set has no reported heads.
        BundleError: no model for a contrast of the data set, or one that cannot be used.
        DiskError: the folder cannot be written.
    """
    rows: list[Row] = []
    found = cases(data, [*FITTED, *REPORTED])
    if not any(case.head in REPORTED for case in found):
        raise BadInput(f"{data}: expected heads of 13 to 16 to report on, found none")
    for number, case in enumerate(found):
        progress(number, len(found), case.path.name)
        rows += _measured(case, out / "rows", models)
    progress(len(found), len(found), "")
    fitted = [r for r in rows if r.head in (FITTED if r.part == "scan" else RESULTS_FITTED)]
    reported = [r for r in rows if r.head in REPORTED]
    set_limits = limits.document(fitted)
    write(out / "limits.json", json.dumps(set_limits, indent=1) + "\n")
    layers = {
        c: verdict.limits_for(c, {"quality": {"base": "none", **set_limits}}) for c in CONTRASTS
    }
    summary = benchstats.summarise(fitted, reported, layers)
    write(out / "overview.md", benchstats.overview(reported, layers))
    write(out / "summary.md", benchstats.table(summary))
    write(out / "curves.svg", benchstats.curves(summary))
    return summary


def _measured(case: Case, folder: Path, models: Models | None) -> list[Row]:
    """The rows of a case, from the folder or measured now.

    The first scan of a reported head's first pose is made faulty as well.
    """
    key = {"scan": sha256(read_bytes(case.path, MAX_FILE_BYTES)), "check": check_digest()}
    faulty = case.head in REPORTED and case.run == case.scan == 1
    rows = kept(folder / f"{case.name}-scan.json", key, lambda: scan_rows(case, faulty))
    enhanced = case.head in (*RESULTS_FITTED, *REPORTED) and case.scan <= RESULT_SCANS
    if models is not None and enhanced:
        model = models.get(case.contrast)
        runtime = model.choice.runtime
        key |= {"bundle": model.bundle.sha256, "runtime": f"{runtime.name} {runtime.precision}"}
        rows += kept(
            folder / f"{case.name}-result.json", key, lambda: result_rows(case, models, faulty)
        )
    return rows


@cache
def check_digest() -> str:
    """sha256 over the program and the weights that measure."""
    files = sorted(resources.files("lohi_edge.quality").iterdir(), key=lambda f: f.name)
    own = [f for f in files if f.is_file() and f.name not in _NO_MEASURE]
    others = [resources.files("lohi_edge") / name for name in _MEASURE]
    return sha256(b"".join(f.name.encode() + f.read_bytes() for f in (*own, *others)))


def kept(path: Path, key: dict[str, str], measure: Callable[[], Iterable[Row]]) -> list[Row]:
    """Rows of a file of this very key, else measured and written there."""
    try:
        found = json.loads(path.read_text())
        if found["key"] == key:
            return [Row(**row) for row in found["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or of another version
    rows = list(measure())
    write(path, json.dumps({"key": key, "rows": [row.to_dict() for row in rows]}))
    return rows


def write(path: Path, text: str) -> None:
    """A whole text file, and the folders above it."""
    make_directory(path.parent)
    with atomic_write(path) as file:
        file.write(text.encode())
