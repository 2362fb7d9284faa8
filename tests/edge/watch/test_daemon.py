"""The daemon's life as a user or systemd rules it: start, settings, signals, refusals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import pytest

from orthanc import free_port
from watch_parts import without_root


@pytest.mark.slow
def test_outbox_that_becomes_writable_later(box):
    box.scan("a_T1w.nii.gz")
    box.outbox.chmod(0o500)
    box.start(prefix=without_root())
    box.wait(lambda: "cannot be written" in str(box.status().get("paused")), "paused")
    assert box.counts() in ({}, {"received": 1})
    box.outbox.chmod(0o700)
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


@pytest.mark.slow
def test_one_daemon_per_folder(box):
    box.start()
    box.wait_ready()
    for state, outbox in ((box.state, box.outbox), (box.state.with_name("s2"), box.outbox)):
        second = subprocess.run(
            [*box.command()[:4], str(box.inbox), str(outbox), "--state", str(state)],
            env=box.environment(), capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert second.returncode == 2, second.stderr
        assert "another lohi-edge watch" in second.stderr
    box.kill()
    box.start()  # the kernel let go of the locks
    box.wait_ready()
    assert box.stop() == 0


@pytest.mark.slow
def test_stopped_and_continued_counts_against_nobody(box):
    box.settings["worker"]["timeout_s"] = 2
    box.start(fault="worker_compute=hang@zzz")
    box.wait_ready()
    box.process.send_signal(signal.SIGSTOP)
    box.scan("a_T1w.nii.gz")
    time.sleep(2.5)  # longer than the worker's timeout
    box.process.send_signal(signal.SIGCONT)
    box.wait_states(done=1)
    assert box.stop() == 0
    assert [row["strikes"] for row in box.rows()] == [0]


@pytest.mark.slow
def test_sigterm_rolls_back_within_ten_seconds_and_the_next_start_goes_on(box):
    box.scan("a_T1w.nii.gz")
    box.start(fault="worker_compute=hang")
    box.wait(lambda: [j["phase"] for j in box.status().get("jobs", [])] == ["computing"])
    begin = time.monotonic()
    assert box.stop() == 0
    assert time.monotonic() - begin < 10
    assert box.counts() == {"received": 1}
    assert box.leftovers() == []
    box.start()
    box.wait_states(done=1)
    assert box.stop() == 0
    box.assert_exactly_once(1)


def test_sighup_takes_good_settings_and_keeps_the_old_for_bad(box, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[watch]\noriginals = 'keep'\n")
    box.start(env={"LOHI_EDGE_CONFIG": str(config)})
    box.wait_ready()
    config.write_text("[watch]\noriginals = 'burn'\n")
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.refused" in box.read_log())
    config.write_text("[watch]\noriginals = 'move'\n[enhance]\ngrid = 'native'\n")
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.reloaded" in box.read_log())
    box.scan("a_T1w.nii.gz")
    box.wait_states(done=1)
    box.wait(lambda: [row["original"] for row in box.rows()] == ["moved"])
    assert box.stop() == 0
    (receipt,) = box.receipts().values()
    assert receipt["result"]["grid"] == "native"
    assert receipt["source"]["path"] == "../originals/a_T1w.nii.gz"
    assert (box.outbox / "originals/a_T1w.nii.gz").is_file()


@pytest.mark.slow
def test_a_worker_that_never_gets_ready_says_why(box):
    box.settings["worker"] = {"start_timeout_s": 0.01}
    box.start()
    box.wait(lambda: 'why="no model after worker.start_timeout_s"' in box.read_log(), "why")
    box.kill()


@pytest.mark.slow
def test_sighup_opens_and_closes_ports_and_renews_events_and_budget(box, tmp_path):
    def answers(port, path):
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer,
        ):
            return answer.status == 200
        return False

    def reload(text):
        config.write_text(text)
        before = box.read_log().count("settings.re")
        box.process.send_signal(signal.SIGHUP)
        box.wait(lambda: box.read_log().count("settings.re") > before)

    config, health, page = tmp_path / "config.toml", free_port(), free_port()
    config.touch()
    box.start(env={"LOHI_EDGE_CONFIG": str(config)})
    box.wait_ready()
    box.wait(lambda: box.status()["events"], "events")
    assert not answers(health, "healthz")
    reload(f"[http]\nport = {health}\npage = '{page}'\n")
    assert answers(health, "metrics")
    box.wait(lambda: answers(health, "healthz"), "health")
    assert answers(page, "scans.json")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        reload(f"[http]\nport = {taken.getsockname()[1]}\n")
        assert "settings.refused" in box.read_log()
        reload(f"[http]\nport = {free_port()}\npage = '{taken.getsockname()[1]}'\n")
    assert answers(health, "healthz")
    assert answers(page, "scans.json")
    reload("[watch]\nevents = false\n[latency]\ndevice = 'thor'\nthor_p95_s = 0.5\n")
    assert not answers(health, "healthz")
    assert not answers(page, "scans.json")
    box.wait(lambda: not box.status()["events"], "no events")
    assert box.status()["latency"]["class"] == "thor"
    assert box.status()["latency"]["budget_p95_s"] == 0.5
    assert box.stop() == 0


def test_limits_of_the_settings_judge_and_other_ones_judge_anew(box, tmp_path):
    limits = tmp_path / "limits.json"
    limits.write_text(json.dumps({"base": "none"}))
    box.start(env={"LOHI_EDGE_ENHANCE_LIMITS": str(limits)})
    scan = box.scan("a_T1w.nii.gz")
    box.wait_states(done=1)
    limits.write_text("{")
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.refused" in box.read_log())
    strict = {"base": "none", "scan": {"T1w": {"slices": {"hold": [1000, None]}}}}
    limits.write_text(json.dumps(strict))
    box.process.send_signal(signal.SIGHUP)
    box.wait(lambda: "settings.reloaded" in box.read_log())
    os.utime(scan, (1, 1))  # the same bytes, sent again
    box.wait_states(done=1, held=1)
    assert box.stop() == 0


def test_systemd_hears_of_ready_watchdog_and_stopping(box):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        address = box.inbox.parent / "notify"
        listener.bind(str(address))
        listener.settimeout(60)
        box.start(env={"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "600000"})
        heard: list[str] = []
        while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
            heard.append(listener.recv(4096).decode())
        assert any(h.startswith("EXTEND_TIMEOUT_USEC=") for h in heard[: heard.index("READY=1")])
        assert box.stop() == 0
        listener.settimeout(5)
        while heard[-1] != "STOPPING=1":
            heard.append(listener.recv(4096).decode())


def test_refused_model_ends_with_5(box, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(box.bundle, broken)
    (broken / "fp32.onnx").write_bytes(b"no model")
    box.bundle = broken
    box.start()
    assert box.process.wait(60) == 5
    box.process = None
    assert "sha256" in box.read_log()
