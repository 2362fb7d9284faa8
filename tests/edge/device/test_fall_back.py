"""Going back from a bundle that turned out to be no good, and from no other."""

from __future__ import annotations

import pytest

from lohi_edge import bundle as bundles
from lohi_edge.device import installed, selftest, trial, update
from lohi_edge.errors import UsageError
from lohi_edge.settings import Settings


def test_falling_back_does_not_go_forward_to_what_failed(device, proved, make_serial):
    first, second = (device.install(make_serial(n))["folder"] for n in (1, 2))
    assert installed.fall_back(device.bundles / second, "it differs") == {"T1w": first}
    pointer = device.library.pointer()
    assert (pointer.previous, pointer.refused) == (None, {second: "it differs"})
    with pytest.raises(UsageError, match="no earlier bundle"):
        device.library.roll_back()
    # Another command may have seen it fail as well: it is gone back from once.
    assert installed.fall_back(device.bundles / second, "again") == {"T1w": first}
    assert device.library.pointer() == pointer
    assert installed.fall_back(device.bundles / first, "again") == {}
    assert installed.fall_back(installed.resolve("T1w"), "what ships") is None


def test_only_the_bundle_that_failed_is_gone_back_from(device, proved, make_serial):
    first = device.install(make_serial(1))["folder"]
    other = device.install(make_serial(1, name="other", contrasts=["T2w"]))["folder"]
    assert installed.fall_back(device.bundles / first, "T1w differs") == {"T2w": other}
    pointer = device.library.pointer()
    assert (pointer.active, pointer.refused) == ({"T2w": other}, {first: "T1w differs"})
    assert first not in (pointer.previous or {}).values()
    assert installed.resolve("T1w") == bundles.shipped("T1w")


def test_each_contrast_goes_back_to_what_served_it(device, proved, make_serial):
    old = device.install(make_serial(1))["folder"]
    wide = device.install(make_serial(1, name="wide", contrasts=["T1w", "T2w"]))["folder"]
    assert device.active() == {"T1w": wide, "T2w": wide}
    assert installed.fall_back(device.bundles / wide, "it differs") == {"T1w": old}
    assert installed.resolve("T2w") == bundles.shipped("T2w")


def test_a_refused_bundle_is_not_gone_back_to(device, proved, make_serial):
    old, new = (device.install(make_serial(n))["folder"] for n in (1, 2))
    with device.library.locked():
        device.library.refuse(device.bundles / old, "it does not reproduce its golden slices now")
    assert installed.fall_back(device.bundles / new, "it differs") == {}


def test_a_failed_self_test_leaves_the_bundles_of_other_contrasts(
    device, proved, make_serial, monkeypatch
):
    first = device.install(make_serial(1))["folder"]
    other = device.install(make_serial(1, name="other", contrasts=["T2w"]))["folder"]
    failed = {"passed": False, "problems": ["differs by 20"]}
    monkeypatch.setattr(selftest, "run", lambda *_: failed)
    said: list[str] = []
    with pytest.raises(trial.SelfTestFailed, match="differs by 20"):
        update.check_active(None, Settings(), True, said.append)
    assert device.active() == {"T2w": other}
    assert list(device.library.pointer().refused) == [first]
    assert said == [f"rolled back: {first} is refused, active for T1w is the bundle that ships"]
