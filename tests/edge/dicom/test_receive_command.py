"""`lohi-edge receive` as the unit starts it: into the inbox of the settings, and no other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_series import SMALL, save, slices
from lohi_edge.dicom.send import Node, send
from orthanc import free_port

DEADLINE_S = 120


def write_config(path: Path, inbox: Path) -> Path:
    path.write_text(f'[watch]\ninbox = "{inbox}"\n')
    return path


def launch(*words: object) -> subprocess.Popen[str]:
    """In a process of its own: it blocks signals."""
    paths = [p for p in sys.path if p.endswith(("/edge", "/calibration", "/export"))]
    return subprocess.Popen(
        [sys.executable, "-m", "lohi_edge", "receive", "--caller", "SCANNER", *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def start():
    """Start `lohi-edge receive`: `start(*words)` -> (process, node), once it listens."""
    started = []

    def run(*words: object) -> tuple[subprocess.Popen[str], Node]:
        port = free_port()
        process = launch(*words, "--port", port, "--reserve-mb", 0)
        started.append(process)
        assert "listening as" in process.stdout.readline()
        return process, Node("LOHI_EDGE", "127.0.0.1", port, caller="SCANNER")

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)


@pytest.mark.slow
def test_it_receives_where_the_settings_say_and_ends_when_they_say_another(start, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    config = write_config(tmp_path / "config.toml", one)
    process, node = start("--config", config)
    send([save(tmp_path / "a", slices(SMALL))], node)
    assert len(list(one.rglob("*.dcm"))) == 5
    config.write_text("[watch")  # half written
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(5)
    write_config(config, other)
    assert process.wait(DEADLINE_S) == 2
    assert f"now name {other} as the inbox" in process.stderr.read()


def test_a_folder_that_is_given_goes_before_the_settings(start, tmp_path):
    config = write_config(tmp_path / "config.toml", tmp_path / "no")
    _, node = start(tmp_path / "given", "--config", config)
    send([save(tmp_path / "a", slices(SMALL))], node)
    assert len(list((tmp_path / "given").rglob("*.dcm"))) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "got none; name it"), ('[watch]\ninbox = "/no"\n', "/no: expected a folder")],
)
def test_without_an_inbox_it_does_not_start(tmp_path, text, words):
    config = tmp_path / "config.toml"
    config.write_text(text)
    process = launch("--config", config)
    _, said = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, words in said) == (2, True), said
