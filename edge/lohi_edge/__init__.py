"""lohi-edge: synthetic 3 T-like images from portable 64 mT head scans. Research use only.

>>> import lohi_edge
>>> result = lohi_edge.enhance("scan.nii.gz", out="results")  # doctest: +SKIP
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

# onnxruntime 1.32 and OpenVINO's converter tell their makers, over the network, how they are used.
# A device beside a scanner tells nobody anything; without the module OpenVINO uses its own stub.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

if TYPE_CHECKING:
    from lohi_edge.models import Models
    from lohi_edge.pipeline import Result, enhance
    from lohi_edge.volume import Volume

__all__ = ["Models", "Result", "Volume", "enhance"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `lohi-edge --help` must not wait for numpy.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = {"Models": "models", "Volume": "volume"}.get(name, "pipeline")
    module = importlib.import_module(f"lohi_edge.{home}")
    value = getattr(module, name)
    globals()[name] = value
    return value
