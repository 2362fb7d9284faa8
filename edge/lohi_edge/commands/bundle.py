"""lohi-edge bundle: look at bundles, check them, install and activate them on this device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lohi_edge.commands.options import Config, Json, print_json

app = typer.Typer(
    help="Look at model bundles, check them, and install them on this device.",
    no_args_is_help=True,
)

Downgrade = Annotated[
    bool, typer.Option("--allow-downgrade", help="Go back to an older serial from now on.")
]


@app.command()
def show(
    path: Annotated[
        Path | None, typer.Argument(help="Bundle directory.  [default: the active one for T1w]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what a bundle says of itself, after checking every file's sha256.

    Example: lohi-edge bundle show t1w-edge/
    """
    from lohi_edge import bundle, console
    from lohi_edge.device import installed

    found = bundle.load(path or installed.resolve("T1w"))
    manifest = found.manifest.to_dict() | {"sha256": found.sha256, "path": str(found.path)}
    print_json(manifest) if as_json else console.show_mapping(manifest)


@app.command()
def verify(
    path: Annotated[
        Path | None,
        typer.Argument(help="Bundle directory or .zip.  [default: the active one for T1w]"),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Public key that must have signed it.  [default: the trusted ones]"),
    ] = None,
    allow_downgrade: Downgrade = False,
    as_json: Json = False,
) -> None:
    """Check every file of a bundle and run its golden slices on this machine; exit 5 on failure.

    Where this device trusts keys (*.pub in /etc/lohi-edge/keys or LOHI_EDGE_KEYS), one of them
    must have signed the bundle, and its serial must not be older than one seen before.

    Examples:

      lohi-edge bundle verify t1w-edge/

      lohi-edge bundle verify t1w-edge.zip --key maker.pub
    """
    from lohi_edge import acceptance, bundle, console, signing
    from lohi_edge.device import installed

    where = path or installed.resolve("T1w")
    found = bundle.load(where)
    if key:
        signing.verify(found, key)
    signing.admit(found, allow_downgrade or installed.is_active(where))
    record = acceptance.accept(found)
    print_json(record) if as_json else console.show_mapping(record)
    raise typer.Exit(0 if record["accepted"] else 5)


@app.command()
def install(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Bundle directory or .zip.")],
    allow_downgrade: Downgrade = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy a bundle to this device, prove it there, and make it the active one.

    Signature and serial are checked (not older than the bundle of this name that is active, or
    ships), engines built and accepted on the golden slices, and the self-test is run, all before
    one rename switches to it; a running daemon follows by itself. A bundle that fails anywhere is
    not activated: what was active stays active. The bundle before it is kept: see rollback. Can be
    interrupted at any moment and repeated.

    Exit codes: 0 active, 1 not tested (killed, out of time), 2 usage, 4 self-test failed, 5 refused
    or not accepted, 6 disk.

    Example: sudo -u lohi-edge lohi-edge bundle install /media/stick/t1w-mine.zip
    """
    from lohi_edge.device import update
    from lohi_edge.device.library import Library
    from lohi_edge.settings import load

    report = update.install(path, load(config), Library(), _say, allow_downgrade)
    if as_json:
        print_json(report)


@app.command(name="list")
def list_installed(as_json: Json = False) -> None:
    """List the installed bundles, which of them are active, and why others are not.

    Example: lohi-edge bundle list
    """
    from lohi_edge.device.library import Library

    library = Library()
    rows = library.rows()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        about = f"{row['name']} {row['version']} serial {row['serial']}" if "name" in row else ""
        notes = [
            f"active for {', '.join(row['active'])}" if row["active"] else "",
            "previous" if row["previous"] else "",
            f"refused: {row['refused']}" if row["refused"] else "",
            f"DAMAGED: {row['problem']}" if "problem" in row else "",
        ]
        sys.stdout.write("  ".join(w for w in (row["folder"], about, *notes) if w) + "\n")
    if not rows:
        sys.stdout.write(f"nothing is installed in {library.root}; the shipped bundles serve\n")


@app.command()
def activate(
    name: Annotated[str, typer.Argument(help="Folder of `bundle list`, or its first words.")],
    allow_downgrade: Downgrade = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make an installed bundle the active one, proved again as `install` does.

    Example: sudo -u lohi-edge lohi-edge bundle activate t1w-mine-3
    """
    from lohi_edge.device import update
    from lohi_edge.device.library import Library
    from lohi_edge.settings import load

    report = update.activate(name, load(config), Library(), _say, allow_downgrade)
    if as_json:
        print_json(report)


@app.command()
def rollback(as_json: Json = False) -> None:
    """Go back to the bundles that were active before; once more goes forward again.

    Example: sudo -u lohi-edge lohi-edge bundle rollback
    """
    from lohi_edge.device.library import Library

    library = Library()
    with library.locked():
        active = library.roll_back()
    if as_json:
        print_json({"active": active})
    else:
        names = ", ".join(f"{c} {name}" for c, name in sorted(active.items()))
        sys.stdout.write(f"active: {names or 'the bundles that ship'}\n")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Folder of `bundle list`, or its first words.")],
    force: Annotated[
        bool, typer.Option("--force", help="Even the one that rollback goes back to.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove an installed bundle and its engines, to free the disk; the active one stays.

    Example: sudo -u lohi-edge lohi-edge bundle remove t1w-mine-1
    """
    from lohi_edge.device import update
    from lohi_edge.device.library import Library
    from lohi_edge.settings import load

    report = update.remove(name, load(config), Library(), _say, force)
    if as_json:
        print_json(report)


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
