"""What becomes of a daemon whose worker cannot start: it ends, goes back, or tries again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lohi_edge.device import installed
from lohi_edge.errors import BundleError, LohiError, UsageError
from lohi_edge.watch import audit
from lohi_edge.watch.dispatch import Dispatcher


@pytest.fixture
def dispatcher(parts, tmp_path):
    """Its worker has just said that it cannot start."""
    made = Dispatcher(parts, tmp_path, lambda *_: None)
    made.crew._worker = SimpleNamespace(end=lambda: "ended", last_words=lambda: "", ready=False)
    return made


@pytest.fixture
def gone_back(monkeypatch):
    """Names of the bundles that were gone back from."""
    names = []

    def fall_back(bundle, why):
        names.append(bundle.name)
        return {}

    monkeypatch.setattr(installed, "fall_back", fall_back)
    return names


@pytest.mark.parametrize(("code", "kind"), [(1, LohiError), (2, UsageError), (5, BundleError)])
def test_a_fault_of_the_machine_ends_the_daemon_with_its_own_code(
    dispatcher, gone_back, code, kind
):
    with pytest.raises(kind, match="the key is broken") as error:
        dispatcher._on_refused("the key is broken", code, None)
    assert error.value.exit_code == code
    assert gone_back == []


def test_a_full_disk_ends_nothing_and_the_worker_is_started_again(dispatcher, gone_back):
    dispatcher._on_refused("no space left", 6, None)
    assert (dispatcher.gate.why, dispatcher.crew.process) == ("no space left", None)
    assert dispatcher.crew.lost == 1  # the next start waits, ever longer
    assert gone_back == []


def test_the_bundle_at_fault_is_gone_back_from(dispatcher, parts, gone_back, tmp_path):
    dispatcher._on_refused("it differs", 5, str(tmp_path / "mine-1"))
    assert gone_back == ["mine-1"]
    assert dispatcher.crew.process is None
    said = audit.last(parts.audit._path, "model.refused")
    assert (said["bundle"], said["why"]) == ("mine-1", "it differs")
    assert audit.last(parts.audit._path, "bundle.rolled_back")["bundle"] == "mine-1"
    assert audit.last(parts.audit._path, "never") is None
