"""The commands that README, docs and help texts show, and where tests run each of them.

Shown are the lines of code blocks that begin with one of PROGRAMS, the examples in the generated
reference, and what stands in a sentence and is complete. Those for a device (DEVICE) are run as
they stand by `tests/docs/test_run.py`, those for a workstation (STATION) by
`tests/export/test_documented.py`, each in a folder where the names they use are real, those for an
installed machine (BOOTED) by `tests/deploy/test_device.py`. MAKE's targets are not made, only
looked up by `tests/docs/test_commands.py`. What no test can run stands in NOT_RUN, what takes hours
in SHORTER.
"""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

import typer
from typer.main import get_command

ROOT = Path(__file__).parents[1]
# A command is run on the first page that shows it. The tutorial goes first, for its commands build
# on each other; the reference last, for its examples are on other pages as well.
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")],
    key=lambda p: (p.parent.name != "tutorial", p.name.startswith("cli-"), p),
)
DEVICE, STATION, BOOTED, MAKE = "device", "station", "booted", "make"

# Whatever a line of a code block may begin with to be a command.
PROGRAMS = (
    "lohi-edge", "lohi-export", "sudo", "make", "torchrun", "python", "pytest", "pip", "sha256sum",
    "systemctl", "journalctl", "grep", "/opt/lohi-edge/", ".venv/bin/",
)  # fmt: skip
_EXAMPLE = re.compile(r"(?:^\s+|Example: )((?:sudo -u lohi-edge )?lohi-(?:edge|export) .*)$")

_SENTENCE = re.compile(r"`([^`]+)`")
_PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b|\.\.\.|\[")

_JETSON = "needs a Jetson"
_TEST = "is a test itself"
_SCANNERS = "needs 16 scans of each scanner; test_ownbench.py judges and measures less"
NOT_RUN = {
    "make test": "runs these very tests",
    "pytest tests/deploy/test_device.py -m slow -s": _TEST,
    "pytest tests/edge/dicom -m slow -k sigkill": _TEST,
    "python tests/edge/runtime/overhead.py": "a clock; test_tensorrt.py runs what it times",
    "pip install --no-compile .": "needs a package index; test_device.py installs without one",
    "pip install '.[dicom-jpeg]'": "needs a package index",
    "pip install '.[tensorrt]'": "needs a package index and a GPU",
    "pip download --no-deps --only-binary :all: --dest wheels python-gdcm": "needs a package index",
    "python3 -m venv --system-site-packages": _JETSON,
    "torchrun --nproc-per-node 2 -m lohi_export train --data pairs --out runs/t1w --batch 8": (
        "for two GPUs; test_processes.py trains in two processes on the CPU"
    ),
    "make audit": "needs an advisory service; test_supply.py runs its script against stand-ins",
    "make pycuda-wheel": _JETSON,
    "lohi-export quality recogniser pairs edge/lohi_edge/quality/recogniser.npz": (
        "needs that data set"
    ),
    "lohi-export quality forward pairs CONTRAST edge/lohi_edge/quality/forward-CONTRAST.onnx": (
        "is not one command; the reference shows it for T1w"
    ),
    "lohi-export quality forward pairs T1w forward-T1w.onnx": (
        "finds no brain before some hundred steps; its parts are tested on made-up samples"
    ),
    "lohi-export realism scan.nii.gz --data pairs --contrast T1w -o realism": (
        "needs many simulated scans; pairs/test_realism.py runs it on three"
    ),
    "lohi-edge bench-watch --runs 2": "watch/test_bench.py has every figure measured, on less",
    "lohi-edge bench --quality pairs -o quality-bench": (
        "an hour on that data set; test_bench.py runs a small one"
    ),
    **dict.fromkeys(
        (
            "lohi-edge limits outbox/",
            "lohi-edge limits outbox/ -o own-limits.json --json",
            "sudo lohi-edge limits /var/lib/lohi-edge/outbox -o /etc/lohi-edge/own-limits.json",
        ),
        "needs 15 receipts of one scanner; test_own_limits.py makes them",
    ),
    "lohi-edge bench --scanner scanner-1/ --scanner scanner-2/ -o own-limits-bench/": _SCANNERS,
    "lohi-edge bench --scanner scanner-1 --scanner scanner-2 --scanner scanner-3 "
    "--scanner scanner-4 --scanner scanner-5 -o own-bench": _SCANNERS,
    'make wheelhouse TARGET=jetpack6 EXTRA_WHEELS="$(echo wheels/*.whl)"': (
        "needs a wheel that was built on a Jetson"
    ),
    "/opt/lohi-edge/current/bin/python -c 'import tensorrt; print(tensorrt.__version__)'": _JETSON,
    "grep 'POWER_MODEL ID' /etc/nvpmodel.conf": _JETSON,
    "sudo nvpmodel -m ID": _JETSON,
    "sudo nvpmodel -q": _JETSON,
    "sudo jetson_clocks": _JETSON,
    "sudo jetson_clocks --show": _JETSON,
    "sudo systemctl stop nvfancontrol": _JETSON,
    "sudo rm -f /var/lib/nvfancontrol/status": _JETSON,
    "sudo systemctl start nvfancontrol": _JETSON,
    "sudo nvfancontrol -q": _JETSON,
    "sudo tegrastats --interval 1000": _JETSON,
}
# Beginnings of commands -> what is put behind them: the same work, less of it.
SHORTER = {
    "lohi-edge bench scan.nii.gz": "--runs 1",
    "lohi-edge bench --runs": "--runs 1",
    "lohi-edge bench --compare": "--runs 1",
    "lohi-edge bench-watch small.nii": "--soak 30",
    "lohi-edge bench-dicom": "--runs 1 --slices 8",
    "lohi-export simulate --labels": "--heads 9-13 --draws 1 --jobs 1 --contrast T1w",
    "lohi-export simulate --labels label_maps --out pairs --heads 1-16 --draws 1 --scans": (
        "--out scans --heads 9 --scans 2 --jobs 1 --contrast T1w"
    ),
    "lohi-export simulate --from volumes": "--draws 1",
    "lohi-export pathologies": "--heads 13 --bundle t1w-edge",
    "python export/make_random_bundle.py": "--width 4",
    "lohi-export train": "--config small.json --steps 2 --interval 2",
    "lohi-export morphometry bank": "--heads 9 --variants 1 --draws 1",
    "lohi-export morphometry train": "--heads 9 --first 1 --second 1",
    "lohi-export morphometry evaluate pairs --heads 13-16": "--heads 13",
    "lohi-export morphometry evaluate pairs --bundle": "--heads 13",
    "lohi-export morphometry dilate": "--heads 13 --steps 1",
}
# Where no GPU is found, these say so and end with this code.
WITHOUT_A_GPU = {
    "lohi-edge engine build": 5,
    "lohi-edge engine accept": 5,
    "lohi-export build-engine": 5,
}


def lines(page: Path) -> list[str]:
    """Lines of code blocks, fenced or indented, continuation lines joined, comments cut off."""
    found, fenced = [], False
    for line in re.sub(r"\\\n\s*", "", page.read_text()).splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append(re.sub(r"\s+# .*$", "", line.strip()))
    return found


def commands(page: Path) -> list[str]:
    """The commands of a page, in order, those of its sentences last; each once."""
    if page.name.startswith("cli-"):  # what `make docs` writes shows usage in its blocks
        matches = map(_EXAMPLE.search, page.read_text().splitlines())
        found = [part.strip() for m in matches if m for part in m[1].split(";")]
    else:
        found = [line for line in lines(page) if line.startswith(PROGRAMS)] + sentences(page)
    return list(dict.fromkeys(found))


def sentences(page: Path) -> list[str]:
    """Commands in a page's sentences and tables: complete, with an argument or option."""
    text = re.sub(r"```.*?```|^    .*?$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = []
    for span in _SENTENCE.findall(text):
        line = " ".join(span.split()).removeprefix("time ")
        ours = re.match(r"(?:sudo )?(lohi-(?:edge|export) .*)", line)
        if (
            line.startswith(tuple(f"{name} " for name in (*PROGRAMS, "python3")))
            and not _PLACEHOLDER.search(line.partition("[")[0] if line.startswith("pip") else line)
            and (complete(ours[1]) if ours else not line.startswith("make"))
        ):
            found.append(line)
    return found


def complete(line: str) -> bool:
    """Whether one of our commands could be given so, and is more than a name."""
    _, *words = shlex.split(line)
    if "--help" in words:
        return False
    command = root_command(line)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    try:
        return bool(words and command.make_context(line, list(words)))
    except typer.BadParameter.__base__:  # a UsageError, of typer's own click
        return False


def root_command(line: str) -> typer.core.TyperGroup:
    """The command that a line's first word starts."""
    if line.split()[0].endswith("lohi-edge"):
        from lohi_edge.cli import app
    else:
        from lohi_export.cli import app
    return get_command(app)


def place(line: str) -> str | None:
    """Where a command is run; None where no test does."""
    if line in NOT_RUN:
        return None
    program = line.split()[0].rpartition("/")[2]
    if line.startswith(("sudo", "sha256sum", "systemctl", "journalctl", "/opt/lohi-edge/")):
        return BOOTED
    if program in ("lohi-export", "torchrun") or line.startswith("python export/"):
        return STATION
    places = {"make": MAKE, "lohi-edge": DEVICE}
    if program not in places:
        raise LookupError(f"no test runs {line!r}: give it a place, or a reason in NOT_RUN")
    return places[program]


def for_place(where: str) -> dict[str, list[str]]:
    """Page (relative to the root) -> the commands run there that no page before it shows."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for page in PAGES:
        new = [line for line in commands(page) if line not in seen and place(line) == where]
        seen.update(new)
        if new:
            found[str(page.relative_to(ROOT))] = new
    return found


def drop_in(page: str, unit: str = "lohi-edge-watch") -> str:
    """The text that a page (relative to the root) tells to put into `systemctl edit UNIT`; or "".

    Where the command stands in a sentence, it is the first such text.
    """
    shown = [line for line in lines(ROOT / page) if line]
    if (told := f"sudo systemctl edit {unit}") in shown:
        shown = shown[shown.index(told) + 1 :]
    begun = itertools.dropwhile(lambda line: line not in ("[Unit]", "[Service]"), shown)
    kept = itertools.takewhile(re.compile(r"\[\w+\]|\w+=").match, begun)
    return "".join(f"{line}\n" for line in kept)


def shorter(line: str) -> str:
    """The command with what makes it do less."""
    more = SHORTER.get(max(filter(line.startswith, SHORTER), key=len, default=""), "")
    command, pipe, rest = line.partition(" | ")
    return f"{command} {more}".rstrip() + pipe + rest


def exit_code(line: str) -> int:
    """How it must end here; 0 but for those of WITHOUT_A_GPU."""
    from lohi_edge.runtime.cuda import probe

    line = line.removeprefix("sudo -u lohi-edge ")
    wanted = next((code for start, code in WITHOUT_A_GPU.items() if line.startswith(start)), 0)
    return wanted if isinstance(probe(), str) else 0
