"""A picture of the sensitivity table."""

from __future__ import annotations

import io

from lohi_calibration.sensitivity import Sensitivity


def plot(rows: list[Sensitivity], skip: frozenset[str]) -> bytes:
    """PNG: PSNR lost by quantizing each layer alone, and time saved; released layers are orange."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.28 * len(rows) + 1.5), layout="constrained")
    loss, time = figure.subplots(1, 2, sharey=True)
    names = [row.layer for row in rows]
    colours = ["tab:orange" if name in skip else "tab:blue" for name in names]
    loss.barh(names, [row.psnr_lost_db for row in rows], color=colours)
    loss.set_xlabel("PSNR lost when quantized alone (dB)")
    time.barh(names, [row.ms_saved for row in rows], color=colours)
    time.set_xlabel("time saved a slice (ms)")
    loss.invert_yaxis()
    loss.tick_params(axis="y", labelsize=7)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()
