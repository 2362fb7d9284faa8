"""A daemon in its own process, on small scans, that tests may really kill."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

import watch_parts
from lohi_edge.cli import app
from lohi_edge.watch import series
from lohi_edge.watch.ledger import FILE

DEADLINE_S = 240  # generous: a hang must fail the test, a slow machine must not


class Box:
    """Inbox, outbox, state, and the daemon between them."""

    def __init__(self, base: Path, bundle: Path) -> None:
        self.inbox, self.outbox, self.state = (base / n for n in ("in", "out", "state"))
        self.bundle = bundle
        self.log = base / "log"
        self.settings = {"watch": {"interval_s": 0.2}, "worker": {"backoff_s": 0.1}}
        self.process: subprocess.Popen | None = None
        for folder in (self.inbox, self.outbox):
            folder.mkdir(parents=True)

    def scan(self, name: str, seed: int = 0) -> Path:
        return watch_parts.save_scan(self.inbox / name, seed)

    def environment(self, **extra: str) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("LOHI_EDGE_")}
        for section, values in self.settings.items():
            for key, value in values.items():
                env[f"LOHI_EDGE_{section}_{key}".upper()] = str(value)
        paths = [p for p in sys.path if p.endswith(("/edge", "/calibration", "/export"))]
        cache = str(self.state.parent / "cache")
        env |= {"LOHI_EDGE_CACHE": cache, "LOHI_EDGE_ENHANCE_THREADS": "1"}
        env["LOHI_EDGE_ENHANCE_RUNTIME"] = "onnxruntime"  # a worker starts in half the time
        if "enhance" not in self.settings:
            # Phantoms are no heads: what the recogniser makes of them is not the daemon's business.
            env["LOHI_EDGE_ENHANCE_CONTRAST"] = "T1w"
        return env | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)} | extra

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "lohi_edge", "watch", str(self.inbox), str(self.outbox),
            "--state", str(self.state), "--bundle", str(self.bundle),
        ]  # fmt: skip

    def start(self, fault: str | None = None, **kwargs) -> subprocess.Popen:
        assert self.process is None
        extra = {"LOHI_EDGE_FAULT": fault} if fault else {}
        extra |= kwargs.pop("env", {})
        command = kwargs.pop("prefix", []) + self.command()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment(**extra), stderr=log, stdout=log, **kwargs
            )
        return self.process

    def wait(self, done, what: str = "the awaited state") -> None:
        """Until `done()`; fails with the log where it never comes, or where the daemon dies."""
        end = time.monotonic() + DEADLINE_S
        while not done():
            alive = self.process is None or self.process.poll() is None
            if not alive and not done():
                pytest.fail(f"daemon ended with {self.process.returncode}; {self.read_log()}")
            if time.monotonic() > end:
                pytest.fail(f"{what} never came: {self.counts()}; {self.read_log()}")
            time.sleep(0.02)

    def wait_states(self, **states: int) -> None:
        self.wait(lambda: all(self.counts().get(k, 0) == n for k, n in states.items()), str(states))

    def wait_killed(self) -> None:
        """Until the daemon has died of SIGKILL by its own hand."""
        code = self.process.wait(DEADLINE_S)
        self.process = None
        assert code == -signal.SIGKILL, self.read_log()

    def wait_ready(self) -> None:
        def ready():
            said = self.status()
            return said.get("phase") == "ready" and said["pid"] == self.process.pid

        self.wait(ready, "ready")

    def cli(self, *words: str) -> Result:
        """Run another command of `lohi-edge` in this process."""
        return CliRunner().invoke(app, [*words, "--state", str(self.state)])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> int:
        """SIGTERM to a daemon that has finished starting; returns the exit code."""
        self.wait_ready()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        self.process = None
        return code

    def rows(self) -> list[dict]:
        try:
            with sqlite3.connect(f"file:{self.state / FILE}?mode=ro", uri=True) as db:
                db.row_factory = sqlite3.Row
                rows = [dict(r) for r in db.execute("SELECT * FROM scans ORDER BY id")]
            db.close()
            return rows
        except sqlite3.DatabaseError:
            return []

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for row in self.rows():
            found[row["state"]] = found.get(row["state"], 0) + 1
        return found

    def status(self) -> dict:
        try:
            return json.loads((self.state / "status.json").read_text())
        except FileNotFoundError:
            return {}

    def read_log(self) -> str:
        stderr = self.state / "worker.stderr"
        return self.log.read_text() + (stderr.read_text() if stderr.exists() else "")

    def receipts(self) -> dict[str, dict]:
        """Every receipt in the outbox by its file's path."""
        found = {}
        for path in sorted(self.outbox.rglob("*.json")):
            sidecar = json.loads(path.read_text())
            if "LohiEdge" in sidecar:
                found[str(path.relative_to(self.outbox))] = sidecar["LohiEdge"]
        return found

    def images(self) -> list[Path]:
        return sorted(self.outbox.rglob("*_desc-synthetic*.nii.gz"))

    def leftovers(self) -> list[Path]:
        """Temporaries; there must be none once a daemon has stopped."""
        every = [*self.outbox.rglob("*"), *self.state.rglob("*")]
        return [p for p in every if p.name.startswith(".") or p.name.endswith(".tmp")]

    def assert_exactly_once(self, inputs: int) -> None:
        """Every input has one result: one image, one receipt that matches it, one row."""
        from lohi_edge.files import sha256

        receipts = self.receipts()
        assert self.counts() == {"done": inputs}, self.read_log()
        assert len(receipts) == inputs, sorted(receipts)
        assert len(self.images()) == inputs
        assert len({r["source"]["sha256"] for r in receipts.values()}) == inputs
        for path, receipt in receipts.items():
            image = (self.outbox / path).parent / receipt["result"]["path"]
            assert sha256(image.read_bytes()) == receipt["result"]["sha256"]
        assert self.leftovers() == []


@pytest.fixture
def box(tmp_path, identity_bundle):
    made = Box(tmp_path, identity_bundle)
    yield made
    if made.process:
        made.kill()


@pytest.fixture
def parts(tmp_path):
    with watch_parts.opened(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def stops_at_once():
    """A server that is told to stop looks for that every 10 ms here, elsewhere twice a second."""
    # A patch of its own: a test's are undone before what it patched is torn down.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.01,))
        yield


@pytest.fixture
def unhurried(monkeypatch):
    """A busy machine does not make a look here end early."""
    monkeypatch.setattr(series, "BUDGET_S", 60.0)
