"""What scans look like, held against what they are taken for, by the device's own measures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from lohi_edge import contrast, nifti
from lohi_edge.errors import BadInput
from lohi_edge.head import find_head
from lohi_edge.quality import fitness
from lohi_edge.quality.measure import take
from lohi_edge.quality.recognise import recognise
from lohi_edge.quality.scan import lay_out
from lohi_edge.quality.verdict import shipped
from lohi_edge.volume import Volume
from lohi_export.pairs.plan import Job

OTHER_CONTRAST = -120.0  # the recogniser's margin at which `lohi-edge` holds a scan back as well


def other_contrast(volume: Volume, wanted: str) -> str | None:
    """The contrast that a head clearly looks like, where that is not the wanted one."""
    layout = lay_out(volume, volume.isotropic())
    seen = recognise(layout.work, layout.head)
    if seen.head <= contrast.HEAD or seen.margins[wanted] > OTHER_CONTRAST:
        return None
    return seen.contrast


def doubts(jobs: Iterable[Job]) -> Iterator[str]:
    """Warnings about real volumes that are to be the truth of pairs, where one is yet to be made.

    Raises:
        BadInput: one cannot be read, shows no head, or states the field strength of a portable
            scanner.
    """
    wanted = {
        job.source: job.made_of or job.contrast for job in jobs if not job.sidecar("3T").is_file()
    }
    for path, named in wanted.items():
        volume = nifti.read(path)
        try:
            found = list(_doubts(volume, named))
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None
        yield from (f"warning: {path}: {line}" for line in found)


def _doubts(volume: Volume, named: str) -> Iterator[str]:
    fine = volume.isotropic()
    find_head(fine.data)
    limits = shipped()["scan"][named]
    tesla, weakest = fitness.stated_tesla(volume), limits["field_strength"]["warn"][1]
    if tesla is not None and tesla <= weakest:
        raise BadInput(
            f"expected a high-field volume, got one acquired at {tesla:g} T by its sidecar; a "
            "scan of a portable scanner is no truth to learn from"
        )
    sharp = take("ratio", "low", partial(fitness.high_field, volume, fine)).value
    blurred = limits["high_field"]["warn"][1]
    if sharp is not None and sharp < blurred:
        yield (
            f"as blurred as a 64 mT scan (sharpness {sharp:.2f}, at high field {blurred:g} and "
            "more); a model learns to draw what it is shown as the truth"
        )
    if seen := other_contrast(volume, named):
        yield f"taken for {named}, looks like {seen}; look at it"
