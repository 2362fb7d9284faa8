"""Pictures of the report, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lohi_edge.picture import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIMIT = 0.5  # of the difference maps, half of the grey scale's reach of -1 to 1


def boxes(panels: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Box plots, one panel a metric: {title: {system: values}}; every head is a dot as well."""
    figure = _figure(len(panels), 3.0, 2.6)
    for axes, (title, systems) in zip(_axes(figure, len(panels)), panels.items(), strict=True):
        at = range(len(systems))
        axes.boxplot(list(systems.values()), positions=at, widths=0.6, showfliers=False)
        for n, values in zip(at, systems.values(), strict=True):
            axes.plot([n] * len(values), values, "o", color="#0b57d0", alpha=0.5, markersize=3)
        axes.set_xticks(at, list(systems), rotation=60, ha="right", fontsize=7)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(title, fontsize=9)
    return _svg(figure)


def bland_altman(
    panels: Mapping[str, tuple[Sequence[float], Sequence[float]]], unit: str, relative: bool
) -> str:
    """Bland-Altman plots, one panel a system: {title: (reference values, system's values)}.

    Difference against mean, with bias and limits of agreement (1.96 sd).

    Args:
        unit: of the values.
        relative: differences in percent of the mean, and a logarithmic axis for it: for regions
            whose sizes differ by orders of magnitude.
    """
    figure = _figure(len(panels), 3.0, 2.4)
    for axes, (title, pair) in zip(_axes(figure, len(panels)), panels.items(), strict=True):
        a, b = (np.asarray(values, np.float64) for values in pair)
        mean, difference = (a + b) / 2, b - a
        if relative:
            seen = mean > 0
            mean, difference = mean[seen], 100 * difference[seen] / mean[seen]
            axes.set_xscale("log")
        axes.plot(mean, difference, "o", color="#0b57d0", alpha=0.6, markersize=3)
        if len(difference):
            bias = float(difference.mean())
            axes.axhline(bias, color="#111", linewidth=1)
        if len(difference) > 1:
            for end in (-1.96, 1.96):
                limit = bias + end * float(difference.std(ddof=1))
                axes.axhline(limit, color="#a8071a", linewidth=1, linestyle="--")
        axes.axhline(0, color="#999", linewidth=0.5)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(f"mean, {unit}", fontsize=7)
        axes.set_ylabel("difference, %" if relative else f"difference, {unit}", fontsize=7)
        axes.tick_params(labelsize=7)
    return _svg(figure)


def decode(plane: str) -> NDArray[np.uint8]:
    """A plane kept as base64 PNG."""
    with Image.open(io.BytesIO(base64.b64decode(plane))) as image:
        return np.asarray(image)


def picture(plane: NDArray[np.uint8]) -> str:
    """A grey slice as a data URI."""
    return png(plane)


def difference(plane: NDArray[np.uint8], truth: NDArray[np.uint8]) -> str:
    """Where a slice is brighter (red) or darker (blue) than the truth, as a data URI."""
    from matplotlib import colormaps

    grey = (plane.astype(np.float64) - truth) / 127.5
    rgb = colormaps["seismic"]((grey / LIMIT + 1) / 2)[..., :3]
    return png(np.rint(rgb * 255).astype(np.uint8))


def _figure(panels: int, width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # half a second to import

    columns, rows = min(panels, 4), -(-panels // 4)
    return Figure(figsize=(columns * width, rows * height), layout="constrained")


def _axes(figure: Figure, panels: int) -> list[Any]:
    columns, rows = min(panels, 4), -(-panels // 4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[panels:]:
        axes.set_axis_off()
    return list(grid[:panels])


def _svg(figure: Figure) -> str:
    import matplotlib

    stream = io.BytesIO()
    # The same figure, the same bytes: no date, no random identifiers.
    with matplotlib.rc_context({"svg.hashsalt": "lohi", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()
