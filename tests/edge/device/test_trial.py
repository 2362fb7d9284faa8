"""What the private daemon's end says of the model, and what it does not."""

from __future__ import annotations

import json

import pytest

from lohi_edge.device import selftest, trial, update
from lohi_edge.errors import BundleError, DiskError, ModelFault, UsageError
from lohi_edge.sections import Enhance
from lohi_edge.settings import Settings, load
from lohi_edge.signing import KeyUnusable
from lohi_edge.watch.audit import Audit


@pytest.fixture
def folder(tmp_path):
    """A private folder whose daemon has said something before it ended."""
    (tmp_path / "state").mkdir()
    (tmp_path / "log").write_text("it begins\nerror: no space left\n")
    return tmp_path


@pytest.mark.parametrize(
    ("code", "kind", "exit_code", "words"),
    [
        (-9, trial.NotTested, 1, "killed by SIGKILL, most likely because memory ran out"),
        (0, trial.NotTested, 1, "ended with 0: no space left"),
        (1, trial.NotTested, 1, "ended with 1: no space left"),
        (2, UsageError, 2, "^no space left"),
        (5, BundleError, 5, "^no space left"),
        (6, DiskError, 6, "^no space left"),
    ],
)
def test_a_daemon_that_ends_says_nothing_of_the_model(folder, code, kind, exit_code, words):
    error = trial._why_it_ended(code, folder)
    assert type(error) is kind
    assert error.exit_code == exit_code
    with pytest.raises(kind, match=words):
        raise error


@pytest.mark.parametrize(("bundle", "kind"), [("mine-1", ModelFault), (None, BundleError)])
def test_a_daemon_that_refuses_its_bundle_says_so_in_its_audit_log(folder, bundle, kind):
    log = Audit(folder / "state")
    log.append("model.refused", bundle=bundle, why="no space left")
    log.close()
    assert type(trial._why_it_ended(5, folder)) is kind


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (trial.NotTested("killed"), True),
        (DiskError("full"), True),
        (UsageError("a setting"), True),
        (BundleError("nothing to run for runtime tensorrt"), True),
        (KeyUnusable("broken.pub"), True),
        (ModelFault("damaged"), False),
        (trial.SelfTestFailed("differs"), False),
    ],
)
def test_only_the_model_s_own_fault_is_gone_back_from(
    device, proved, make_serial, monkeypatch, error, stays
):
    first, second = (device.install(make_serial(n))["folder"] for n in (1, 2))
    before = device.library.pointer()

    def fail(*_):
        raise error

    monkeypatch.setattr(selftest, "run", fail)
    said: list[str] = []
    with pytest.raises(type(error), match=str(error)):
        update.check_active(None, Settings(), True, said.append)
    assert (device.library.pointer() == before) == stays
    assert device.active() == {"T1w": second if stays else first}
    assert bool(said) != stays


def test_a_broken_key_costs_no_model_its_place(device, proved, make_serial):
    device.install(make_serial(1))  # what ships needs no key, and could be gone back to
    before = device.library.pointer()
    (device.keys / "broken.pub").write_text("no key")
    done = device.run("selftest", "--rollback")
    assert done.returncode == 5
    assert "broken.pub: expected an Ed25519 public key" in done.stderr
    assert device.library.pointer() == before


@pytest.mark.slow
def test_a_runtime_that_is_not_there_costs_no_model_its_place(device, proved, make_serial):
    for serial in (1, 2):
        device.install(make_serial(serial))
    before = device.library.pointer()
    done = device.run("selftest", "--rollback", LOHI_EDGE_ENHANCE_RUNTIME="tensorrt")
    assert done.returncode == 5
    assert "nothing to run for runtime tensorrt" in done.stderr
    assert device.library.pointer() == before


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_no_model_its_place(device, proved, make_serial, monkeypatch):
    for serial in (1, 2):
        device.install(make_serial(serial))
    before = device.library.pointer()
    plain = trial.environment
    fault = {"LOHI_EDGE_FAULT": "worker_compute"}  # as the kernel kills, when memory runs out
    monkeypatch.setattr(trial, "environment", lambda *given: plain(*given) | fault)
    with pytest.raises(trial.NotTested, match=r"SIGKILL.*nothing is known of the model"):
        update.check_active(None, load(None), True, pytest.fail)
    assert device.library.pointer() == before


def test_an_install_that_cannot_be_proved_marks_nothing(device, monkeypatch, make_serial):
    def fail(*_):
        raise trial.NotTested("killed")

    monkeypatch.setattr(update, "_prove", fail)
    with pytest.raises(trial.NotTested):
        device.install(make_serial(1))
    assert device.active() == {}
    assert device.library.pointer().refused == {}


HOLDS = {"result": {"T1w": {"finite": {"hold": [2.0, None]}}}}


def test_the_private_daemon_judges_by_the_limits_of_the_device(tmp_path):
    limits = json.dumps(HOLDS)
    found = trial.environment({}, Settings(enhance=Enhance(limits=limits)), tmp_path)
    assert json.loads(str(load(None, found).enhance.limits)) == HOLDS
    assert "LOHI_EDGE_ENHANCE_LIMITS" not in trial.environment({}, Settings(), tmp_path)


@pytest.mark.slow
def test_a_result_that_the_device_s_limits_hold_fails(device, make_serial, tmp_path):
    path = tmp_path / "limits.json"
    path.write_text(json.dumps(HOLDS))
    done = device.run(
        "selftest", "--bundle", make_serial(1), LOHI_EDGE_ENHANCE_LIMITS=str(path)
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "the daemon delivered no result of the scan that ships: " in done.stderr
    assert "What to do" not in done.stderr
