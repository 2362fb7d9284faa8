"""What the doctor reads of a machine: files below a root, which stand for /proc and /etc."""

from __future__ import annotations

from pathlib import Path

from lohi_edge.runtime.cuda import Gpu

GPU = Gpu("Orin", "8.7", "12.6", 8 << 30, unified=True)


def write(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mount(root: Path, *lines: str) -> None:
    write(root, "proc/self/mountinfo", "".join(f"1 0 8:1 {line}\n" for line in lines))


def jetson(root: Path, release: str = "R36 (release), REVISION: 4.3", mode: str = "2") -> None:
    write(root, "etc/nv_tegra_release", f"# {release}, GCID: 1\n")
    write(root, "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    write(root, "var/lib/nvpmodel/status", f"pmode:000{mode}")
    write(
        root, "etc/nvpmodel.conf", "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN >"
    )
