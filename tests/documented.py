"""The commands that README, docs and help texts show, and where tests run each of them.

Shown are the lines of code blocks that begin with one of PROGRAMS, and the examples in the
generated reference. Those for a device (DEVICE) are run as they stand by
`tests/docs/test_run.py`, those for a workstation (STATION) by `tests/export/test_documented.py`,
each in a folder where the names they use are real. Those for an installed machine (BOOTED), and
those for a workstation on other pages than that test names, are parsed;
`tests/deploy/test_device.py` gives the main ones of BOOTED. MAKE's targets are not made, only
looked up by `tests/docs/test_commands.py`. What no test can run stands in NOT_RUN, what takes hours
in SHORTER.
"""

from __future__ import annotations

import re
from pathlib import Path

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
    "systemctl", "journalctl", "grep", "./install.sh", "/opt/lohi-edge/", ".venv/bin/",
)  # fmt: skip
_EXAMPLE = re.compile(r"(?:^\s+|Example: )((?:sudo -u lohi-edge )?lohi-(?:edge|export) .*)$")

_JETSON = "needs a Jetson"
_TRAINED = "measures brain regions, and what a model of two steps makes shows no head; "
_VERIFY = _TRAINED + "test_precision.py and test_region_drift.py run smaller ones"
_SEGMENTS = _TRAINED + "tests/export/morphometry measures the parts"
_LESIONS = "needs the deep nuclei of a real head; pairs/test_pathology.py makes the lesions"
NOT_RUN = {
    "make test": "runs these very tests",
    "make audit": "needs an advisory service; test_supply.py runs its script against stand-ins",
    "make pycuda-wheel": _JETSON,
    "lohi-export simulate --labels label_maps --out pairs --heads 1-16 --draws 1 --scans 7 "
    "--contrast CONTRAST": "an hour for three contrasts; test_dataset.py runs --scans",
    "python -m lohi_export.recogniser pairs edge/lohi_edge/quality/recogniser.npz": (
        "needs that data set"
    ),
    "lohi-export realism scan.nii.gz --data pairs --contrast T1w -o realism": (
        "needs many simulated scans; pairs/test_realism.py runs it on three"
    ),
    "lohi-edge bench --quality pairs -o quality-bench": (
        "an hour on that data set; test_bench.py runs a small one"
    ),
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
    "lohi-export verify t1w-edge --data pairs": _VERIFY,
    "lohi-export verify t1w-edge --data pairs --out verify-out": _VERIFY,
    "lohi-export verify t1w-edge --data pairs --out report": _VERIFY,
    "lohi-export morphometry evaluate pairs --heads 11-12 --segmenter first.onnx --bundle t1w-edge "
    "--json | tee errors.json": _SEGMENTS,
    "lohi-export morphometry evaluate pairs --heads 13-16 --segmenter segmenter.onnx "
    "--bundle t1w-edge": _SEGMENTS,
    "lohi-export morphometry evaluate pairs --bundle t1w-edge --csv regions.csv": _SEGMENTS,
    "lohi-export morphometry export runs/segmenter segmenter.onnx --errors errors.json": _SEGMENTS,
    "lohi-export pathologies --labels label_maps --out pathologies --heads 13-14": _LESIONS,
    "lohi-export pathologies --labels label_maps --out runs/pathologies --heads 13-16": _LESIONS,
    "torchrun --nproc-per-node 2 -m lohi_export train --data pairs --out runs/t1w --batch 8": (
        "for two GPUs; test_processes.py trains in two processes on the CPU"
    ),
}
# Beginnings of commands -> what is put behind them: the same work, less of it.
SHORTER = {
    "lohi-edge bench scan.nii.gz": "--runs 1",
    "lohi-edge bench --runs": "--runs 1",
    "lohi-edge bench --compare": "--runs 1",
    "lohi-edge bench-watch --runs": "small.nii --runs 1",
    "lohi-edge bench-watch small.nii": "--soak 30",
    "lohi-edge bench-dicom": "--runs 1 --slices 8",
    "lohi-export simulate --labels": "--heads 9-13 --draws 1 --jobs 1 --contrast T1w",
    "lohi-export train": "--config small.json --steps 2 --interval 2",
    "lohi-export morphometry bank": "--heads 9 --variants 1 --draws 1",
    "lohi-export morphometry train": "--heads 9 --first 1 --second 1",
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
    """The commands of a page, in order, each once."""
    if page.name.startswith("cli-"):  # what `make docs` writes shows usage in its blocks
        matches = map(_EXAMPLE.search, page.read_text().splitlines())
        found = [part.strip() for m in matches if m for part in m[1].split(";")]
    else:
        found = [line for line in lines(page) if line.startswith(PROGRAMS)]
    return list(dict.fromkeys(found))


def place(line: str) -> str | None:
    """Where a command is run; None where no test does."""
    if line in NOT_RUN:
        return None
    program = line.split()[0].rpartition("/")[2]
    if line.startswith(("sudo", "sha256sum", "systemctl", "journalctl", "/opt/lohi-edge/", "./")):
        return BOOTED
    if program in ("lohi-export", "torchrun"):
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


def shorter(line: str) -> str:
    """The command with what makes it do less."""
    more = next((text for start, text in SHORTER.items() if line.startswith(start)), "")
    command, pipe, rest = line.partition(" | ")
    return f"{command} {more}".rstrip() + pipe + rest


def exit_code(line: str) -> int:
    """How it must end here; 0 but for those of WITHOUT_A_GPU."""
    from lohi_edge.runtime.cuda import probe

    wanted = next((code for start, code in WITHOUT_A_GPU.items() if line.startswith(start)), 0)
    return wanted if isinstance(probe(), str) else 0
