"""The doctor's report: healthy or not, a fix beside whatever is wrong, every check tested."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from lohi_edge.device import checks_data, checks_machine, checks_service, doctor
from lohi_edge.device.doctor import FAIL, WARN
from lohi_edge.settings import Enhance, Settings, Watch


def test_a_sound_machine_is_healthy(context):
    report = doctor.examine(context)
    assert report["healthy"], report
    assert report["counts"][WARN] == 0, report
    page = doctor.lines(report)
    assert len(page) == len(report["checks"]) + 1
    assert all(row["fix"] == "" for row in report["checks"])


def test_whatever_is_wrong_has_its_fix_beside_it(context, identity_bundle):
    enhance = Enhance(bundle=str(identity_bundle), threads=1)
    settings = Settings(watch=Watch(inbox="/nowhere"), enhance=enhance)
    sick = replace(context, python=(3, 9), settings=settings)
    report = doctor.examine(sick)
    assert not report["healthy"]
    wrong = [row for row in report["checks"] if row["status"] in (WARN, FAIL)]
    assert {"python", "inbox"} <= {row["check"] for row in wrong}
    assert all(row["fix"] for row in wrong)
    assert "FAIL  python            3.9" in doctor.lines(report)


def test_a_command_that_is_not_there_is_no_traceback():
    assert doctor.run_command("no-such-command-here") == (127, "")


def test_every_check_is_tested_here():
    tests = [path.read_text() for path in Path(__file__).parent.glob("test_checks_*.py")]
    names = re.findall(r"^def (test_\w+)", "".join(tests), re.MULTILINE)
    wanted = {**checks_machine.CHECKS, **checks_data.CHECKS, **checks_service.CHECKS}
    other = {"bundle signature": "signature", "inbox": "durable_mounts", "outbox": "durable_mounts"}
    for name in wanted:
        short = other.get(name, name.split()[-1] if name == "dicom peers" else name)
        assert any(n.startswith(f"test_{short.replace(' ', '_')}") for n in names), name
