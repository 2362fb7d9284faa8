"""Commands on paired data sets: `check-data`, `register`, `split`, `realism`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lohi_edge.errors import BadInput

if TYPE_CHECKING:
    from lohi_export.pairs.check import Report

DataArgument = Annotated[Path, typer.Argument(help="Data set (BIDS layout).")]
LowOption = Annotated[
    list[str],
    typer.Option(
        help="Which scans are the 64 mT ones, e.g. ses-HFC; repeat for several "
        "[default: by MagneticFieldStrength, else by name]."
    ),
]
HighOption = Annotated[
    list[str], typer.Option(help="Which scans are the 3 T ones, e.g. ses-GE_acq-MPRAGE.")
]


def split(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="JSON file to write, for `train --split`.")],
    fractions: Annotated[str, typer.Option(help="Of train, validation, test.")] = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same split.")] = 0,
) -> None:
    """Draw subjects at random for training, validation and test, and write the split down.

    A subject goes to one part with all sessions, runs and contrasts; those without a pair go to
    none. Another split that was written down is never replaced.
    Example: lohi-export split pairs --out split.json --seed 0
    """
    from lohi_export import splits
    from lohi_export.config import SPLITS
    from lohi_export.json_files import write_json
    from lohi_export.pairs.matching import survey

    found = survey(data)
    for finding in found.findings:
        typer.echo(str(finding), err=True)
    drawn = splits.random_split(
        {pair.subject for pair in found.pairs}, splits.parse_fractions(fractions), seed
    )
    record = {"seed": seed, "fractions": splits.parse_fractions(fractions), "split": drawn}
    splits.refuse_another(out, record)
    write_json(out, record)
    sys.stdout.write(f"{out}: " + ", ".join(f"{len(drawn[p])} {p}" for p in SPLITS) + "\n")


def register(
    data: DataArgument,
    out: Annotated[Path, typer.Option(help="Data set to write, or to complete.")],
    transform: Annotated[str, typer.Option(help="rigid or affine.")] = "rigid",
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    low: LowOption = [],  # noqa: B006 (Typer reads it, nobody writes to it)
    high: HighOption = [],  # noqa: B006
) -> None:
    """Bring every 3 T scan onto the 1 mm grid of its 64 mT scan, as a data set for `train`.

    Writes a picture a pair (sub-*/figures) and registration.csv/.json; look at the pictures. A pair
    that failed is named and not written, the others are; then the exit code is 3. Pairs already
    there and complete are kept. Same scans, same result.
    Example: lohi-export register raw --out pairs --low ses-HFC --high ses-GE --jobs 4
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from lohi_export.pairs import registered, registration_report
    from lohi_export.pairs.scans import Override

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    work, found = registered.plan(data, out, transform, Override(tuple(low), tuple(high)))
    for finding in found.findings:
        console.print(str(finding))
    registration_report.write_description(data, out)
    outcomes = []
    columns = ("registering", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("pairs", total=len(work))
        for outcome in registered.register_all(work, jobs):
            outcomes.append(outcome)
            bar.advance(task)
            if outcome.problems:
                console.print(f"{outcome.pair} failed: {'; '.join(outcome.problems)}")
            if outcome.replaced:
                console.print(f"{outcome.pair} was {outcome.replaced}, done anew as {transform}")
    others = registered.without_raw(out, work)
    for outcome in others:
        console.print(f"{outcome.pair} stays in {out}, has no pair of scans in {data} now")
    registration_report.write_report(out, [*outcomes, *others])
    count = Counter(outcome.status for outcome in outcomes)
    sys.stdout.write(
        f"{len(outcomes)} pairs of {data}: {count['registered']} registered, {count['kept']} kept, "
        f"{count['failed']} failed; figures in registration.csv\n"
    )
    if count["failed"]:
        raise BadInput(f"{count['failed']} of {len(outcomes)} pairs could not be registered")


def check_data(
    data: DataArgument,
    raw: Annotated[
        bool, typer.Option("--raw", help="Still to be registered: grids need not agree.")
    ] = False,
    low: LowOption = [],  # noqa: B006
    high: HighOption = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say everything that is wrong with a paired data set, file by file; exit 3 if it is unusable.

    Unusable: files that cannot be read (NaN, damage, no head), grids that differ, duplicates,
    contradictory contrasts, fewer than three subjects. Only said: scans without a partner, which
    training leaves out, and pairs that look misaligned.
    Example: lohi-export check-data pairs --json
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress

    from lohi_export.pairs.check import check
    from lohi_export.pairs.scans import Override

    console = Console(stderr=True)
    with Progress(
        "checking", BarColumn(), MofNCompleteColumn(), console=console,
        disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task("pairs", total=None)
        report = check(
            data,
            Override(tuple(low), tuple(high)),
            raw,
            lambda total: bar.update(task, total=total, advance=1),
        )
    sys.stdout.write(json.dumps(report.to_dict(), indent=2) + "\n" if as_json else _table(report))
    if not report.usable:
        raise typer.Exit(BadInput.exit_code)


def realism(
    scans: Annotated[list[Path], typer.Argument(help="Real 64 mT scans of one contrast (NIfTI).")],
    data: Annotated[Path, typer.Option(help="Data set of `lohi-export simulate`.")],
    contrast: Annotated[str, typer.Option(help="T1w, T2w or FLAIR.")] = "T1w",
    limit: Annotated[int, typer.Option(min=2, help="Simulated scans to measure at most.")] = 60,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("realism"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Hold real 64 mT scans against simulated ones, statistic by statistic.

    Writes statistics.csv and realism.png. "rare" lies outside of 5 to 95 % of the simulated scans,
    "never" beyond all of them: there the simulator's ranges (`pairs/ranges.py`) want widening
    before a network trained on it is believed.
    Example: lohi-export realism scan.nii.gz --data pairs --contrast T1w -o realism
    """
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import track

    from lohi_edge import nifti
    from lohi_edge.files import atomic_write, make_directory
    from lohi_export.pairs import realism as real

    made = sorted(data.glob(f"sub-*/ses-64mT/anat/*_{contrast}.nii.gz"))
    if not made:
        raise BadInput(f"{data}: expected {contrast} scans of `lohi-export simulate`, found none")
    make_directory(out)
    # Spread over heads and settings.
    chosen = made[:: -(-len(made) // limit)]
    seen = [
        real.statistics(nifti.read(path), contrast)
        for path in track([*scans, *chosen], "measuring", console=Console(stderr=True))
    ]
    own, others = seen[: len(scans)], seen[len(scans) :]
    rows = real.compare(own, others)
    with atomic_write(out / "statistics.csv") as file:
        file.write(real.to_csv(rows).encode())
    with atomic_write(out / "realism.png") as file:
        file.write(real.picture(own, others))
    text = json.dumps([asdict(row) for row in rows], indent=1) + "\n"
    sys.stdout.write(text if as_json else real.table(rows))


def _table(report: Report) -> str:
    """A line a pair, then a line a finding, then the sum of it."""
    width = max([len(row.pair) for row in report.rows] + [4])
    lines = [f"{'pair':{width}}  contrast  grids   misalignment"]
    for row in report.rows:
        moved = "" if row.mm is None else f"{row.mm:.1f} mm {row.degrees:.1f} deg"
        lines.append(f"{row.pair:{width}}  {row.contrast:8}  {row.grids or '-':6}  {moved or '-'}")
    lines += [f"{'error' if f.grave else 'note'}: {f}" for f in report.findings]
    counts = ", ".join(f"{n} with {name}" for name, n in report.subjects.items()) or "none"
    verdict = "usable" if report.usable else "not usable until the errors are mended"
    return "\n".join([*lines, f"subjects: {counts}; {verdict}"]) + "\n"


def add_commands(app: typer.Typer) -> None:
    """Put the commands on the app."""
    for command in (check_data, register, split, realism):
        app.command()(command)
