"""Is this scan fit to be enhanced? Every metric of the input, none of which needs a reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from lohi_edge.quality import artefacts, extent, signal, slicewise
from lohi_edge.quality.measure import Better, Measure, NotApplicable, take
from lohi_edge.quality.recognise import Recognition, recognise
from lohi_edge.quality.scan import Scan, lay_out
from lohi_edge.volume import Float32, Float64, Volume

MIN_SLICES = 6  # fewer head slices say nothing about their order
_MAX_SPECTRUM = 1_500_000  # voxels; larger scans are transformed on the 2 mm grid
_SLOPE = "log per 100 mm"
_MASKED = "the background is masked: there is no air to measure"


class _Scene:
    """What several metrics share, computed once when first asked for."""

    def __init__(self, scan: Scan, contrast: str, tesla: float | None = None) -> None:
        self.scan, self.contrast, self.tesla = scan, contrast, tesla

    @cached_property
    def noise(self) -> float:
        return signal.tissue_noise(self.scan.thin, self.scan.inner)

    @cached_property
    def field(self) -> Float32:
        return signal.shading_field(self.scan.work, self.scan.inner)

    @cached_property
    def slopes(self) -> Float64:
        try:
            return signal.shading_slopes(self.field, self.scan.inner)
        except ValueError as error:  # other metrics hold such a scan
            raise NotApplicable(str(error)) from None

    @cached_property
    def tissue_contrast(self) -> float:
        return signal.contrast(self.scan.work, self.field, self.scan.inner)

    @cached_property
    def table(self) -> Float32:
        table = slicewise.slice_table(self.scan.native, self.scan.zooms, self.scan.level)
        if len(table) < MIN_SLICES:
            raise NotApplicable(f"only {len(table)} slices show the head")
        return table

    @cached_property
    def planes(self) -> Float32:
        scan = self.scan
        small = scan.native.size <= _MAX_SPECTRUM
        return scan.native if small else np.moveaxis(scan.work, scan.axis, 2)

    @cached_property
    def recognition(self) -> Recognition:
        return recognise(self.scan.work, self.scan.head)

    def sharp(self, axis: int) -> float:
        return signal.sharpness(self.scan.thin, self.scan.inner, axis, self.noise)

    @cached_property
    def sharp_in_plane(self) -> float:
        return float(np.mean([self.sharp(a) for a in range(3) if a != self.scan.axis]))

    @cached_property
    def sharp_through(self) -> float:
        return self.sharp(self.scan.axis)

    def in_air(self) -> Scan:
        if not self.scan.has_air:
            raise NotApplicable(_MASKED)
        return self.scan

    def ghost(self) -> float:
        level = artefacts.ghost_level(self.scan.work, self.scan.air, self.scan.level)
        if level is None:
            raise NotApplicable(_MASKED)
        return level

    def field_strength(self) -> float:
        if self.tesla is None:
            raise NotApplicable("neither header nor sidecar states a field strength in tesla")
        return self.tesla

    def turned(self) -> float:
        found = self.recognition.turned
        if found is None:
            raise NotApplicable("the scan clearly shows an upright head")
        return found - self.recognition.head


Compute = Callable[[_Scene], float]
# name -> unit, which direction is better, how it is computed
METRICS: dict[str, tuple[str, Better, Compute]] = {
    "in_plane_mm": ("mm", "range", lambda s: max(s.scan.zooms[:2])),
    "slice_mm": ("mm", "range", lambda s: s.scan.zooms[2]),
    "slices": ("count", "range", lambda s: s.scan.native.shape[2]),
    "offset": ("ratio", "range", lambda s: signal.offset(s.scan.thin, s.scan.level)),
    "head_litres": ("l", "range", lambda s: extent.head_litres(s.scan.head)),
    "head_height": ("mm", "range", lambda s: extent.head_height(s.scan.head)),
    "head_width": ("mm", "range", lambda s: extent.head_width(s.scan.head)),
    "head_length": ("mm", "range", lambda s: extent.head_length(s.scan.head)),
    "head_share": ("ratio", "range", lambda s: extent.head_share(s.scan.head)),
    "crown_cut": ("ratio", "low", lambda s: extent.crown_cut(s.scan.head)),
    "side_cut": ("ratio", "low", lambda s: extent.side_cut(s.scan.head)),
    "head_like": ("score", "high", lambda s: s.recognition.head),
    "turned": ("score", "low", _Scene.turned),
    "contrast_margin": ("score", "high", lambda s: s.recognition.margins[s.contrast]),
    "masked": ("ratio", "range", lambda s: s.scan.masked),
    "noise": ("ratio", "low", lambda s: s.noise / s.scan.level),
    "snr_tissue": ("ratio", "high", lambda s: s.scan.level / max(s.noise, 1e-9)),
    "snr_dietrich": (
        "ratio",
        "high",
        lambda s: signal.dietrich_snr(s.scan.thin, s.scan.inner, s.in_air().air),
    ),
    "contrast": ("ratio", "range", lambda s: s.tissue_contrast),
    "cnr": (
        "ratio",
        "high",
        lambda s: s.tissue_contrast * s.scan.level / max(s.noise, 1e-9),
    ),
    "efc": ("ratio", "low", lambda s: signal.entropy_focus(s.scan.work, s.scan.head)),
    "fber": (
        "ratio",
        "high",
        lambda s: signal.foreground_background_energy(s.scan.thin, s.scan.head, s.in_air().air),
    ),
    "qi1": ("ratio", "low", lambda s: signal.artefact_share(s.scan.thin, s.in_air().air)),
    "ghost": ("ratio", "low", _Scene.ghost),
    "shading": ("log sd", "low", lambda s: signal.shading(s.field, s.scan.inner)),
    "shading_right": (_SLOPE, "range", lambda s: s.slopes[0]),
    "shading_front": (_SLOPE, "range", lambda s: s.slopes[1]),
    "shading_up": (_SLOPE, "range", lambda s: s.slopes[2]),
    "sharp_in_plane": ("ratio", "range", lambda s: s.sharp_in_plane),
    "sharp_through": ("ratio", "range", lambda s: s.sharp_through),
    "field_strength": ("T", "low", _Scene.field_strength),
    "high_field": ("ratio", "low", lambda s: min(s.sharp_in_plane, s.sharp_through)),
    "clipped": ("ratio", "low", lambda s: signal.clipped(s.scan.native, s.scan.level)),
    "echo": ("ratio", "low", lambda s: artefacts.echo(s.scan.native)),
    "spike": ("ratio", "low", lambda s: artefacts.spike(s.planes)),
    "zipper": ("robust sd", "low", lambda s: artefacts.zipper(s.planes)),
    "blank": ("ratio", "high", lambda s: slicewise.blank(s.table)),
    "repeated": ("ratio", "high", lambda s: slicewise.repeated(s.table)),
    "gap": ("ratio", "low", lambda s: slicewise.gap(s.table)),
    "swapped": ("ratio", "low", lambda s: slicewise.swapped(s.table)),
    "displaced": ("ratio", "low", lambda s: slicewise.displaced(s.table)),
    "jump": ("log", "low", lambda s: slicewise.jump(s.table)),
}


@dataclass(frozen=True, eq=False)
class Fitness:
    """Every metric of a scan, what the recogniser saw, and the arrays it was seen in."""

    measures: dict[str, Measure]
    recognition: Recognition | None
    scan: Scan

    def words(self, contrast: str) -> dict[str, str]:
        """What the sentences of a verdict need to name."""
        seen = self.recognition
        return {
            "contrast": contrast,
            "seen": seen.contrast if seen else "different",
            "orientation": (seen and seen.orientation) or "the axes were exchanged",
        }


def stated_tesla(volume: Volume) -> float | None:
    """The field strength that a scan's header or sidecar states, in tesla; None where it does not.

    No magnet of a scanner for people has 30 T: larger figures are gauss or millitesla.
    """
    sidecar = volume.origin.sidecar if volume.origin else None
    stated = (sidecar or {}).get("MagneticFieldStrength")
    if isinstance(stated, bool) or not isinstance(stated, int | float) or not 0 < stated < 30:
        return None
    return float(stated)


def high_field(volume: Volume, fine: Volume) -> float:
    """The metric of that name alone: sharpness along the axis where it is least."""
    _, _, compute = METRICS["high_field"]
    return float(compute(_Scene(lay_out(volume, fine), "")))


def assess(volume: Volume, fine: Volume, contrast: str) -> Fitness:
    """All metrics of a scan.

    Args:
        volume: on its own grid.
        fine: the same at 1 mm isotropic.
        contrast: what it is taken for, "T1w", "T2w" or "FLAIR".
    """
    scene = _Scene(lay_out(volume, fine), contrast, stated_tesla(volume))
    measures = {
        name: take(unit, better, partial(compute, scene))
        for name, (unit, better, compute) in METRICS.items()
    }
    seen = None if measures["head_like"].failed else scene.recognition
    return Fitness(measures, seen, scene.scan)
