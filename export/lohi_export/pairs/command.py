"""`lohi-export simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def simulate(
    out: Annotated[Path, typer.Option(help="Data set to write, or to complete.")],
    labels: Annotated[Path | None, typer.Option(help="Folder with head_NN_labels.nii.gz.")] = None,
    source: Annotated[
        str, typer.Option("--from", help="labels, or volumes: real high-field scans.")
    ] = "labels",
    volumes: Annotated[
        Path | None, typer.Option(help="NIfTI file or folder of whole heads; see --contrast.")
    ] = None,
    heads: Annotated[str, typer.Option(help="Heads: 1-10 or 1,2,13.")] = "1-16",
    draws: Annotated[int, typer.Option(min=1, max=100, help="Pairs per head.")] = 4,
    ill: Annotated[
        int, typer.Option(min=0, max=100, help="More pairs per head, with lesions.")
    ] = 0,
    scans: Annotated[
        int, typer.Option(min=1, help="64 mT scans of each head, settings drawn anew; labels only.")
    ] = 1,
    scanner: Annotated[
        int | None,
        typer.Option(min=0, help="One scanner for all, coil and protocol: a number; labels only."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same voxels.")] = 0,
    contrast: Annotated[str, typer.Option(help="T1w, T2w or FLAIR.")] = "T1w",
    made_of: Annotated[
        str, typer.Option("--of", help="Contrast of the volumes [default: --contrast]; or T1w.")
    ] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Processes; 1 GB of memory each.")] = 1,
    preview: Annotated[Path | None, typer.Option(help="PNG of the first pair.")] = None,
) -> None:
    """Simulate pairs of 64 mT and 3 T head scans as a BIDS-like data set.

    From label maps both scans are simulated; from real high-field volumes of the wanted contrast
    (the subject is named after the file) the 64 mT scan alone. Of T1w volumes T2w and FLAIR pairs
    can be made too (--of T1w), with their sulci and texture. Pairs already there and complete are
    kept, so a stopped run continues where it was; those of another seed, or of another
    volume under the same name, are refused. With --scans,
    a head that was posed once is scanned several times (acq-02 and so on), which costs a third of
    another draw. With --ill, more pairs (run-101 and so on) show infarcts, tumours, bleedings and
    wide ventricles at random: a generator that saw healthy heads alone takes lesions away. With
    --scanner, all heads lie in the same coil and are scanned by one protocol, as on a real device.

    Example: lohi-export simulate --labels label_maps --out pairs --draws 8 --jobs 2

    Example: lohi-export simulate --from volumes --volumes t1w --contrast T1w --out pairs

    Example: lohi-export simulate --from volumes --volumes t1w --of T1w --contrast T2w --out pairs
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from lohi_edge.errors import UsageError
    from lohi_edge.files import require_place
    from lohi_export.pairs import dataset, standing
    from lohi_export.pairs.looks import doubts
    from lohi_export.pairs.plan import plan, plan_volumes
    from lohi_export.pairs.preview import save_preview

    console = Console(stderr=True)
    written = 0
    if source == "volumes" and scans > 1:
        raise UsageError("expected --scans with --labels only; use --draws for volumes")
    if source == "volumes" and scanner is not None:
        raise UsageError("expected --scanner with --labels only")
    if source == "labels" and made_of:
        raise UsageError("expected --of with --from volumes only; label maps make every contrast")
    if source == "volumes" and volumes is not None and labels is None:
        work = plan_volumes(volumes, out, draws, seed, contrast, made_of, ill)
    elif source == "labels" and labels is not None and volumes is None:
        numbers = parse_heads(heads)
        work = plan(labels, out, numbers, draws, seed, contrast, scans, ill, scanner)
    else:
        raise UsageError(
            "expected --labels FOLDER alone, or --from volumes with --volumes PATH and no --labels"
        )
    if preview is not None:
        require_place(preview)  # before minutes or hours of simulation
    standing.refuse_other_seed(work)
    standing.refuse_other_scanner(work)
    if source == "volumes":
        standing.refuse_other_volume(work)
        for doubt in doubts(work):
            console.print(doubt, markup=False, highlight=False, soft_wrap=True)
    dataset.write_description(out, from_labels=source == "labels")
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("pairs", total=len(work))
        for job, fresh in dataset.write_pairs(work, jobs):
            written += fresh
            bar.update(task, advance=1, description=job.image("64mT").name)
    if preview is not None:
        save_preview(dataset.simulate_job(work[0]), preview)
    typer.echo(f"{len(work)} pairs in {out}: {written} written, {len(work) - written} kept")


def parse_heads(text: str) -> list[int]:
    """Head numbers from "1-10", "1,2,13" or a mixture, in order, each once.

    Raises:
        UsageError: anything else.
    """
    from lohi_edge.errors import UsageError

    numbers: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"expected heads such as 1-10 or 1,2,13; got {text!r}")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise UsageError(f"expected heads such as 1-10 or 1,2,13; got the empty range {part!r}")
        numbers.update(dict.fromkeys(span))
    return list(numbers)
