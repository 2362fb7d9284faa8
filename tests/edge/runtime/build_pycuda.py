"""Build pycuda for tests on a machine without a GPU: needs nvcc, takes about two minutes.

    python tests/edge/runtime/build_pycuda.py

It lands in $XDG_CACHE_HOME/lohi-edge-tests (~/.cache), outside of the environment; tests find it
there. Where it lies already, nothing is done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gpu_double import PYCUDA

VERSION = "2026.1"


def main() -> None:
    if PYCUDA.is_dir():
        return
    nvcc = shutil.which("nvcc")
    if not nvcc:
        sys.exit("no nvcc: pycuda cannot be built here")
    dry = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True).stderr
    tops = [
        line.split("=", 1)[1].strip() for line in dry.splitlines() if line.startswith("#$ TOP=")
    ]
    root = Path(tops[0]).resolve()
    PYCUDA.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PYCUDA.parent) as name:
        folder = Path(name)
        (folder / ".aksetup-defaults.py").write_text(
            f'CUDA_ENABLE_CURAND = False\nCUDA_ENABLE_GL = False\nCUDA_ROOT = "{root}"\n'
        )
        (folder / "dummy.c").write_text("int dummy;\n")
        dummy = ["gcc", "-shared", "-o", str(folder / "libcuda.so"), str(folder / "dummy.c")]
        subprocess.run(dummy, check=True)
        environment = {
            **os.environ,
            "HOME": name,  # where pycuda looks for its settings; pip keeps its own
            "XDG_CONFIG_HOME": os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config"),
            "CUDA_ROOT": str(root),
            "LIBRARY_PATH": f"{folder}:{root}/lib64",
        }
        built = folder / "built"  # renamed when whole, so that no half of it is ever found
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(built)]
        subprocess.run([*pip, f"pycuda=={VERSION}", "--no-deps"], env=environment, check=True)
        subprocess.run([*pip, "pytools", "mako", "platformdirs"], env=environment, check=True)
        built.rename(PYCUDA)


if __name__ == "__main__":
    main()
