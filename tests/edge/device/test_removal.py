"""Bundles that are removed, and their engines; what is in use stays."""

from __future__ import annotations

import json
import shutil

import pytest

from lohi_edge import bundle as bundles
from lohi_edge.device import update
from lohi_edge.engine.cache import EngineCache, EngineKey
from lohi_edge.errors import ModelFault, UsageError
from lohi_edge.settings import Enhance, Settings
from lohi_edge.store import Store
from lohi_edge.watch import audit


def test_a_removed_bundle_is_gone_and_its_engines_with_it(device, proved, make_serial):
    first = device.install(make_serial(1))["folder"]
    device.install(make_serial(2))
    shared = bundles.load(device.bundles / first).manifest.files["fp32.onnx"]
    engines = EngineCache(Store())
    for number, onnx in enumerate((shared, "0" * 64)):
        write_engine(engines, onnx, number)
    third = device.bundles / device.install(make_serial(3))["folder"]  # 1 is no way back now
    own = json.loads((device.bundles / first / "manifest.json").read_text())
    own["files"]["int8.trt.onnx"] = "0" * 64
    (device.bundles / first / "manifest.json").write_text(json.dumps(own))
    report = update.remove("identity-1", Settings(), device.library, lambda _: None)
    assert report["removed"] == first
    assert report["engines"] == 1
    assert not (device.bundles / first).exists()
    (left,) = engines.entries()
    assert left.record["key"]["onnx_sha256"] == shared  # the others' as well
    assert device.active() == {"T1w": third.name}
    log = (device.bundles / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in log] == ["bundle.switch"] * 3 + ["bundle.remove"]
    assert audit.verify(device.bundles / "audit.jsonl", ()).faults == ()


@pytest.mark.parametrize("kind", ["folder", "zip", None])
def test_the_engines_of_a_bundle_that_the_settings_name_stay(device, proved, make_serial, kind):
    device.install(make_serial(1))
    with device.library.locked():
        device.library.roll_back()
    named = make_serial(2)  # the same ONNX, not installed
    engines = EngineCache(Store())
    write_engine(engines, bundles.load(named).manifest.files["fp32.onnx"], 0)
    if kind == "zip":
        named = shutil.make_archive(str(named), "zip", named)
    settings = Settings(enhance=Enhance(bundle=str(named) if kind else None))
    report = update.remove("identity-1", settings, device.library, lambda _: None, force=True)
    assert report["engines"] == (0 if kind else 1)
    assert len(engines.entries()) == (1 if kind else 0)


def test_a_bundle_that_is_removed_while_it_is_listed_is_left_out(
    device, proved, make_serial, monkeypatch
):
    first = device.bundles / device.install(make_serial(1))["folder"]
    second = device.install(make_serial(2))["folder"]
    read = bundles.read_manifest

    def removed_meanwhile(path):
        found = read(path)
        if path == first:
            shutil.rmtree(path)
        return found

    monkeypatch.setattr(bundles, "read_manifest", removed_meanwhile)
    assert [row["folder"] for row in device.library.rows()] == [second]


def write_engine(engines, onnx, number):
    key = EngineKey(onnx, "tensorrt", "10.3", "12.6", "Orin", "8.7", "int8", (1, 4, 4 + number))
    folder = engines.workspace()
    (folder / "engine.plan").write_bytes(b"plan")
    engines.publish(folder, key, {"built": str(number)})


def test_what_is_in_use_is_not_removed(device, proved, make_serial):
    def remove(name, settings=None, **options):
        update.remove(name, settings or Settings(), device.library, lambda _: None, **options)

    first = device.install(make_serial(1))["folder"]
    second = device.install(make_serial(2))["folder"]
    before = device.library.pointer()
    with pytest.raises(UsageError, match="is active for T1w; activate another"):
        remove(second, force=True)
    with pytest.raises(UsageError, match="--force removes it"):
        remove(first)
    with pytest.raises(UsageError, match=r"enhance\.bundle names it"):
        remove(first, Settings(enhance=Enhance(bundle=str(device.bundles / first))), force=True)
    with pytest.raises(UsageError, match="got 'nothing'"):
        remove("nothing")
    assert device.library.pointer() == before
    assert len(device.library.folders()) == 2
    remove(first, force=True)
    assert device.library.pointer().previous is None
    with pytest.raises(UsageError, match="no earlier bundle"):
        device.library.roll_back()


def test_a_refused_and_a_damaged_bundle_can_be_removed(device, proved, monkeypatch, make_serial):
    first = device.install(make_serial(1))["folder"]

    def fail(*_):
        raise ModelFault("golden slices differ")

    monkeypatch.setattr(update, "_prove", fail)
    with pytest.raises(ModelFault):
        device.install(make_serial(2))
    (second,) = device.library.pointer().refused
    (device.bundles / second / "manifest.json").write_text("{")
    update.remove(second, Settings(), device.library, lambda _: None)
    assert device.library.pointer().refused == {}
    assert [path.name for path in device.library.folders()] == [first]
