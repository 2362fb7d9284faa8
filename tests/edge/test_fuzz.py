"""Hostile bytes and power cuts at random: no crash, no hang, no half result. Slow tier."""

from __future__ import annotations

import gzip
import random
import signal
import subprocess
import sys
import time
import tracemalloc

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lohi_edge import nifti
from lohi_edge.errors import BadInput
from lohi_edge.files import sha256
from lohi_edge.finished import read_receipt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "honest.nii"
    image = nib.Nifti1Image(
        np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4), np.diag([2, 2, 2, 1])
    )
    image.set_qform(np.diag([2, 2, 2, 1]), 1)
    nib.save(image, path)
    return path.read_bytes()


mutations = st.lists(
    st.tuples(st.integers(0, 351), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6
)


@given(changes=mutations, zipped=st.booleans(), cut=st.integers(0, 700))
@settings(max_examples=3000, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_header_is_read_soundly_or_refused(honest, tmp_path, changes, zipped, cut):
    raw = bytearray(honest)
    for at, new in changes:
        raw[at : at + len(new)] = new
    content = bytes(raw[: max(0, len(raw) - max(0, cut - 600))])
    path = tmp_path / "scan.nii"
    path.write_bytes(gzip.compress(content, 1) if zipped else content)
    tracemalloc.start()
    try:
        volume = nifti.read(path)
    except BadInput:
        pass
    else:
        assert np.isfinite(volume.data).all()
        assert np.isfinite(volume.affine).all()
        assert volume.data.size == 120
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 64 << 20


def test_killed_at_any_moment_a_repeat_ends_with_one_whole_result(
    write_scan, identity_bundle, tmp_path
):
    """SIGKILL after a random delay, 30 times, then once to the end."""
    scan, out = write_scan("scan.nii.gz"), tmp_path / "out"
    command = [sys.executable, "-m", "lohi_edge", "enhance", str(scan), "-o", str(out)]
    command += ["--bundle", str(identity_bundle)]
    chance = random.Random(0)
    begin = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    length = time.monotonic() - begin
    for path in out.iterdir():
        path.unlink()
    image = out / "scan_desc-synthetic.nii.gz"
    killed = 0
    for _ in range(30):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.3, 1.1) * length)
        running.send_signal(signal.SIGKILL)
        killed += running.wait() == -signal.SIGKILL
        receipt = image.with_name("scan_desc-synthetic.json")
        if receipt.exists():
            record = read_receipt(receipt)
            assert record is not None, "a receipt is whole or not there"
            assert record["result"]["sha256"] == sha256(image.read_bytes())
            receipt.unlink()
    assert killed > 5
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    visible = sorted(p.name for p in out.iterdir() if not p.name.startswith("."))
    assert visible == ["scan_desc-synthetic.json", "scan_desc-synthetic.nii.gz"]
