"""Every check of the machine, made to pass, to fail and not to apply."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lohi_edge.device import checks_machine, doctor
from lohi_edge.device.doctor import FAIL, NOT_APPLICABLE, PASS, WARN
from machine import GPU, jetson, write


@pytest.mark.parametrize(
    ("python", "status"), [((3, 9), FAIL), ((3, 10), PASS), ((3, 12), PASS), ((3, 13), FAIL)]
)
def test_python(context, python, status):
    assert checks_machine.python(replace(context, python=python)).status == status


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("R35 (release), REVISION: 6.1", FAIL),
        ("R36 (release), REVISION: 4.3", PASS),
        ("R38 (release), REVISION: 2.0", PASS),
        ("R99 (release), REVISION: 1.0", WARN),
    ],
)
def test_jetpack(context, release, status):
    assert checks_machine.jetpack(context).status == NOT_APPLICABLE
    jetson(context.root, release)
    assert checks_machine.jetpack(context).status == status


@pytest.mark.parametrize(
    ("version", "status"),
    [("10.3.0", PASS), ("8.6.2", FAIL), ("11.4.0.106", FAIL), ("10.16.1", PASS)],
)
def test_tensorrt_on_jetpack_6(context, version, status):
    jetson(context.root)
    sound = replace(context, gpu=GPU, tensorrt=lambda: version)
    assert checks_machine.tensorrt(sound).status == status


def test_tensorrt_elsewhere(context):
    assert checks_machine.tensorrt(context).status == NOT_APPLICABLE
    assert checks_machine.tensorrt(replace(context, gpu=GPU)).status == WARN
    jetson(context.root, "R38 (release), REVISION: 2.0")
    assert checks_machine.tensorrt(replace(context, gpu=GPU)).status == FAIL
    for version, status in (("11.2.0", FAIL), ("11.4.0", PASS)):
        found = checks_machine.tensorrt(replace(context, gpu=GPU, tensorrt=lambda v=version: v))
        assert found.status == status


def test_cuda(context):
    assert checks_machine.cuda(context).status == NOT_APPLICABLE
    assert checks_machine.cuda(replace(context, gpu=GPU)).status == PASS
    assert checks_machine.cuda(replace(context, gpu=replace(GPU, cuda="11.4"))).status == FAIL
    jetson(context.root)
    assert checks_machine.cuda(context).status == FAIL


@pytest.mark.parametrize(("available_mb", "status"), [(4000, PASS), (300, FAIL)])
def test_gpu_memory(context, available_mb, status):
    assert checks_machine.gpu_memory(context).status == NOT_APPLICABLE
    meminfo = f"MemTotal: 8000000 kB\nMemAvailable: {available_mb * 1024} kB\n"
    write(context.root, "proc/meminfo", meminfo)
    assert checks_machine.gpu_memory(replace(context, gpu=GPU)).status == status
    small = replace(GPU, unified=False, total_bytes=256 << 20)
    assert checks_machine.gpu_memory(replace(context, gpu=small)).status == FAIL


@pytest.mark.parametrize(("mode", "status"), [("2", PASS), ("0", WARN), ("7", WARN)])
def test_power_mode(context, mode, status):
    assert checks_machine.power_mode(context).status == NOT_APPLICABLE
    jetson(context.root, mode=mode)
    assert checks_machine.power_mode(context).status == status
    (context.root / "var/lib/nvpmodel/status").unlink()
    assert checks_machine.power_mode(context).status == WARN


def test_throttling(context):
    assert checks_machine.throttling(context).status == PASS
    write(context.root, "sys/class/hwmon/hwmon3/oc1_event_cnt", "12\n")
    found = checks_machine.throttling(context)
    assert (found.status, "12 by current" in found.found) == (WARN, True)


def test_clock(context):
    assert checks_machine.clock_sync(context).status == PASS
    assert checks_machine.clock_sync(replace(context, clock=lambda: 5)).status == WARN
    assert 0 <= doctor.clock_state() <= 5  # what Linux itself says
