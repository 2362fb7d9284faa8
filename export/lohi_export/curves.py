"""The course of a training run as a table and a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from lohi_edge.files import atomic_write

Row = dict[str, float]


def write_curves(folder: Path, rows: Sequence[Row]) -> None:
    """curves.csv and curves.png in a run folder, from one row an interval.

    Raises:
        DiskError: the disk would not take them.
    """
    if not rows:
        return
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    path, content = folder / "curves.csv", text.getvalue().encode()
    if path.is_file() and path.read_bytes() == content:
        return
    # The picture first, so that a table on disk has its picture.
    with atomic_write(folder / "curves.png") as file:
        file.write(_picture(rows))
    with atomic_write(path) as file:
        file.write(content)


def _picture(rows: Sequence[Row]) -> bytes:
    from matplotlib.figure import Figure  # half a second to import

    steps = [row["step"] for row in rows]
    figure = Figure(figsize=(12, 3.5), layout="constrained")
    losses, psnr, ssim = figure.subplots(1, 3)
    for name in (name for name in rows[0] if name.startswith("loss_")):
        losses.plot(steps, [row[name] for row in rows], label=name.removeprefix("loss_"))
    losses.set_yscale("log")
    for axes, name, unit in ((psnr, "psnr", "PSNR, dB"), (ssim, "ssim", "SSIM")):
        axes.plot(steps, [row[name] for row in rows], label="output")
        axes.plot(steps, [row[f"{name}_raw"] for row in rows], "--", label="raw 64 mT")
        axes.set_title(f"validation {unit}")
    losses.set_title("training losses")
    for axes in (losses, psnr, ssim):
        axes.set_xlabel("step")
        axes.legend(loc="center right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return stream.getvalue()
