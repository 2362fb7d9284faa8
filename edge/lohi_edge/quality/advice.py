"""What a figure outside its limits means, and what to do about it, in plain words."""

from __future__ import annotations

_UNEVEN = (
    "brightness differs between {} otherwise than in this scanner's scans: check the coil and its "
    "plugs, centre the head in it, repeat the scan"
)
# metric -> (text when too low, text when too high); {value} and {limit} may be named
TEXTS: dict[str, tuple[str, str]] = {
    "in_plane_mm": (
        "the voxels are {value:.1f} mm in the plane of the slices, finer than this model was made "
        "for: check that this is a 64 mT scan",
        "the voxels are {value:.1f} mm in the plane of the slices, coarser than this model was "
        "made for: use the scanner's standard resolution",
    ),
    "slice_mm": (
        "the slices are {value:.1f} mm thick, thinner than this model was made for: check that "
        "this is a 64 mT scan",
        "the slices are {value:.1f} mm thick, thicker than this model was made for: repeat with "
        "thinner slices",
    ),
    "slices": (
        "too few slices ({value:.0f}): send the whole series, not a part of it",
        "{value:.0f} slices, more than a head scan has: check the file",
    ),
    "offset": (
        "the brightness reaches far below zero: export the scan again as the scanner made it",
        "even the darkest voxels are {percent:.0f} % as bright as the head, as if a number had "
        "been added to all: export the scan again as the scanner made it",
    ),
    "head_litres": (
        "too little of the head is in the field of view: move the patient to the centre of the "
        "coil",
        "what is in the field of view is larger than a head: check voxel sizes, and what was "
        "scanned",
    ),
    "head_height": (
        "only {value:.0f} mm of the head from crown to neck are in the field of view: centre the "
        "head and repeat the scan",
        "the head is {value:.0f} mm high, more than a head measures: check the slice spacing",
    ),
    "head_width": (
        "the head is only {value:.0f} mm wide: check the voxel size, and that the whole head was "
        "scanned",
        "the head is {value:.0f} mm wide, more than a head measures: check the voxel size",
    ),
    "head_length": (
        "the head is only {value:.0f} mm from front to back: check the voxel size, and that the "
        "whole head was scanned",
        "the head is {value:.0f} mm from front to back, more than a head measures: check the voxel "
        "size",
    ),
    "crown_cut": (
        "",
        "the top of the head is outside the field of view: move the patient down by about "
        "{shift} cm, away from the top of the coil, and repeat the scan",
    ),
    "side_cut": (
        "",
        "the head touches the side of the field of view: centre the patient and repeat the scan",
    ),
    "head_like": ("this does not look like an upright head: check what was scanned", ""),
    "turned": (
        "",
        "the scan looks as if {orientation}: check the patient position that was entered at the "
        "scanner",
    ),
    "contrast_margin": (
        "this looks like a {seen} scan but is taken for {contrast}: check the sequence, or name "
        "the contrast with --contrast (enhance.contrast of the daemon)",
        "",
    ),
    "noise": ("", "the scan is noisy: look for sources of interference and repeat the scan"),
    "snr_tissue": ("the signal is weak against the noise: repeat the scan", ""),
    "snr_dietrich": ("the signal is weak against the noise in air: repeat the scan", ""),
    "contrast": (
        "tissues can hardly be told apart: check the sequence and repeat the scan",
        "brightness varies more inside the head than tissue does: look for artefacts",
    ),
    "cnr": ("tissue contrast drowns in noise: repeat the scan", ""),
    "efc": ("", "signal is spread out as by motion: ask the patient to lie still, repeat the scan"),
    "fber": ("the head hardly stands out from the background: repeat the scan", ""),
    "qi1": ("", "artefacts reach into the air around the head: the head may have moved; repeat"),
    "ghost": (
        "",
        "ghosts of the head lie in the background: the head moved; ask the patient to lie still "
        "and repeat the scan",
    ),
    "echo": (
        "",
        "faint copies of the head's edges lie over the picture: the head moved; ask the patient to "
        "lie still and repeat the scan",
    ),
    "shading": (
        "",
        "brightness falls off strongly across the head: centre the head in the coil, check its "
        "plugs, repeat the scan",
    ),
    **{
        f"shading_{side}": (text, text)
        for side, text in (
            ("right", _UNEVEN.format("left and right")),
            ("front", _UNEVEN.format("front and back")),
            ("up", _UNEVEN.format("top and bottom")),
        )
    },
    "sharp_in_plane": (
        "the slices are blurred: the head may have moved; repeat the scan",
        "the slices are sharper than a 64 mT scan can be, or full of stripes or noise",
    ),
    "sharp_through": (
        "neighbouring slices are blurred into each other: check the slice thickness",
        "neighbouring slices differ more than anatomy does: slices may be out of order, or this is "
        "no 64 mT scan",
    ),
    "field_strength": (
        "",
        "its header says {value:g} T: a high-field scan already, which needs no enhancement by "
        "this model",
    ),
    "high_field": (
        "",
        "this is as sharp as a high-field scan: it needs no enhancement by this model",
    ),
    "clipped": (
        "",
        "{percent:.0f} % of the bright tissue is saturated: lower the receiver gain or export "
        "the scan without clipping",
    ),
    "spike": ("", "stripes from electrical sparks run through the image: find the source, repeat"),
    "zipper": (
        "",
        "a line of radio interference runs through the image: move electrical devices away, close "
        "the shield, repeat the scan",
    ),
    "blank": ("a slice is missing or dark: export the series again", ""),
    "repeated": ("a slice appears twice: export the series again", ""),
    "gap": ("", "slices seem to be left out between two neighbours: export the series again"),
    "swapped": ("", "slices are in the wrong order: export the series again"),
    "displaced": ("", "a slice does not lie in line with its neighbours: the head moved; repeat"),
    "jump": ("", "the brightness jumps from slice to slice: repeat the scan"),
    # Of the result
    "finite": ("the model produced values that are not numbers", ""),
    "clipped_result": ("", "large parts of the result are saturated"),
    "consistency": (
        "the result does not agree with the scan it was made from: do not use it",
        "",
    ),
    "residual_blob": (
        "",
        "near {blob_place} the result shows something that the scan does not, or hides something "
        "that it shows: compare with the original there",
    ),
    "residual_lesion": (
        "",
        "near {lesion_place} one of the two, scan or result, shows a spot that the other lacks: "
        "compare with the original there",
    ),
    "ventricle_rim": (
        "the ventricles of the result are wider than the scan shows them: compare with the "
        "original",
        "",
    ),
    "added_edges": ("", "the result has more structure than the scan supports"),
    "checkerboard": ("", "the result bears a checkerboard pattern: the model is faulty"),
    "result_contrast": ("tissues can hardly be told apart in the result", ""),
    "result_displaced": ("", "slices of the result do not fit their neighbours"),
    "piqe_after": ("", "the result looks distorted (PIQE)"),
    "piqe_change": ("", "the result looks more distorted than the scan (PIQE)"),
    "statistics_shift": (
        "",
        "the result's brightness is unlike anything the model was trained to produce",
    ),
}


def sentence(metric: str, low: bool, value: float, limit: float, context: dict[str, str]) -> str:
    """The text for a figure that is too low or too high, with its numbers filled in."""
    pair = TEXTS.get(metric, ("", ""))
    text = pair[0 if low else 1] or (
        f"{metric} is {value:.3g}, expected {'at least' if low else 'at most'} {limit:.3g}"
    )
    # A crown that fills a share s of the largest section is about this far outside (a sphere).
    shift = f"{max(1, round(value * 5))}"
    words = {"shift": shift, "orientation": "the axes were exchanged"}
    words |= dict.fromkeys(("blob_place", "lesion_place"), "one spot")
    words |= {"seen": "different", "contrast": "another"} | context
    return text.format(value=value, limit=limit, percent=100 * value, **words)
