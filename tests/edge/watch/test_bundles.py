"""A running daemon follows what is activated, and falls back from what it cannot accept."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lohi_edge.device.library import Library
from lohi_edge.files import sha256

pytestmark = pytest.mark.slow


@pytest.fixture
def library(box, identity_bundle, monkeypatch):
    """Installed bundles of the box, whose daemon is told no bundle."""
    made = Library(box.state.parent / "bundles")
    made.root.mkdir()
    for serial in (1, 2):
        folder = made.root / f"identity-{serial}"
        folder.mkdir()
        for source in identity_bundle.iterdir():
            (folder / source.name).write_bytes(source.read_bytes())
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, "serial": serial}))
    made.switch(made.root / "identity-1", ("T1w",))
    plain = box.command
    monkeypatch.setattr(box, "command", lambda: plain()[:-2])
    return made


def serials(box) -> list[int]:
    return sorted(r["bundle"]["serial"] for r in box.receipts().values())


def test_a_switch_reaches_the_running_daemon(box, library):
    box.scan("first.nii", 1)
    box.start(env={"LOHI_EDGE_BUNDLES": str(library.root)})
    box.wait_states(done=1)
    library.switch(library.root / "identity-2", ("T1w",))
    box.wait(
        lambda: [m["serial"] for m in box.status()["models"] if m["name"] == "identity"] == [2],
        "the new bundle",
    )
    box.scan("second.nii", 2)
    box.wait_states(done=2)
    assert box.stop() == 0
    assert serials(box) == [1, 2]


def spoil(bundle):
    """Make a bundle claim to compute something else than it does."""
    golden = dict(np.load(bundle / "golden.npz"))
    np.savez(bundle / "golden.npz", **{**golden, "output": golden["output"] * np.float32(0.9)})
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = sha256((bundle / "golden.npz").read_bytes())
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_bundle_the_worker_refuses_is_gone_back_from(box, library):
    bad = library.root / "identity-2"
    spoil(bad)
    library.switch(bad, ("T1w",))
    box.scan("scan.nii", 1)
    box.start(env={"LOHI_EDGE_BUNDLES": str(library.root)})
    box.wait_states(done=1)
    assert box.stop() == 0
    assert serials(box) == [1]
    assert "bundle.rolled_back bundle=identity-2" in box.read_log()
    assert library.pointer().active == {"T1w": "identity-1"}
    assert "largest error" in library.pointer().refused["identity-2"]


def test_a_bundle_of_another_contrast_stays_though_it_came_last(box, library):
    well = shutil.copytree(library.root / "identity-2", library.root / "identity-2-t2w")
    manifest = json.loads((well / "manifest.json").read_text())
    (well / "manifest.json").write_text(json.dumps({**manifest, "contrasts": ["T2w"]}))
    library.switch(well, ("T2w",))
    spoil(library.root / "identity-1")
    box.start(env={"LOHI_EDGE_BUNDLES": str(library.root)})
    assert box.stop() == 0
    assert library.pointer().active == {"T2w": well.name}
    assert list(library.pointer().refused) == ["identity-1"]
    names = {model["name"] for model in box.status()["models"]}
    assert {"identity", "t1w-edge"} <= names


def test_a_runtime_that_is_not_there_ends_the_daemon_and_costs_no_model(box, library):
    library.switch(library.root / "identity-2", ("T1w",))
    before = library.pointer()
    env = {"LOHI_EDGE_BUNDLES": str(library.root), "LOHI_EDGE_ENHANCE_RUNTIME": "tensorrt"}
    process = box.start(env=env)
    assert process.wait(60) == 5
    box.process = None
    assert "nothing to run for runtime tensorrt" in box.read_log()
    assert library.pointer() == before
