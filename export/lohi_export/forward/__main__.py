"""Learn the device's forward model of one contrast.

    python -m lohi_export.forward PAIRS CONTRAST OUT.onnx [STEPS]

PAIRS is a data set of `lohi-export simulate`; its scans of heads 01-10 are enhanced by the bundle
of this machine for that contrast, and the model learns to predict them from their results.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from lohi_edge.files import atomic_write
from lohi_edge.models import Models
from lohi_export.forward.export import to_onnx
from lohi_export.forward.samples import read
from lohi_export.forward.training import spot_filter, train

STEPS = 3000


def main(pairs: str, contrast: str, out: str, steps: str = str(STEPS)) -> None:
    samples = read(Path(pairs), contrast, Models())
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("learning")
        model = train(
            samples, int(steps), 0, lambda done, n: bar.update(task, completed=done, total=n)
        )
    with atomic_write(Path(out)) as file:
        file.write(to_onnx(model, spot_filter(model, samples)))


if __name__ == "__main__":
    main(*sys.argv[1:])
