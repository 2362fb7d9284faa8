"""One self-contained HTML page and a PNG contact sheet for a scan: verdict first, then why."""

from __future__ import annotations

import html
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from lohi_edge import finished
from lohi_edge.errors import BadInput
from lohi_edge.files import atomic_write
from lohi_edge.picture import MARK, before_after
from lohi_edge.quality import rejudge
from lohi_edge.receipt import is_withheld, known_limits, remarks
from lohi_edge.report_images import Images, find_images
from lohi_edge.report_maps import PLANES, maps
from lohi_edge.report_pictures import pictures, spots
from lohi_edge.spots import sheet_rows
from lohi_edge.withheld import WHY_NONE

_ADVICE = {
    "pass": "Nothing stands out. That says nothing about illness: a lesion may be faint or gone.",
    "warn": "Look at the reasons before you use the result.",
    "hold": "Do not use the result.",
    None: "The quality was not assessed.",
}
_WITHHELD = (
    f"{WHY_NONE}. Use the scan itself, which is untouched; if it is as bad as the reasons say, "
    "acquire it again."
)
_EDITED = (
    "This receipt was edited: its verdict does not follow from the figures and limits beside it. "
    "Do not use the result; enhance the scan again."
)
_NO_MARK = "NO ENHANCED IMAGE - research use only"
_NO_IMAGE = "<p class='missing'>{what}: its pictures cannot be shown.</p>"


def write(
    receipt: Path, scan: Path | None = None, told: Callable[[str], Any] = lambda line: None
) -> tuple[Path, Path | None]:
    """Make the page (and, where the images are still there, the contact sheet) of a receipt.

    Returns:
        `<name>_report.html` and `<name>_report.png` beside the receipt; the second is None where an
        image is gone or is a DICOM series. Of a result that was held back they show the scan alone.

    Args:
        scan: where it lies, if not where the receipt says.
        told: called with a line for each image that the page lacks, and where the verdict in the
            receipt was edited.

    Raises:
        BadInput: not a receipt of this software, or a page is there and this one would lack images.
        DiskError: the page cannot be written.
    """
    record = finished.require_receipt(receipt)
    images, page = find_images(receipt.parent, record, scan), page_path(receipt)
    series = record["source"].get("kind") == "dicom"  # of which no --scan helps
    if images.notes and page.exists():
        way = "remove that page first" if series else "name the scan with --scan, or remove it"
        notes = "; ".join(f"{note[0].lower()}{note[1:]}" for note in images.notes)
        raise BadInput(f"{page} is there, and this one would show less: {notes}; {way}")
    edited = rejudge.check(record) == "changed"
    made = pages(receipt, record, images, edited)
    if edited:
        told(f"{page}: {_EDITED}")
    for note in images.notes:
        find = scan is None and note.startswith("The scan") and not series
        advice = "; say where it lies with --scan" if find else ""
        lack = "" if series else ": its pictures are missing"
        told(f"{page}: {note[0].lower()}{note[1:]}{lack}{advice}")
    return made


def page_path(receipt: Path) -> Path:
    """Where the page of a receipt goes."""
    return receipt.with_name(f"{receipt.stem}_report.html")


def pages(
    receipt: Path, record: dict[str, Any], images: Images, edited: bool = False
) -> tuple[Path, Path | None]:
    """What `write` makes, from images that are in memory.

    Args:
        edited: the receipt's verdict is not to be believed.

    Raises:
        DiskError: a file cannot be written.
    """
    page = page_path(receipt)
    with atomic_write(page) as file:
        file.write(render(record, images, edited).encode(errors="backslashreplace"))
    withheld = is_withheld(record)
    if images.fine is None or (images.result is None and not withheld):
        return page, None
    sheet, said = page.with_suffix(".png"), [_NO_MARK, WHY_NONE] if withheld else []
    said += [_EDITED] if edited else []
    rows = sheet_rows(record, images.fine, images.result)
    before_after(sheet, rows, [*said, *remarks(record)])
    return page, sheet


def render(record: dict[str, Any], images: Images, edited: bool = False) -> str:
    """The page of a receipt; every text from outside is escaped."""
    verdict, withheld = record.get("verdict"), is_withheld(record)
    tone = verdict if verdict in ("pass", "warn", "hold") else "none"
    advice = _WITHHELD if withheld else _ADVICE.get(verdict, _ADVICE[None])
    words = {
        "mark": _NO_MARK if withheld else MARK,
        "verdict": "edited receipt" if edited else _text(verdict or "not assessed"),
        "tone": "hold" if edited else tone,
        "advice": _EDITED if edited else advice,
        "name": _text(_name(record)),
        "reasons": _reasons(record),
        "shown": "The scan" if withheld else "Before and after",
        "pictures": ("" if withheld else spots(record, images))
        + pictures(images.fine, images.result)
        + _maps(images)
        + "".join(_NO_IMAGE.format(what=_text(note)) for note in images.notes),
        "known": _known(record),
        "metrics": _metrics(record),
        "provenance": _provenance(record),
    }
    template = resources.files("lohi_edge").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(words)


def _name(record: dict[str, Any]) -> str:
    """What a page is about: the result's file, or the scan's where there is no result."""
    if is_withheld(record):
        return Path(str(record["source"].get("path") or "scan")).name
    return str(record["result"].get("path", "result"))


def _known(record: dict[str, Any]) -> str:
    """What the model's makers say it gets wrong, in results that pass as well."""
    if not (text := known_limits(record)):
        return ""
    title = "What this model is known to get wrong"
    return f"<section aria-label='Known limits'><h2>{title}</h2><p>{_text(text)}</p></section>"


def _maps(images: Images) -> str:
    """Rows of three small pictures; not printed."""
    if images.scan is None or images.fine is None or images.result is None:
        return ""
    rows = []
    for one in maps(images.scan, images.fine, images.result, images.uncertainty):
        row = "".join(
            f"<figure><figcaption>{plane}: {one.title}</figcaption>"
            f"<img src='{picture}' alt='{plane} slice: {one.alt}'></figure>"
            for plane, picture in zip(PLANES, one.pictures, strict=True)
        )
        rows.append(f"<div class='figures small'>{row}</div>")
    return "".join(rows)


def _reasons(record: dict[str, Any]) -> str:
    rows = [
        f"<li class='{_text(reason.get('level', 'note'))}'>"
        f"<b>{_text(reason.get('level', 'note'))}</b>: {_text(reason.get('text', ''))}</li>"
        for reason in record.get("reasons", [])
        if isinstance(reason, dict)
    ]
    return f"<ul>{''.join(rows)}</ul>" if rows else ""


def _metrics(record: dict[str, Any]) -> str:
    tables = []
    for part, title in (("scan", "The scan"), ("result", "The result")):
        metrics = record.get("metrics", {}).get(part)
        if not isinstance(metrics, dict):
            continue
        rows = "".join(_row(name, m) for name, m in metrics.items() if isinstance(m, dict))
        tables.append(
            f"<table><caption>{title}</caption><thead><tr><th scope='col'>metric</th>"
            "<th scope='col'>value</th><th scope='col'>range</th><th scope='col'>status</th></tr>"
            f"</thead><tbody>{rows}</tbody></table>"
        )
    return "".join(tables)


def _row(name: str, metric: dict[str, Any]) -> str:
    value, status = metric.get("value"), _text(metric.get("status", ""))
    shown = f"{value:.4g}" if isinstance(value, int | float) else _text(metric.get("note", "none"))
    return (
        f"<tr class='{status.replace(' ', '-')}'><th scope='row'>{_text(name)}</th>"
        f"<td>{shown} <small>{_text(metric.get('unit', ''))}</small></td>"
        f"<td>{gauge(metric)}</td><td>{status}</td></tr>"
    )


def gauge(metric: dict[str, Any]) -> str:
    """A bar with the good range and a needle at the value (inline SVG).

    Where the range is open at one end the bar begins at zero, so that the needle says how much of
    the limit is used up.
    """
    value, limits = metric.get("value"), metric.get("limits", {})
    pair = limits.get("warn") or limits.get("hold") if isinstance(limits, dict) else None
    if not isinstance(value, int | float) or not isinstance(pair, list) or len(pair) != 2:
        return ""
    if not all(end is None or isinstance(end, int | float) for end in pair):
        return ""
    low, high = pair
    ends = [0.0 if v is None else float(v) for v in (low, high, value)]
    span = max(max(ends) - min(ends), abs(max(ends, key=abs)) * 0.2, 1e-9)
    left, right = min(ends) - 0.2 * span, max(ends) + 0.2 * span

    def at(v: float) -> float:
        return 100 * (v - left) / (right - left)

    start = 0.0 if low is None else at(low)
    stop = 100.0 if high is None else at(high)
    words = " to ".join("any" if v is None else f"{v:.4g}" for v in (low, high))
    return (
        f"<svg viewBox='0 0 100 8' role='img' aria-label='{value:.4g}, good is {words}'>"
        "<rect width='100' height='8' class='bad'/>"
        f"<rect x='{start:.1f}' width='{max(stop - start, 0):.1f}' height='8' class='good'/>"
        f"<rect x='{at(value) - 0.8:.1f}' width='1.6' height='8' class='needle'/></svg>"
    )


def _provenance(record: dict[str, Any]) -> str:
    rows = []
    for key in ("source", "contrast", "bundle", "onnx", "engine", "runtime", "precision",
                "fallback", "device", "software", "timings", "result", "intended_use"):  # fmt: skip
        value = record.get(key)
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items() if k != "affine")
        rows.append(f"<dt>{key}</dt><dd>{_text(value)}</dd>")
    return f"<dl>{''.join(rows)}</dl>"


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)
