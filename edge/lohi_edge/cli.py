"""lohi-edge: the commands of the device."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import typer

from lohi_edge.commands import bench as bench_commands
from lohi_edge.commands import bundle as bundle_commands
from lohi_edge.commands import device as device_commands
from lohi_edge.commands import dicom as dicom_commands
from lohi_edge.commands import engine
from lohi_edge.commands import enhance as enhance_commands
from lohi_edge.commands import history as history_commands
from lohi_edge.commands import quality as quality_commands
from lohi_edge.commands import queue as queue_commands
from lohi_edge.commands import volumes as volumes_commands
from lohi_edge.commands import watch as watch_commands
from lohi_edge.commands.options import print_json
from lohi_edge.errors import LohiError

RESEARCH = "Research use only: results are synthetic images, not for diagnosis."
app = typer.Typer(
    name="lohi-edge",
    help=f"Synthetic 3 T-like images from portable 64 mT head scans.\n\n{RESEARCH}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",  # rich's own takes "[default: all]" for markup and drops it
)
app.add_typer(bundle_commands.app, name="bundle")
device_commands.register(app)
watch_commands.register(app)
queue_commands.register(app)
quality_commands.register(app)
history_commands.register(app)
app.command()(volumes_commands.volumes)
app.add_typer(engine.app, name="engine")
dicom_commands.register(app)
app.command()(enhance_commands.enhance)
app.command()(bench_commands.bench)
app.command()(bench_commands.demo)


def run_app(command: Callable[..., Any]) -> None:
    """Run a Typer app; a user's error becomes one line on stderr and its exit code.

    With `--json` it stands on stdout too, where a program looks for it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # The name of a file is bytes, and may be none of the terminal's characters.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        command()
    except LohiError as error:
        sys.stderr.write(f"error: {error}\n")
        if "--json" in sys.argv:
            print_json({"error": str(error), "exit_code": error.exit_code})
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


def main() -> None:
    run_app(app)
