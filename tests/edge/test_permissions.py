"""What may not be looked at is said in words, wherever it is named; root may look at all of it."""

from __future__ import annotations

import pytest

from lohi_edge import batch, bids, bundle, dicom, settings, source, store
from lohi_edge.commands.enhance import _folder
from lohi_edge.dicom.send import _files
from lohi_edge.errors import BadInput, BundleError, DiskError, ModelFault, UsageError
from lohi_edge.settings import Settings, Watch
from lohi_edge.watch import status
from lohi_edge.watch.folders import folders
from lohi_edge.watch.state import prepare


@pytest.fixture
def shut(unprivileged):
    """A folder that can be listed and no more, for lack of its x bit."""
    folder = unprivileged / "shut"
    folder.mkdir()
    (folder / "slice").write_bytes(bytes(500))
    folder.chmod(0o444)
    return folder


@pytest.mark.parametrize(
    "ask",
    [
        lambda folder: dicom.find(folder.parent),
        lambda folder: dicom.find(folder / "slice"),
        lambda folder: _files([folder.parent]),
        lambda folder: _files([folder / "slice"]),
        lambda folder: bids.scans(folder),
    ],
)
def test_scans_that_may_not_be_looked_at(shut, ask):
    with pytest.raises(BadInput, match=r"permission denied|no dataset_description"):
        ask(shut)


def test_scans_that_may_not_be_looked_at_are_told_of_when_they_are_enhanced(shut):
    assert batch.expand([shut / "slice"]) == [shut / "slice"]
    assert source.resolve(shut / "slice") == shut / "slice"
    assert batch.expand([shut.parent]) == [shut.parent]


def test_a_bundle_that_may_not_be_looked_at(shut, monkeypatch):
    monkeypatch.setenv(store.ENVIRONMENT, str(shut.parent / "cache"))
    for path in (shut, shut / "t1w-edge", shut / "t1w.zip"):
        with pytest.raises(BundleError, match="permission denied; copy it to where") as found:
            bundle.load(path)
        assert not isinstance(found.value, ModelFault)  # nothing is wrong with the bundle
    closed = shut.parent / "closed.zip"
    closed.touch(mode=0o000)
    with pytest.raises(BundleError, match="permission denied; copy it to where"):
        bundle.load(closed)
    with pytest.raises(BundleError, match="expected a bundle directory"):
        bundle.load(shut.parent / "nothing.zip")


def test_the_devices_folders_of_another_user(unprivileged, monkeypatch):
    """Its settings hold for everybody and are not passed over; its cache is the daemon's alone."""
    private = unprivileged / "lohi-edge"
    private.mkdir(mode=0o000)
    monkeypatch.delenv(store.ENVIRONMENT, raising=False)
    monkeypatch.setattr(store, "SYSTEM", private / "cache")
    monkeypatch.setattr(settings, "SYSTEM_FILE", private / "config.toml")
    assert private not in store.default_root().parents
    with pytest.raises(UsageError, match="permission denied"):
        settings.load(environ={})


def test_the_daemons_state_is_not_for_every_user(shut):
    for state in (shut, shut / "state"):
        with pytest.raises(UsageError, match="ask as the daemon's"):
            status.require(state)
    with pytest.raises(UsageError, match="name it with --state"):
        status.require(shut.parent / "none")
    with pytest.raises(DiskError, match="permission denied"):
        prepare(shut / "state")


def test_folders_that_may_not_be_looked_at(shut):
    watch = Watch(inbox=str(shut / "in"), outbox=str(shut / "out"), state=str(shut.parent))
    with pytest.raises(UsageError, match="expected a folder for the inbox"):
        folders(Settings(watch=watch))
    assert _folder(shut / "out") == shut / "out"  # writing into it says more
