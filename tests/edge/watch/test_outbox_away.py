"""An outbox whose server, session or disk is gone: work pauses, and nothing ends or is lost."""

from __future__ import annotations

import errno
import os

import pytest

from lohi_edge.errors import DiskError
from lohi_edge.files import discard
from lohi_edge.settings import load
from lohi_edge.watch import control, disk
from lohi_edge.watch.crew import Crew
from lohi_edge.watch.gate import STATE_TROUBLE, Gate
from lohi_edge.watch.listing import Found
from lohi_edge.watch.outbox import ELSEWHERE
from lohi_edge.watch.service import Daemon
from watch_parts import deliver

CODES = (
    "EHOSTDOWN",
    "ENOTCONN",
    "ESTALE",
    "EIO",
    "EACCES",
)  # CIFS, sshfs, NFS, a failing disk, ACLs
CALLS = ("stat", "lstat", "scandir", "listdir", "mkdir", "open", "unlink", "rename", "statvfs")


@pytest.fixture(params=CODES)
def leave(request):
    """Has every system call on a folder and what is in it fail, until it is undone."""

    patch = pytest.MonkeyPatch()

    def go(root):
        code = getattr(errno, request.param)

        def failing(real):
            def call(path, *args, **more):
                if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(str(root)):
                    raise OSError(code, os.strerror(code), str(path))
                return real(path, *args, **more)

            return call

        for name in CALLS:
            patch.setattr(os, name, failing(getattr(os, name)))
        return patch.undo

    yield go
    patch.undo()


def test_whatever_is_asked_of_it_says_so(parts, leave):
    folder = deliver(parts, "a.nii", "1" * 64)
    outbox, scan = parts.outbox, parts.ledger.get(1)
    temporary = outbox.root / "half.tmp"
    back = leave(outbox.root)
    assert not outbox.is_there()
    for step in (
        outbox.clear,
        lambda: outbox.stage(2),
        lambda: outbox.place(2, "b"),
        lambda: outbox.find(folder.name, "1" * 64),
        lambda: outbox.find_own(1, scan.path, "1" * 64),
        lambda: outbox.explain("failed", "b.nii", 2, "why"),
        lambda: outbox.take(parts.root / "a.nii", outbox.root / "originals/a.nii"),
    ):
        with pytest.raises(DiskError):
            step()
    discard(temporary)  # whose failure must not hide the one that it cleans up after
    parts.settle_pending()
    back()
    outbox.clear()
    assert outbox.find(folder.name, "1" * 64)


def test_an_image_on_it_is_not_called_removed(parts, leave):
    folder = deliver(parts, "a.nii", "1" * 64)
    placed = parts.outbox.find(folder.name, "1" * 64)
    image = placed.image
    assert image.is_file()
    back = leave(parts.outbox.root)
    with pytest.raises(DiskError, match="cannot be looked at"):
        _ = placed.image  # it would be made a second time
    back()
    image.unlink()
    assert placed.image is None


def test_one_that_goes_within_a_step_says_so(parts, leave, monkeypatch):
    """It was there when that was looked at."""
    outbox = parts.outbox
    leave(outbox.root)
    monkeypatch.setattr(outbox, "is_there", lambda: True)
    for step in (lambda: outbox.stage(2), lambda: outbox.explain("failed", "b.nii", 2, "why")):
        with pytest.raises(DiskError):
            step()


def test_retention_waits_for_it(parts, leave):
    folder = deliver(parts, "a.nii", "1" * 64)
    parts.settings = load(environ={}, overrides={"disk": {"keep_gb": 1e-9}})
    back = leave(parts.outbox.root)
    assert disk.retain(parts) == 0
    assert parts.ledger.get(1).bytes
    back()
    assert disk.retain(parts) == 1
    assert [path.suffix for path in folder.iterdir()] == [".json"]


def test_an_original_on_it_is_not_called_gone(parts, leave):
    (number,) = parts.ledger.receive([Found("a.nii", "m", 3)])
    parts.ledger.begin(number)
    parts.ledger.finish(number, "failed", original="moved")
    leave(parts.outbox.root)
    with pytest.raises(DiskError, match="mount it again"):
        control._do(parts, "retry", number)


def test_what_is_said_of_trouble_names_the_outbox_only_where_it_is_away(parts, leave):
    gate = Gate(parts)
    gate.close_after_trouble()
    assert gate.why == STATE_TROUBLE
    leave(parts.outbox.root)
    gate.close_after_trouble()
    assert gate.why == ELSEWHERE


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    """A daemon whose steps are made by hand, whose worker has nothing to do."""
    folders = {name: str(tmp_path / name) for name in ("inbox", "outbox", "state")}
    for name in ("inbox", "outbox"):
        (tmp_path / name).mkdir()
    watch = {**folders, "originals": "move", "events": False}
    settings = load(environ={}, overrides={"watch": watch, "disk": {"reserve_gb": 0}})
    made = Daemon(settings, lambda: settings)
    monkeypatch.setattr(Crew, "keep", lambda *_: True)
    monkeypatch.setattr(Crew, "ready", True)
    with made._bell:
        yield made
        made._close()


def test_the_daemon_pauses_and_goes_on_by_itself(daemon, leave):
    def step():
        daemon.lookout.next = daemon.dispatcher.gate._until = daemon._not_before = 0.0
        daemon._guarded_step()
        return daemon.dispatcher.gate.why

    assert step() is None
    back = leave(daemon.outbox.root)
    assert [step(), step()] == [ELSEWHERE, ELSEWHERE]
    back()
    assert step() is None
    assert daemon._recovered
