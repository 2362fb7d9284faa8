"""Volumes of 33 regions from a head scan of any contrast, offline. Research use only.

A small network (`segmenter.onnx`, trained by `lohi-export morphometry` on label maps painted in
random contrasts) gives, on 2 mm voxels, the share of each structure and of the right side. How
well it measures each region, and how it works: docs/reference/morphometry.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lohi_edge.errors import BadInput
from lohi_edge.head import BLOCK, find_head
from lohi_edge.quality import fitness, frame, recognise, segmenter_file
from lohi_edge.quality.features import (
    CLASSES,
    USUAL_SIZE,
    ImageMaps,
    Place,
    atlas_in,
    candidates,
    chances,
    context,
    first_answer,
    place_of,
)
from lohi_edge.quality.regions import CEREBELLUM, REGIONS, STRUCTURES
from lohi_edge.quality.scan import block_mean, lay_out
from lohi_edge.quality.segmentation import (
    Segmentation,
    cerebellum_bottom,
    intracranial,
    region_volumes,
)
from lohi_edge.quality.verdict import shipped
from lohi_edge.source import says_synthetic
from lohi_edge.volume import Float32, Float64, Volume

__all__ = ["REGIONS", "Segmentation", "Segmenter", "intracranial", "region_volumes"]

THICK_MM = 2.0  # voxels longer than this are those of a portable scanner
PASSES = 4  # at most, to find the brain's centre
CLOSE_MM, CLOSE_SIZE = 2.0, 0.02  # a place that changes less than this is found
THIN = 2  # voxels of 2 mm between those that are looked at to find it
UPPER_MM = 100  # of the head below the crown, without nose and ears, that tells where the brain is
# The brain's centre below the crown, in head widths; behind the middle, in head lengths; and the
# brain's size, in head widths.
BELOW_CROWN, BEHIND, SIZE = 0.51, 0.053, (0.195, 0.232, 0.178)
SMALLEST, LARGEST = 0.75, 1.3  # of the usual size
SKULL_ML = (600, 2600)  # intracranial volumes of children and adults, with a margin
MOST_OUTSIDE = 0.05  # of the inside of the skull may lie where there is no image


class Segmenter:
    """The network, loaded once."""

    def __init__(self, path: Path | None = None, threads: int | None = None) -> None:
        """Load an ONNX file of `lohi-export morphometry export`; None is the one that ships.

        Raises:
            BadInput: no such file.
            BundleError: not a segmenter.
        """
        self._network = segmenter_file.load(path, threads)

    def errors(self, volume: Volume) -> Mapping[str, float]:
        """Region name -> volume error to expect in images like this one, percent.

        Means on heads that the network was not trained on; empty where none were measured.
        """
        if volume.origin is not None and says_synthetic(volume.origin):
            kind = "synthetic"
        else:
            kind = "64mT" if _is_low_field(volume) else "3T"
        return self._network.errors.get(kind, {})

    def segment(self, volume: Volume) -> Segmentation:
        """Segment a scan, on the grid of `volume.isotropic()`.

        Raises:
            BadInput: no head is found, or none that this network understands, or too much of it
                lies outside the image.
        """
        fine = volume.isotropic()
        _refuse_no_head(volume, fine)
        start, place = self._find(fine)
        image = frame.window(fine, start)
        answer = self._answer(image, place)
        size = frame.CROP_MM[0]
        mirrored = Place(place.centre * (-1, 1, 1) + (size, 0, 0), place.size)
        other = self._answer(np.ascontiguousarray(image[::-1]), mirrored)[:, ::-1]
        # A mirrored head gives mirrored regions, exactly.
        shares: Float32 = (answer[:-1] + other[:-1]) / np.float32(2)
        right: Float32 = (answer[-1] + np.float32(1) - other[-1]) / np.float32(2)
        bottom = cerebellum_bottom(4 * shares[_classes_of(CEREBELLUM)].sum(axis=(0, 1, 2)))
        shares[1:, :, :, :bottom] = 0
        found = _sums(shares, right)
        total = sum(found.values()) / 1000
        if not SKULL_ML[0] <= total <= SKULL_ML[1]:
            raise BadInput(
                f"expected a head with {SKULL_ML[0]} to {SKULL_ML[1]} ml inside the skull, found "
                f"{total:.0f} ml; check that the scan shows a whole, upright head"
            )
        labels = _in_the_image(_winners(shares, right), start, fine.shape)
        return Segmentation(labels, fine.affine, found)

    def _find(self, fine: Volume) -> tuple[NDArray[np.int_], Place]:
        """The window's first voxel and the brain's place in it, from the head's outline onwards."""
        centre, size = _first_place(fine)
        for _ in range(PASSES):
            start = frame.start_voxel(centre)
            place = Place(centre - start + 0.5, size)
            guess = self._answer(frame.window(fine, start), place, thin=THIN)[:-1]
            # Only where it is likely: small shares far away would make a brain grow with each pass.
            found = place_of(guess * (guess[1 : CLASSES - 1].sum(axis=0) > 0.5))
            moved = np.abs(found.centre - place.centre).max()
            grown = np.abs(found.size / size - 1).max()
            centre = found.centre - 0.5 + start
            size = np.clip(found.size, SMALLEST * USUAL_SIZE, LARGEST * USUAL_SIZE)
            if moved < CLOSE_MM and grown < CLOSE_SIZE:
                break
        start = frame.start_voxel(centre)
        return start, Place(centre - start + 0.5, size)

    def _answer(self, image: Float32, place: Place, thin: int = 0) -> Float32:
        """Shares and right side (CLASSES + 1, *CROP) of a window.

        With `thin`, of the first stage and of one voxel in `thin` along each axis only.
        """
        atlas = atlas_in(place, self._network.atlas)
        index = candidates(atlas)
        if thin:
            index = index[(index % thin == 0).all(axis=1)]
        maps = ImageMaps.of(image, atlas)
        guess = first_answer(self._network.first, index, maps, place, atlas)
        if thin:
            return guess
        return chances(self._network.second(context(image, guess)), guess)


def _in_the_image(
    regions: NDArray[np.int16], start: NDArray[np.int_], shape: tuple[int, int, int]
) -> NDArray[np.int16]:
    """The window's regions on the scan's grid; BadInput where too much of them is lost by that.

    The window goes on where the scan ends, and the network guesses what would lie there.
    """
    labels = frame.paste(regions, start, shape)
    outside = 1 - int(np.count_nonzero(labels)) / max(int(np.count_nonzero(regions)), 1)
    if outside > MOST_OUTSIDE:
        raise BadInput(
            f"expected at most {MOST_OUTSIDE:.0%} of the inside of the skull outside the image, "
            f"found {outside:.1%}; measure a scan of the whole head"
        )
    return labels


def _is_low_field(volume: Volume) -> bool:
    """Whether a scan is one of a portable scanner: by its voxels, or by how blurred it is."""
    if volume.zooms.max() > THICK_MM:
        return True
    sharpest = shipped()["scan"]["T1w"]["high_field"]["warn"][1]  # the same in every contrast
    return fitness.high_field(volume, volume.isotropic()) < float(sharpest)


def _refuse_no_head(volume: Volume, fine: Volume) -> None:
    scan = lay_out(volume, fine)
    cells, head = block_mean(scan.work, 2), block_mean(scan.head.astype(np.float32), 2) > 0.5
    least = shipped()["scan"]["T1w"]["head_like"]["hold"][0]  # the same in every contrast
    if recognise.upright_score(recognise.canonical(cells, head)) < float(least):
        raise BadInput("expected an upright head, got an image unlike one; check the scan")


def _first_place(fine: Volume) -> tuple[Float64, Float64]:
    """A first guess of the brain's centre, voxels of 1 mm, and size, mm, from the head's outline.

    Proportions are means over the label maps of heads 01-12.
    """
    head = find_head(fine.data)
    crown = head.high[2]
    upper = head.cells[:, :, max(0, (crown - UPPER_MM) // BLOCK) :]
    rows = [np.flatnonzero(upper.any(axis=axes)) for axes in ((1, 2), (0, 2))]
    (left, right), (back, front) = ((BLOCK * r[0], BLOCK * (r[-1] + 1)) for r in rows)
    width, length = right - left, front - back
    x, y = (left + right - 1) / 2, (back + front - 1) / 2
    centre = np.array([x, y - BEHIND * length, crown - BELOW_CROWN * width], dtype=np.float64)
    return centre, np.clip(width * np.array(SIZE), SMALLEST * USUAL_SIZE, LARGEST * USUAL_SIZE)


def _classes_of(labels: tuple[int, ...]) -> list[int]:
    return [n for n, (_, left, _) in enumerate(STRUCTURES, 1) if left in labels]


def _sums(shares: Float32, right: Float32) -> dict[int, float]:
    """mm3 of every region from its shares of 2 mm voxels."""
    voxel = float(frame.SPACING_MM**3)
    found = {}
    for share, (_, left_label, right_label) in zip(shares[1:], STRUCTURES, strict=True):
        if right_label is None:
            found[left_label] = voxel * float(share.sum(dtype=np.float64))
        else:
            found[left_label] = voxel * float((share * (1 - right)).sum(dtype=np.float64))
            found[right_label] = voxel * float((share * right).sum(dtype=np.float64))
    return found


def _winners(shares: Float32, right: Float32) -> NDArray[np.int16]:
    """Region of every 1 mm voxel of the window: the largest of the interpolated shares.

    One structure at a time, so that memory is that of a few windows.
    """
    best = frame.finer(shares[0])
    labels = np.zeros(best.shape, np.int16)
    rightwards = frame.finer(right) > 0.5
    for share, (_, left_label, right_label) in zip(shares[1:], STRUCTURES, strict=True):
        fine = frame.finer(share)
        wins = fine > best
        best[wins] = fine[wins]
        side = left_label if right_label is None else np.where(rightwards, right_label, left_label)
        np.copyto(labels, np.asarray(side, dtype=np.int16), where=wins)
    return labels
