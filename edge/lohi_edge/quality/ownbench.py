"""The fault bench of a device's own limits: scanners that each scan many heads.

Limits learned from all heads but one are put to that one, clean and with the faults that the limits
for any scanner cannot tell from another scanner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lohi_edge import nifti
from lohi_edge.bundle import CONTRASTS
from lohi_edge.errors import BadInput
from lohi_edge.files import read_bytes, sha256
from lohi_edge.nifti import MAX_FILE_BYTES
from lohi_edge.quality import own_limits, verdict
from lohi_edge.quality.benchrun import FITTED, REPORTED, Progress, check_digest, kept, write
from lohi_edge.quality.benchstats import rate, verdict_of
from lohi_edge.quality.faultbench import Case, Row, cases, damaged_rows, measure

FAULTS = ("noise", "strong shading")
# fault, strength, what counts
_TABLE = (
    ("", 0, "clean: warned of or held", "warn"),
    ("", 0, "clean: held", "hold"),
    *((fault, 1, f"{fault}, middle: caught", "warn") for fault in FAULTS),
    *((fault, 2, f"{fault}, strong: held", "hold") for fault in FAULTS),
)


def run(scanners: Iterable[Path], out: Path, progress: Progress) -> list[dict[str, Any]]:
    """Measure every head of every scanner, and say what is caught.

    Writes rows/*.json and own-limits.md into `out`; a row is not measured again while scan and
    check are the same.

    Args:
        scanners: a data set each, of `lohi-export simulate --scanner`.

    Raises:
        BadInput: a data set with too few heads of a contrast to learn from.
        DiskError: the folder cannot be written.
    """
    sets = [cases(folder, [*FITTED, *REPORTED]) for folder in scanners]
    total = sum(map(len, sets))
    done = 0
    judged: list[tuple[Row, str, str]] = []
    for number, found in enumerate(sets):
        by_contrast: dict[str, list[Row]] = {}
        for case in found:
            progress(done, total, case.path.name)
            by_contrast.setdefault(case.contrast, []).extend(_measured(case, out, number))
            done += 1
        for contrast, rows in by_contrast.items():
            judged += judge(rows, contrast)
    progress(total, total, "")
    summary = summarise(judged)
    write(out / "own-limits.md", table(summary))
    return summary


def _measured(case: Case, out: Path, scanner: int) -> list[Row]:
    digest = sha256(read_bytes(case.path, MAX_FILE_BYTES))
    path = out / "rows" / f"scanner-{scanner}-{case.name}.json"
    return kept(path, {"scan": digest, "check": check_digest()}, lambda: list(_rows(case)))


def _rows(case: Case) -> Iterable[Row]:
    volume = nifti.read(case.path)
    yield case.row("scan", "", 0, measure(volume, case.contrast))
    yield from damaged_rows(case, volume, FAULTS)


def judge(rows: list[Row], contrast: str) -> list[tuple[Row, str, str]]:
    """Rows of one scanner and contrast, each with its verdict by the limits that ship and by own.

    Raises:
        BadInput: too few heads to learn from.
    """
    base: Mapping[str, Any] = verdict.limits_for(contrast, {})["scan"]
    judged = []
    for head in sorted({row.head for row in rows}):
        others = [row.values for row in rows if row.head != head and not row.fault]
        learned = own_limits.learn(others, base)
        if not learned.limits:
            raise BadInput(
                f"expected at least {own_limits.FEWEST + 1} heads of {contrast} from each "
                f"scanner, got {len(others) + 1} (without head {head}, {learned.scans} count)"
            )
        own = {**base, **learned.limits}
        judged += [
            (row, verdict_of(row, base), verdict_of(row, own)) for row in rows if row.head == head
        ]
    return judged


def summarise(judged: list[tuple[Row, str, str]]) -> list[dict[str, Any]]:
    """Of each contrast and line of the table: `what`, and the Rates `shipped` and `own`."""
    found = []
    for contrast in CONTRASTS:
        of_one = [one for one in judged if one[0].contrast == contrast]
        for fault, strength, title, level in _TABLE if of_one else ():
            rows = [o for o in of_one if (o[0].fault, o[0].strength) == (fault, strength)]
            shipped, own = (
                rate([(o[0].head, o[at] in ("hold", level)) for o in rows]) for at in (1, 2)
            )
            found.append({"contrast": contrast, "what": title, "shipped": shipped, "own": own})
    return found


def table(summary: list[dict[str, Any]]) -> str:
    """The summary as Markdown."""
    lines = ["| contrast | what | n | limits that ship | own limits |", "|---|---|---|---|---|"]
    for row in summary:
        ends = f"{row['shipped'].count} | {row['shipped']} | {row['own']}"
        lines.append(f"| {row['contrast']} | {row['what']} | {ends} |")
    return "\n".join(lines) + "\n"
