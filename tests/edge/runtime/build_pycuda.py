"""Build pycuda for tests on a machine without a GPU: needs nvcc, takes about two minutes.

    python tests/edge/runtime/build_pycuda.py

It lands in ~/.cache/lohi-edge-tests, outside of the environment; tests find it there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "2026.1"


def main() -> None:
    nvcc = shutil.which("nvcc")
    if not nvcc:
        sys.exit("no nvcc: pycuda cannot be built here")
    dry = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True).stderr
    tops = [
        line.split("=", 1)[1].strip() for line in dry.splitlines() if line.startswith("#$ TOP=")
    ]
    root = Path(tops[0]).resolve()
    target = Path.home() / ".cache/lohi-edge-tests" / f"pycuda-py{sys.version_info.minor}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / ".aksetup-defaults.py").write_text(
            f'CUDA_ENABLE_CURAND = False\nCUDA_ENABLE_GL = False\nCUDA_ROOT = "{root}"\n'
        )
        (folder / "dummy.c").write_text("int dummy;\n")
        dummy = ["gcc", "-shared", "-o", str(folder / "libcuda.so"), str(folder / "dummy.c")]
        subprocess.run(dummy, check=True)
        environment = {
            **os.environ,
            "HOME": name,
            "CUDA_ROOT": str(root),
            "LIBRARY_PATH": f"{folder}:{root}/lib64",
        }
        pip = [sys.executable, "-m", "pip", "install", "--target", str(target)]
        subprocess.run([*pip, f"pycuda=={VERSION}", "--no-deps"], env=environment, check=True)
        subprocess.run([*pip, "pytools", "mako", "platformdirs"], env=environment, check=True)


if __name__ == "__main__":
    main()
