"""Audit log, outbox, retention, rebuilding, status and health, each by itself."""

from __future__ import annotations

import datetime
import json
import urllib.error
import urllib.request

import pytest

from lohi_edge.errors import UsageError
from lohi_edge.settings import Settings, load
from lohi_edge.watch import disk, recovery, status
from lohi_edge.watch.health import Health, metrics
from lohi_edge.watch.ledger import Ledger
from lohi_edge.watch.listing import Found
from lohi_edge.watch.names import clean_name
from watch_parts import deliver


class TestOutbox:
    def test_results_never_take_each_others_place(self, parts):
        first = deliver(parts, "w/a.nii.gz", "1" * 64)
        second = deliver(parts, "w/a.nii", "2" * 64)
        third = deliver(parts, "w/a.nii.gz", "3" * 64)
        assert len({first, second, third}) == 3
        assert first.name == "a"
        for folder, digit in ((first, "1"), (second, "2"), (third, "3")):
            found = parts.outbox.find_own(int(digit), "w/a.nii", digit * 64)
            assert parts.outbox.root / found.folder == folder
            assert parts.outbox.find_own(4, "w/a.nii", digit * 64) is None  # of another scan

    @pytest.mark.parametrize(
        "name", ["held.nii", "failed.nii.gz", "quarantined.nii", "originals.nii"]
    )
    def test_the_daemons_own_folders_are_left_to_it(self, parts, name):
        assert deliver(parts, name, "1" * 64).name.endswith("-11111111")

    def test_long_and_odd_names_become_usable_ones(self):
        names = ["x" * 251 + ".nii", "x" * 250 + "y.nii", "\udcff.nii", "a\nb.nii.gz", "é" * 120]
        clean = [clean_name(name) for name in names]
        assert len(set(clean)) == len(names)
        for one in clean:
            assert len(one.encode()) <= 200
            assert one.isprintable()
        assert clean_name("sub-01_T1w.nii.gz") == "sub-01_T1w.nii.gz"
        assert clean_name("é" * 120 + "_T2w.nii").endswith("_T2w.nii")


class TestRetention:
    def test_the_oldest_images_go_and_every_receipt_stays(self, parts):
        folders = [deliver(parts, f"{n}.nii", str(n) * 64, size=400) for n in range(5)]
        parts.settings = load(environ={}, overrides={"disk": {"keep_gb": 1000e-9}})
        assert disk.retain(parts) == 3
        left = [(f / "image.nii.gz").exists() for f in folders]
        assert left == [False, False, False, True, True]
        assert all((f / "image.json").exists() for f in folders)
        assert disk.retain(parts) == 0
        assert parts.ledger.counts()["done"] == 5

    def test_results_in_a_folder_of_the_same_name_stay(self, parts):
        """`ward.nii` and `ward/a.nii` lie in one another."""
        outer = deliver(parts, "ward.nii", "1" * 64, size=400)
        inner = deliver(parts, "ward/a.nii", "2" * 64, size=400)
        assert inner.parent == outer
        parts.settings = load(environ={}, overrides={"disk": {"keep_gb": 500e-9}})
        assert disk.retain(parts) == 1
        assert not (outer / "image.nii.gz").exists()
        assert len(list(inner.iterdir())) == 2

    def test_age_counts_running_time_and_not_the_wall_clock(self, parts, monkeypatch):
        folder = deliver(parts, "a.nii", "1" * 64)
        parts.settings = load(environ={}, overrides={"disk": {"keep_days": 30}})
        monkeypatch.setattr("time.time", lambda: 4e9)  # the clock jumps a century
        assert disk.retain(parts) == 0
        now = parts.ledger.clock.now()
        monkeypatch.setattr(parts.ledger.clock, "now", lambda: now + 31 * 86400)
        assert disk.retain(parts) == 1
        assert not (folder / "image.nii.gz").exists()

    def test_nothing_undelivered_is_ever_touched(self, parts):
        scan = parts.root / "a.nii"
        scan.write_bytes(bytes(5000))
        parts.ledger.receive([Found("a.nii", "m", 3)])
        parts.settings = load(environ={}, overrides={"disk": {"keep_gb": 1e-9, "keep_days": 1e-9}})
        assert disk.retain(parts) == 0
        assert scan.exists()

    def test_the_reserve_counts_three_times_the_output(self, tmp_path, monkeypatch):
        monkeypatch.setattr(disk, "free_bytes", lambda _: 5_000_000_000)
        settings = Settings().disk
        assert disk.has_room(tmp_path, settings, 1_000_000_000)
        assert not disk.has_room(tmp_path, settings, 1_000_000_001)


def test_a_ledger_is_rebuilt_from_tombstones_alone(parts, tmp_path):
    """Receipts whose images retention has removed still say that their scans are done."""
    folders = [deliver(parts, f"w/{n}.nii", str(n) * 64) for n in range(3)]
    for folder in folders:
        (folder / "image.nii.gz").unlink()
    (tmp_path / "new").mkdir()
    (parts.outbox.root / "foreign.json").write_text('{"LohiEdge": {"watch": 3}}')
    old, parts.ledger = parts.ledger, Ledger(tmp_path / "new")
    try:
        assert recovery.rebuild(parts) == 3
        for number in range(3):
            (scan,) = parts.ledger.with_identity(str(number) * 64)
            assert scan.path == f"w/{number}.nii"
            assert parts.ledger.mark(scan.path) == f"m:w/{number}.nii"
    finally:
        parts.ledger.close()
        parts.ledger = old


def test_a_rebuilt_ledger_keeps_order_and_time_of_the_scans(parts, tmp_path):
    """Of two scans of one name people read the later: the page must not show them the other way."""
    times = ("2026-03-02T10:00:00+00:00", "2026-03-01T09:00:00+00:00", "x")
    for number, at in enumerate(times):
        folder = deliver(parts, "w/a.nii", str(number) * 64)
        whole = json.loads((folder / "image.json").read_text())
        whole["LohiEdge"]["watch"]["received"] = at
        (folder / "image.json").write_text(json.dumps(whole))
    (tmp_path / "new").mkdir()
    old, parts.ledger = parts.ledger, Ledger(tmp_path / "new")
    try:
        assert recovery.rebuild(parts) == 3
        last = parts.ledger.select("state = 'done'", order="finished_at DESC, id DESC")
        found = [(scan.identity[0], scan.finished_wall) for scan in last]
        assert found[:2] == [("0", times[0]), ("1", times[1])]
        assert found[2][0] == "2"
        datetime.datetime.fromisoformat(found[2][1])
    finally:
        parts.ledger.close()
        parts.ledger = old


class TestStatus:
    def test_no_state_folder_is_a_users_error(self, tmp_path):
        with pytest.raises(UsageError, match="--state"):
            status.require(tmp_path / "none")


SAID = {
    "phase": "ready",
    "paused": None,
    "queue": {"received": 2, "done": 5},
    "waiting_count": 1,
    "totals": {"delivered": 5, "seconds": 7.5, "lost": 1},
    "outbox_free": 10,
    "heat": {"cpu": 51.5},
}


class TestHealth:
    @pytest.fixture
    def served(self):
        health = Health(0)
        yield health
        health.stop()

    def get(self, health, path, host=None):
        request = urllib.request.Request(f"http://127.0.0.1:{health.port}{path}")
        if host:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def test_healthy_only_when_ready_and_working(self, served):
        assert self.get(served, "/healthz")[0] == 503
        served.tell(SAID)
        code, text = self.get(served, "/healthz")
        assert (code, json.loads(text)["healthy"]) == (200, True)
        served.tell({**SAID, "paused": "not enough free disk space"})
        assert self.get(served, "/healthz")[0] == 503

    def test_a_loop_that_stands_still_is_not_healthy(self, served, monkeypatch):
        served.tell(SAID)
        monkeypatch.setattr("lohi_edge.watch.health.STUCK_S", -1)
        assert self.get(served, "/healthz")[0] == 503

    def test_names_of_other_hosts_are_refused(self, served):
        served.tell(SAID)
        for host in ("evil.example", "evil.example:80", "localhost.evil.example:80"):
            assert self.get(served, "/healthz", host)[0] == 403
        assert self.get(served, "/nothing")[0] == 404

    def test_metrics_are_in_prometheus_text_format(self):
        text = metrics(SAID)
        samples = dict(
            line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")
        )
        assert samples['lohi_edge_scans{state="done"}'] == "5"
        assert samples["lohi_edge_seconds_total"] == "7.5"
        assert samples['lohi_edge_temperature_celsius{zone="cpu"}'] == "51.5"
        assert samples["lohi_edge_ready"] == "1"
        named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        assert {name.partition("{")[0] for name in samples} <= named

    def test_it_listens_on_loopback_only_and_a_taken_port_is_told(self, served):
        assert served._server._server.server_address[0] == "127.0.0.1"
        with pytest.raises(UsageError, match=r"http\.port"):
            Health(served.port)


def test_the_seconds_of_the_last_scans_come_from_their_receipts(parts):
    """A restarted daemon knows whether it keeps the latency contract."""
    folders = [deliver(parts, f"{n}_T1w.nii", str(n) * 64, seconds=float(n)) for n in range(5)]
    (folders[3] / "image.json").write_text("{")  # half a receipt says nothing
    assert recovery.seconds_of_last(parts, 3) == [2.0, 4.0]
    assert recovery.seconds_of_last(parts, 100) == [0.0, 1.0, 2.0, 4.0]
