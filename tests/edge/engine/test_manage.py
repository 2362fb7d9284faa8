"""Engines built in the child process; TensorRT-RTX stands in for TensorRT."""

from __future__ import annotations

import resource
import signal
import stat

import pytest

from lohi_edge import bundle as bundles
from lohi_edge.engine import manage
from lohi_edge.engine.build import Profile
from lohi_edge.engine.cache import EngineCache
from lohi_edge.engine.memory import check_memory, needed_mb
from lohi_edge.errors import BundleError, DiskError

PROFILE = Profile(1, 4, 4)


def leftovers(store):
    return [p.name for p in (store.root / "plans").iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_an_engine_is_built_in_a_child_and_found_again(bundle, store, rtx, precision):
    entry = manage.build_engine(bundle, precision, PROFILE, 64, None, rtx, store)

    found = manage.find(bundle, precision, rtx, store)
    assert found == entry
    plan = EngineCache(store).read(found)
    assert len(plan) == entry.record["bytes"] > 10_000
    assert entry.path.stat().st_mode & 0o777 == 0o700
    assert stat.S_IMODE((entry.path / "engine.plan").stat().st_mode) == 0o600
    assert sorted(p.name for p in entry.path.iterdir()) == ["engine.json", "engine.plan"]
    assert leftovers(store) == []
    assert entry.record["key"]["profile"] == [1, 4, 4]


@pytest.mark.parametrize("what", ["timing", "workspace"])
def test_a_disk_that_takes_nothing_is_named_as_such(bundle, store, target, what):
    if what == "timing":
        (store.root / "timing").write_text("in the way")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(DiskError, match="cannot be written"):
            manage.build_engine(bundle, "fp32", PROFILE, 64, None, target, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert leftovers(store) == []


def test_what_tensorrt_rejects_leaves_nothing_and_its_words(make_bundle, store, rtx, small_net):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(small_net)
    for tensor in model.graph.initializer:
        if tensor.name == "first.w":  # 8 x 8 x 3 x 3 becomes 8 x 4 x 3 x 3: parses, cannot run
            values = onnx.numpy_helper.to_array(tensor)[:, :4]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "first.w"))
    bad = bundles.load(make_bundle(files={"fp32.onnx": model.SerializeToString()}))

    with pytest.raises(BundleError, match=r"fp32\.onnx: TensorRT 1\.") as error:
        manage.build_engine(bad, "fp32", PROFILE, 64, None, rtx, store)

    assert error.value.exit_code == 5
    assert list((store.root / "plans").iterdir()) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory ran out"),
        ("import os; os.abort()", "crashed .SIGABRT"),
        ("raise SystemExit('boom')", "status 1: boom"),
    ],
)
def test_a_child_that_dies_takes_nothing_along(bundle, store, rtx, monkeypatch, code, words):
    import subprocess

    run = subprocess.run

    def dies(command, **options):
        return run([command[0], "-c", code], **options)

    monkeypatch.setattr(manage.subprocess, "run", dies)

    with pytest.raises(BundleError, match=words):
        manage.build_engine(bundle, "fp32", PROFILE, 64, None, rtx, store)

    assert list((store.root / "plans").iterdir()) == []


def test_memory_is_checked_before_a_build(machine):
    check_memory(1 << 20, 512)  # the fake GPU has 1024 MB free
    with pytest.raises(BundleError, match=r"expected 1404 MB of free GPU memory .* got 1024 MB"):
        check_memory(1 << 20, 1000)
    assert needed_mb(1 << 20, 1000) == 1404
    assert machine.fake_contexts() == machine.fake_current() == 0


def test_a_jetson_counts_the_machine_s_memory(machine, tmp_path):
    machine.fake_devices(1, 1)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000000 kB\nMemAvailable: 512000 kB\n")
    with pytest.raises(BundleError, match=r"of free memory .* got 500 MB"):
        check_memory(1 << 20, 512, str(meminfo))


def test_without_a_gpu_the_reason_is_said():
    with pytest.raises(BundleError, match="expected an NVIDIA GPU with TensorRT: no CUDA"):
        manage.this_machine()
    with pytest.raises(BundleError, match="expected a GPU to build an engine on"):
        check_memory(1, 1)


@pytest.mark.parametrize(
    ("batch", "words", "code"), [("8,4,8", "MIN <= OPT", 5), ("1,x", "--batch", 2)]
)
def test_batch_sizes_are_looked_at_before_the_gpu(batch, words, code):
    from typer.testing import CliRunner

    from lohi_edge.cli import app

    done = CliRunner().invoke(app, ["engine", "build", "--batch", batch])

    assert words in str(done.exception)
    assert done.exception.exit_code == code
