"""What a registered data set says of itself: its description and the table of its pairs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from lohi_edge.receipt import relative
from lohi_export.dataset import describe
from lohi_export.pairs.files import as_json, describe_beside, write_whole

TOOL = "lohi-export register"


@dataclass(frozen=True)
class Outcome:
    """What became of a pair.

    Attributes:
        status: "registered", "kept" (done before) or "failed" (nothing but the picture written).
        figures: of the registration, as in the report; empty where it came to none.
        problems: why it failed.
        replaced: transform of an earlier result of this pair, now gone, where it was another.
    """

    pair: str
    status: Literal["registered", "kept", "failed"]
    figures: dict[str, Any]
    problems: list[str]
    picture: str
    replaced: str = ""


def write_description(data: Path, out: Path) -> None:
    """dataset_description.json of the derivative.

    Raises:
        BadInput: one that is there, or that of `data`, is no JSON object.
    """
    text = {
        **describe(data),
        "Name": f"{describe(data).get('Name', data.name)}, 3 T registered to 64 mT",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": TOOL, "Version": metadata.version("lohi-edge")}],
        "DatasetLinks": {"raw": relative(data, out)},
    }
    describe_beside(out, text, TOOL)


def write_report(out: Path, outcomes: Iterable[Outcome]) -> None:
    """registration.json and registration.csv at the root of the data set, one row a pair."""
    rows = [asdict(outcome) for outcome in sorted(outcomes, key=lambda o: o.pair)]
    write_whole(out / "registration.json", as_json(rows))
    names = ["pair", "status", *dict.fromkeys(k for r in rows for k in r["figures"]), "problems"]
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    for row in rows:
        cells = {"pair": row["pair"], "status": row["status"], **row["figures"]}
        table.writerow({**cells, "problems": "; ".join(row["problems"])})
    write_whole(out / "registration.csv", text.getvalue().encode())
