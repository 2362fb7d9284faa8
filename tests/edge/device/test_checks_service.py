"""The doctor's checks of systemd's units, made to pass, to fail and not to apply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lohi_edge.device import checks_service
from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN

SHOW = "LoadState={}\nActiveState={}\nSubState={}\nUnitFileState={}\nNRestarts={}\n"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (("loaded", "active", "running", "enabled", 0), PASS),
        (("loaded", "failed", "failed", "enabled", 5), FAIL),
        (("loaded", "active", "running", "disabled", 0), WARN),
        (("loaded", "active", "running", "enabled", 3), WARN),
        (("not-found", "inactive", "dead", "", 0), NOT_APPLICABLE),
    ],
)
def test_service(context, state, status):
    assert checks_service.service(context).status == NOT_APPLICABLE  # no systemd
    (context.root / "run/systemd/system").mkdir(parents=True)
    told = replace(context, command=lambda *_: (0, SHOW.format(*state)))
    assert checks_service.service(told).status == status


def receiving(context, *, words="receive --config /etc/config.toml", opened=None, state="active"):
    """What the doctor finds of a receiver started by `words` whose unit opened `opened`."""
    (context.root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    said = SHOW.format("loaded", state, "x", "disabled" if state == "inactive" else "enabled", 0)
    said += f"ExecStart={{ path=/x ; argv[]=/x/lohi-edge {words} $RECEIVE ; ignore_errors=no ; }}\n"
    said += f"ReadWritePaths={opened or context.settings.watch.inbox}\n"
    return checks_service.receiver(replace(context, command=lambda *_: (0, said)))


def test_receiver(context, tmp_path):
    assert checks_service.receiver(context).status == NOT_APPLICABLE  # no systemd
    assert receiving(context, state="inactive").status == NOT_APPLICABLE
    assert receiving(context, state="failed").status == FAIL
    assert receiving(context).status == PASS
    assert receiving(context, opened=f"-{tmp_path}").status == PASS
    found = receiving(context, opened="/var/lib/lohi-edge/inbox")
    assert (found.status, "may not write" in found.found) == (FAIL, True)
    assert f"ReadWritePaths={context.settings.watch.inbox}" in found.fix
    inbox = context.settings.watch.inbox
    assert receiving(context, words=f"receive {inbox}").status == PASS
    found = receiving(context, words="receive /var/lib/lohi-edge/inbox")
    assert (found.status, "/var/lib/lohi-edge/inbox" in found.found) == (FAIL, True)
