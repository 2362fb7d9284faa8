"""Options that commands of several modules share, and how they print JSON."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer


class RuntimeName(str, Enum):
    auto = "auto"
    tensorrt = "tensorrt"
    openvino = "openvino"
    onnxruntime = "onnxruntime"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


class Prefer(str, Enum):
    sform = "sform"
    qform = "qform"


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
# Of commands that read scans.
ScanJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON on stdout. Do not let it go to NAME.json beside NAME.nii.gz, where the "
        "scan's sidecar belongs.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Settings (TOML).  [default: $LOHI_EDGE_CONFIG, /etc/lohi-edge/config.toml]",
    ),
]
BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", help="Bundle directory.  [default: the one that ships]"),
]
PreferOption = Annotated[
    Prefer | None,
    typer.Option(
        "--prefer", help="Transform to believe where sform and qform contradict each other."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads.  [default: one per core]"),
]
RuntimeOption = Annotated[
    RuntimeName, typer.Option("--runtime", help="What computes; auto: the fastest accepted here.")
]
PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="What it computes in; auto: the fastest accepted.")
]


def print_json(value: Any) -> None:
    """One JSON value on stdout, in which NaN cannot stand."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
