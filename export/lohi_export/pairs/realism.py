"""How real 64 mT scans differ from simulated ones, statistic by statistic.

A network carries over to a scanner only as far as simulated scans look like that scanner's. All are
measured alike at 1 mm, inside the head: brightness as the network is fed it, and the device's own
metrics of a scan.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from scipy import ndimage as ndi

from lohi_edge.head import find_head
from lohi_edge.quality import fitness
from lohi_edge.quality.scan import WORK_MM, Mask
from lohi_edge.slices import SliceContract, intensity_range
from lohi_edge.volume import Float32, Volume

FITNESS = (
    "head_width", "head_length", "masked", "noise", "contrast", "cnr", "efc", "shading",
    "sharp_in_plane", "sharp_through",
)  # fmt: skip
PERCENTILES = (5, 25, 50, 75, 90, 95, 99)
STEPS_MM = (2, 4, 6)  # between voxels whose grain is compared
SMOOTH_MM = 6  # sd of what is taken off an image to leave its grain
USUAL = (5, 95)  # percent of simulated scans
Statistics = Mapping[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """One statistic.

    Attributes:
        real: median over the real scans that have it.
        low, median, high: 5th, 50th and 95th percentile over the simulated scans.
        below: share of simulated scans below `real`, 0 to 1.
        verdict: "usual", "rare" outside of `low` to `high`, "never" beyond every simulated scan.
    """

    statistic: str
    real: float
    low: float
    median: float
    high: float
    below: float
    verdict: str


def statistics(volume: Volume, contrast: str) -> Statistics:
    """Every statistic of a scan; None where one does not apply.

    P05 to P99 are percentiles inside the head's inner part of brightness in [-1, 1], as the network
    sees it; grain_2mm to grain_6mm the correlation of neighbours in what is finer than 6 mm.

    Raises:
        BadInput: no head.
    """
    fine = volume.isotropic()
    seen = fitness.assess(fine, fine, contrast)
    low, high = intensity_range(fine.data, find_head(fine.data), SliceContract())
    inside = 2 * (seen.scan.work[seen.scan.inner] - low) / (high - low) - 1
    values = np.percentile(np.clip(inside, -1, 1), PERCENTILES)
    found: dict[str, float | None] = {name: seen.measures[name].value for name in FITNESS}
    found |= {f"P{p:02d}": float(v) for p, v in zip(PERCENTILES, values, strict=True)}
    return found | _grain(seen.scan.work, seen.scan.inner)


def _grain(work: Float32, inner: Mask) -> dict[str, float | None]:
    """Correlation along the first axis of what is left of an image without its smooth part."""
    weight = np.maximum(ndi.gaussian_filter(inner.astype(np.float32), SMOOTH_MM / WORK_MM), 1e-3)
    smooth = ndi.gaussian_filter(np.where(inner, work, 0), SMOOTH_MM / WORK_MM) / weight
    grain = np.where(inner, work - smooth, 0)
    found: dict[str, float | None] = {}
    for step in STEPS_MM:
        n = step // WORK_MM
        both = inner[n:] & inner[:-n]
        a, b = grain[n:][both], grain[:-n][both]
        power = float(np.sqrt((a * a).sum() * (b * b).sum()))
        found[f"grain_{step}mm"] = float((a * b).sum()) / power if power > 0 else None
    return found


def compare(real: Sequence[Statistics], simulated: Sequence[Statistics]) -> list[Comparison]:
    """Hold real scans against simulated ones; statistics that neither side has are left out."""
    rows = []
    for name in real[0]:
        own, others = _present(real, name), _present(simulated, name)
        if not len(own) or not len(others):
            continue
        value = float(np.median(own))
        low, median, high = (float(v) for v in np.percentile(others, (USUAL[0], 50, USUAL[1])))
        if not others.min() <= value <= others.max():
            verdict = "never"
        else:
            verdict = "usual" if low <= value <= high else "rare"
        below = float((others < value).mean())
        rows.append(Comparison(name, value, low, median, high, below, verdict))
    return rows


def _present(scans: Iterable[Statistics], name: str) -> np.ndarray:
    return np.array([v for s in scans if (v := s[name]) is not None], dtype=np.float64)


def table(rows: Sequence[Comparison]) -> str:
    """A line a statistic, for people."""
    lines = [f"{'statistic':16}{'real':>9}{'simulated 5 %':>15}{'50 %':>9}{'95 %':>9}"]
    for row in rows:
        flag = "" if row.verdict == "usual" else f"  {row.verdict}"
        lines.append(
            f"{row.statistic:16}{row.real:9.3f}{row.low:15.3f}{row.median:9.3f}{row.high:9.3f}{flag}"
        )
    return "\n".join(lines) + "\n"


def to_csv(rows: Sequence[Comparison]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [f.name for f in fields(Comparison)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return out.getvalue()


def picture(real: Sequence[Statistics], simulated: Sequence[Statistics]) -> bytes:
    """PNG: every simulated scan grey, every real one orange, a strip a statistic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [n for n in real[0] if len(_present(real, n)) and len(_present(simulated, n))]
    figure = Figure(figsize=(8, 0.45 * len(names) + 1), layout="constrained")
    for axis, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        others, own = _present(simulated, name), _present(real, name)
        axis.plot(others, np.zeros(len(others)), "|", color="0.6", markersize=12)
        axis.plot(own, np.zeros(len(own)), "o", color="tab:orange", markersize=5)
        axis.set_yticks([])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axis.tick_params(labelsize=6)
    data = io.BytesIO()
    FigureCanvasAgg(figure).print_png(data)
    return data.getvalue()
