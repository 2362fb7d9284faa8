"""lohi-export: the workstation's command."""

from __future__ import annotations

import typer

from lohi_edge.cli import run_app
from lohi_export.commands import register

app = typer.Typer(
    name="lohi-export",
    help="Train, measure and bundle generators that turn 64 mT scans into synthetic 3 T images. "
    "Research use only.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # rich's own takes "[default: all]" for markup and drops it
    pretty_exceptions_enable=False,
)
register(app)


def main() -> None:
    """Entry point; errors a user can cure end in one line and their exit code."""
    run_app(app)
