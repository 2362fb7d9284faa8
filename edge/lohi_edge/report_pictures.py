"""The pictures of a report: before and after, in the middle and where the check found a spot."""

from __future__ import annotations

from typing import Any

from lohi_edge.picture import Voxel, marked, png, views
from lohi_edge.report_images import Images
from lohi_edge.report_maps import PLANES
from lohi_edge.spots import places
from lohi_edge.volume import Volume

_SIDES = ("patient's right on the left",) * 2 + ("front on the left",)


def pictures(scan: Volume | None, result: Volume | None, at: Voxel | None = None) -> str:
    """Three planes before and after, through the middle or through a voxel, with a ring there."""
    if scan is None and result is None:
        return ""
    before = views(scan.data, at) if scan else None
    after = [marked(plane) for plane in views(result.data, at)] if result else None
    figures = []
    for i, (name, sides) in enumerate(zip(PLANES, _SIDES, strict=True)):
        plane = f"{name} through the spot" if at else name
        if before and after:
            figures.append(
                f"<figure><figcaption>{plane}, {sides}: before | after</figcaption>"
                "<div class='pair' style='--cut:50%'>"
                f"<img src='{png(before[i])}' alt='{plane} slice of the 64 mT scan'>"
                f"<img class='after' src='{png(after[i])}' alt='{plane} slice of the synthetic "
                f"result'></div><label>before | after <input type='range' min='0' max='100' "
                f"value='50' aria-label='{plane}: share of the picture that shows the scan before "
                "enhancement, percent'></label></figure>"
            )
        else:
            one = before or after
            assert one
            what = "64 mT scan" if before else "synthetic result"
            figures.append(
                f"<figure><figcaption>{plane}, {sides}: {what}</figcaption>"
                f"<img src='{png(one[i])}' alt='{plane} slice of the {what}'></figure>"
            )
    return f"<div class='figures'>{''.join(figures)}</div>"


def spots(record: dict[str, Any], images: Images) -> str:
    """Before and after where the reasons say that one spot is to be compared."""
    grid = images.fine or images.result
    if grid is None:
        return ""
    parts = [
        f"<h3>Compare here: the spot in the ring</h3>{pictures(images.fine, images.result, at)}"
        for at in places(record, grid)
    ]
    return f"<div class='spots'>{''.join(parts)}</div>" if parts else ""
