"""Engines built in the child process and cached; TensorRT-RTX stands in for TensorRT."""

from __future__ import annotations

import os
import resource
import signal
import stat
from types import SimpleNamespace

import pytest

from gpu_double import FakePycuda, FakeTensorRt, load_fake_cuda
from lohi_edge import bundle as bundles
from lohi_edge.engine import manage, report
from lohi_edge.engine.build import Profile
from lohi_edge.engine.cache import EngineCache, EngineKey
from lohi_edge.engine.memory import check_memory, needed_mb
from lohi_edge.errors import BundleError, DiskError
from lohi_edge.runtime import choose
from lohi_edge.runtime.cuda import Gpu
from lohi_edge.store import Store

GPU = Gpu("Orin", "8.7", "12.6", 8 << 30, True)
PROFILE = Profile(1, 4, 4)


@pytest.fixture
def bundle(make_bundle):
    return bundles.load(make_bundle())


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("LOHI_EDGE_CACHE", str(tmp_path / "own"))
    return Store()


@pytest.fixture
def rtx():
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu13 is not installed")
    return manage.Target(trt, GPU, "SM86")


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


def fake_entry(bundle, store, target, precision="fp32", plan=b"plan:"):
    """An engine whose plan is the ONNX file, which the double runs."""
    cache = EngineCache(store)
    folder = cache.workspace()
    onnx = manage.file_of(bundle, precision)
    (folder / "engine.plan").write_bytes(plan + bundle.read(onnx))
    key = EngineKey.of(bundle.manifest.files[onnx], target.trt, target.gpu, precision, PROFILE)
    return cache.publish(folder, key, {"built": "2026-11-22T00:00:00+00:00", "seconds": 1})


@pytest.fixture
def target():
    trt = SimpleNamespace(__name__="tensorrt", __version__="10.3.0")
    return manage.Target(trt, GPU)


@pytest.mark.parametrize(
    "change",
    [
        {"gpu": Gpu("Orin", "8.6", "12.6", 8 << 30, True)},
        {"gpu": Gpu("Other", "8.7", "12.6", 8 << 30, True)},
        {"gpu": Gpu("Orin", "8.7", "12.8", 8 << 30, True)},
        {"trt": SimpleNamespace(__name__="tensorrt", __version__="10.4.0")},
    ],
)
def test_an_engine_of_another_gpu_or_tensorrt_is_not_found(bundle, store, target, change):
    fake_entry(bundle, store, target)

    assert manage.find(bundle, "fp32", target, store)
    other = manage.Target(change.get("trt", target.trt), change.get("gpu", target.gpu))
    assert manage.find(bundle, "fp32", other, store) is None


def test_what_a_kill_left_of_a_removed_engine_is_freed_by_the_next_removal(bundle, store, target):
    cache = EngineCache(store)
    entry = fake_entry(bundle, store, target)
    onnx = {entry.record["key"]["onnx_sha256"]}
    left = cache.root / ".removed-before"
    left.mkdir(mode=0o700)
    (left / "engine.plan").write_bytes(b"what a kill left")
    assert cache.remove({"another"}).count == 0
    assert list(cache.root.iterdir()) == [entry.path]
    assert cache.remove(onnx).count == 1
    assert list(cache.root.iterdir()) == []


def test_an_altered_plan_is_not_read(bundle, store, target):
    entry = fake_entry(bundle, store, target)
    plan = entry.path / "engine.plan"
    data = bytearray(plan.read_bytes())
    data[100] ^= 1
    plan.write_bytes(bytes(data))

    with pytest.raises(BundleError, match="not the one that was built"):
        EngineCache(store).read(entry)


def test_a_plan_others_can_write_is_not_read(bundle, store, target):
    entry = fake_entry(bundle, store, target)
    (entry.path / "engine.plan").chmod(0o666)
    with pytest.raises(BundleError, match="others may write"):
        EngineCache(store).read(entry)

    (entry.path / "engine.plan").chmod(0o600)
    entry.path.chmod(0o755)
    with pytest.raises(BundleError, match="expected mode 0700"):
        EngineCache(store).read(entry)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_plan_is_not_read(bundle, store, target):
    entry = fake_entry(bundle, store, target)
    os.chown(entry.path / "engine.plan", 12345, 12345)
    with pytest.raises(BundleError, match="expected a file of user"):
        EngineCache(store).read(entry)


def test_a_plan_with_a_record_from_elsewhere_does_not_exist(bundle, store, target, tmp_path):
    entry = fake_entry(bundle, store, target)
    elsewhere = Store(tmp_path / "elsewhere")
    (elsewhere.root / "plans").mkdir(mode=0o700)
    entry.path.rename(elsewhere.root / "plans" / entry.path.name)

    assert manage.find(bundle, "fp32", target, elsewhere) is None
    assert EngineCache(elsewhere).entries() == []


def test_building_again_replaces_and_clear_removes_all(bundle, store, target):
    fake_entry(bundle, store, target)
    second = fake_entry(bundle, store, target)
    (store.root / "plans" / ".building-left").mkdir()

    assert EngineCache(store).entries() == [second]
    assert EngineCache(store).clear() == 1
    assert list((store.root / "plans").iterdir()) == []


@pytest.fixture
def machine(monkeypatch):
    """This machine with a GPU, TensorRT and pycuda, as far as the project can tell."""
    library = load_fake_cuda()
    library.fake_devices(1, 0)
    trt, cuda = FakeTensorRt(library), FakePycuda(library)
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.setitem(sys.modules, "pycuda", SimpleNamespace(driver=cuda))
    monkeypatch.setitem(sys.modules, "pycuda.driver", cuda)
    yield library
    library.fake_devices(0, 0)


def test_no_engine_is_used_before_it_is_accepted(bundle, store, machine):
    target = manage.this_machine()
    choice = choose(bundle)
    assert choice.runtime.name != "tensorrt"
    assert "the int8 engine has not been built" in choice.fallback

    entry = fake_entry(bundle, store, target, "fp16")
    assert "the fp16 engine has not been accepted" in choose(bundle).fallback

    record = manage.accept_engine(bundle, entry, store, target)
    assert record["accepted"]
    choice = choose(bundle)
    assert (choice.runtime.name, choice.runtime.precision) == ("tensorrt", "fp16")
    assert choice.engine["plan_sha256"] == entry.record["plan_sha256"]
    assert "the int8 engine has not been built" in choice.fallback
    choice.runtime.close()


def test_int8_gives_way_to_fp16_and_says_so(make_bundle, store, machine):
    bundle = bundles.load(make_bundle(tolerance={"int8.trt": 1e-6}))
    target = manage.this_machine()
    for precision in ("int8", "fp16"):
        fake_entry(bundle, store, target, precision)

    rows = report.accept_all(bundle, target, store)
    assert [(r["precision"], r["accepted"]) for r in rows] == [("int8", False), ("fp16", True)]
    assert "fp16 is used instead" in rows[0]["demotion"]
    choice = choose(bundle)
    assert (choice.runtime.name, choice.runtime.precision) == ("tensorrt", "fp16")
    assert "int8 on tensorrt not accepted: largest error" in choice.fallback
    choice.runtime.close()


def test_an_engine_that_does_not_load_gives_way_to_the_cpu(bundle, store, machine):
    target = manage.this_machine()
    fake_entry(bundle, store, target, "fp16", plan=b"other")

    rows = report.accept_all(bundle, target, store)
    assert not rows[0]["accepted"]
    assert "another TensorRT or GPU" in rows[0]["problems"][0]
    choice = choose(bundle)
    assert choice.runtime.name in ("openvino", "onnxruntime")
    assert "fp16 on tensorrt not accepted" in choice.fallback
    with pytest.raises(BundleError, match="nothing to run for runtime tensorrt"):
        choose(bundle, runtime="tensorrt")


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
