"""What this processor's INT8 is good for."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from lohi_calibration.overflow import overflows


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not Path("/proc/cpuinfo").is_file(),
    reason="the flags of an x86 processor under Linux",
)
def test_int8_overflows_on_x86_without_vnni_alone():
    flags = Path("/proc/cpuinfo").read_text()
    assert overflows() == ("vnni" not in flags)
