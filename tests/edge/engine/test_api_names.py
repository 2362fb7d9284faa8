"""Every TensorRT name the project uses exists in the versions it says it serves.

The real Python bindings of each version are imported over stub libraries, in a process of their
own; they come from PyPI into a cache folder, and the test skips, saying so, where that fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lohi_edge
from gpu_double import CACHE

SOURCES = [
    Path(lohi_edge.__file__).parent / name
    for name in ("engine/build.py", "runtime/tensorrt.py", "runtime/slot.py")
]
VERSIONS = {
    "tensorrt-cu12-bindings==10.3.0": 10,  # JetPack 6
    "tensorrt-cu12-bindings==10.16.1.11": 10,
    "tensorrt-cu13-bindings==11.4.0.106": 11,  # JetPack 7.2
}
# What is called on objects, whose class the source text does not show.
METHODS = {
    "Builder": "create_network create_builder_config create_optimization_profile "
    "build_serialized_network",
    "IBuilderConfig": "set_memory_pool_limit add_optimization_profile create_timing_cache "
    "set_timing_cache get_timing_cache",
    "ITimingCache": "serialize",
    "INetworkDefinition": "get_input num_inputs",
    "IOptimizationProfile": "set_shape",
    "OnnxParser": "parse num_errors get_error",
    "ParserError": "desc",
    "Runtime": "deserialize_cuda_engine",
    "ICudaEngine": "create_execution_context get_tensor_name num_io_tensors get_tensor_shape "
    "get_tensor_dtype",
    "IExecutionContext": "set_tensor_address set_input_shape execute_async_v3",
}
# Of TensorRT-RTX alone, asked for with `compute_capability`, which a device never gives.
RTX_ONLY = {"ComputeCapability"}
STUBS = {
    "nvinfer": "createInferBuilder_INTERNAL createInferRefitter_INTERNAL "
    "createInferRuntime_INTERNAL getBuilderPluginRegistry getPluginRegistry getInferLibVersion",
    "nvonnxparser": "createNvOnnxParser_INTERNAL createNvOnnxParserRefitter_INTERNAL "
    "getNvOnnxParserVersion",
    "nvinfer_plugin": "initLibNvInferPlugins",
}


def names_used() -> set[str]:
    text = "\n".join(path.read_text() for path in SOURCES)
    dotted = set(re.findall(r"\btrt\.([A-Za-z_][\w.]*\w)", text)) - RTX_ONLY
    return dotted | {f"{kind}.{name}" for kind, names in METHODS.items() for name in names.split()}


def test_the_list_of_methods_is_what_the_source_calls():
    text = "\n".join(path.read_text() for path in SOURCES)

    for names in METHODS.values():
        for name in names.split():
            assert f".{name}" in text
    assert {
        "MemoryPoolType.WORKSPACE",
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
    } <= names_used()


@pytest.mark.parametrize("requirement", VERSIONS)
def test_every_name_exists(requirement, tmp_path):
    compiler = shutil.which("gcc") or pytest.skip("no gcc to make stub libraries with")
    site = bindings(requirement)
    stubs(compiler, tmp_path, VERSIONS[requirement])
    module = next(
        p.name
        for p in site.iterdir()
        if p.name.startswith("tensorrt") and p.is_dir() and "dist-info" not in p.name
    )
    code = (
        f"import functools, {module} as trt\n"
        "def has(name):\n"
        "    try:\n"
        "        functools.reduce(getattr, name.split('.'), trt)\n"
        "        return True\n"
        "    except AttributeError:\n"
        "        return False\n"
        f"print([n for n in {sorted(names_used())!r} if not has(n)], trt.__version__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(site), "LD_LIBRARY_PATH": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    version = requirement.split("==")[1]
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"[] {version}"


def bindings(requirement: str) -> Path:
    site = CACHE / requirement / f"py{sys.version_info.minor}"
    if not site.is_dir():
        fresh = site.with_name(site.name + ".tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(fresh)]
        done = subprocess.run([*pip, requirement], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"pip cannot get {requirement}: {done.stderr.strip()[-200:]}")
        fresh.rename(site)
    return site


def stubs(compiler: str, folder: Path, major: int) -> None:
    for name, functions in STUBS.items():
        source = folder / f"{name}.c"
        source.write_text("".join(f"void *{f}(void) {{ return 0; }}\n" for f in functions.split()))
        library = f"lib{name}.so.{major}"
        flags = ["-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(folder / library)]
        subprocess.run([compiler, *flags, str(source)], check=True)
