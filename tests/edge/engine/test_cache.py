"""Engines in the cache: which are read, which are accepted, and what runs where none is."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest

from lohi_edge import acceptance
from lohi_edge import bundle as bundles
from lohi_edge.engine import manage, report
from lohi_edge.engine.build import Profile
from lohi_edge.engine.cache import EngineCache, EngineKey
from lohi_edge.errors import BundleError, DiskError
from lohi_edge.runtime import choose
from lohi_edge.runtime.cuda import Gpu
from lohi_edge.runtime.tensorrt import TensorRtRuntime
from lohi_edge.store import Store

PROFILE = Profile(1, 4, 4)


def fake_entry(bundle, store, target, precision="fp32", plan=b"plan:"):
    """An engine whose plan is the ONNX file, which the double runs."""
    cache = EngineCache(store)
    folder = cache.workspace()
    onnx = manage.file_of(bundle, precision)
    (folder / "engine.plan").write_bytes(plan + bundle.read(onnx))
    key = EngineKey.of(bundle.manifest.files[onnx], target.trt, target.gpu, precision, PROFILE)
    return cache.publish(folder, key, {"built": "2026-11-22T00:00:00+00:00", "seconds": 1})


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


def test_engines_that_cannot_be_removed_are_said(bundle, store, target, monkeypatch):
    fake_entry(bundle, store, target)

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("lohi_edge.engine.cache.shutil.rmtree", refuse)
    with pytest.raises(DiskError, match="permission denied"):
        EngineCache(store).clear()


def test_building_again_replaces_and_clear_removes_all(bundle, store, target):
    fake_entry(bundle, store, target)
    second = fake_entry(bundle, store, target)
    (store.root / "plans" / ".building-left").mkdir()

    assert EngineCache(store).entries() == [second]
    assert EngineCache(store).clear() == 1
    assert list((store.root / "plans").iterdir()) == []


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


def test_an_engine_that_computes_wrongly_later_gives_way_and_is_closed(
    make_bundle, store, machine, monkeypatch
):
    bundle = bundles.load(make_bundle(tolerance={"int8.trt": 1e-6}))
    target = manage.this_machine()
    for precision in ("int8", "fp16"):
        entry = fake_entry(bundle, store, target, precision)
        fine = {"accepted": True, "problems": [], "seconds_per_slice": 0.001 * len(precision)}
        store.keep(manage.acceptance_key(bundle, entry), fine)
    closed = []
    plain = TensorRtRuntime.close
    monkeypatch.setattr(
        TensorRtRuntime, "close", lambda self: (closed.append(self.precision), plain(self))
    )

    choice = acceptance.prove(bundle)

    assert (choice.runtime.name, choice.runtime.precision) == ("tensorrt", "fp16")
    assert "int8 on tensorrt not accepted: largest error" in choice.fallback
    assert "once its cause is mended: `lohi-edge engine accept`" in choice.fallback
    assert closed == ["int8"]
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
