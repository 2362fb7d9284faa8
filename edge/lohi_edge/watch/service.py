"""The daemon's life: locks, recovery, the loop, signals, and telling others how it is."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lohi_edge.device import machine
from lohi_edge.device.installed import Library
from lohi_edge.errors import DiskError, UsageError
from lohi_edge.settings import Settings
from lohi_edge.watch import control, disk, localfs, repeats, state, status
from lohi_edge.watch.audit import Audit
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.dispatch import TICK_S, Dispatcher
from lohi_edge.watch.health import Health
from lohi_edge.watch.hook import Hooks
from lohi_edge.watch.inbox import SETTLE_S, Inbox, Look
from lohi_edge.watch.ledger import Scan
from lohi_edge.watch.log import Log
from lohi_edge.watch.notify import notify, watchdog_s
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.wake import Waker

STOP_S = 8.0  # for the scan that is computing at SIGTERM; the promise is 10
HOUSEKEEPING_S = 600.0
HEARTBEAT_S = 30.0
TROUBLE_S = 5.0
EVENTS_RETRY_S = 30.0
_LOOK_SHARE = 20  # looking takes at most one part in so many of the time


class Daemon:
    """`lohi-edge watch`. Everything it must not forget lies in ledger, audit log and outbox."""

    def __init__(
        self, settings: Settings, reload: Callable[[], Settings], log: Log | None = None
    ) -> None:
        """Take the locks and recover.

        Args:
            settings: with inbox, outbox and state set.
            reload: reads the settings again, for SIGHUP.

        Raises:
            UsageError: the folders are not fit, or another daemon has them.
            DiskError: they cannot be used.
        """
        self.settings = settings
        self._reload = reload
        self.log = log or Log(settings.log.format)
        root, out, home = folders(settings)
        state.prepare(home)
        localfs.require_local(home)
        self._locks = [
            localfs.lock(home, "state folder", required=True),
            localfs.lock(out, "outbox"),
            localfs.lock(root, "inbox"),
        ]
        self.state = home
        self.ledger = state.open_ledger(home, self.log)
        state.same_folders(self.ledger, root, out)
        self.audit = Audit(home)
        self.inbox = Inbox(
            root, self.ledger.mark, not localfs.is_network(localfs.kind(root)),
            settings.watch.incomplete_s, settings.watch.series_quiet_s,
        )  # fmt: skip
        self.outbox = Outbox(out)
        self.parts = Closing(
            root, self.inbox, self.outbox, self.ledger, self.audit, self.log, settings
        )
        self.hooks = Hooks(self.log)
        self._publisher = status.Publisher(home)
        self._health = Health(settings.http.port) if settings.http.port else None
        self.dispatcher = Dispatcher(self.parts, home, self._delivered)
        self._bundles = Library()
        self._bundles_stamp = self._bundles.stamp()
        self.look = Look()
        self.inbox_trouble: str | None = None
        self.phase = "starting"
        self._signals: set[int] = set()
        self._pipe = (-1, -1)
        self._waker: Waker | None = None
        self._next_look = self._waker_at = self._beat = self._kept = 0.0
        self._stop_at: float | None = None
        self._recovered = False
        self._not_before = 0.0
        self._woken = False

    # Life.

    def run(self) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            BundleError: the model is refused.
        """
        receiver, sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = {n: signal.signal(n, self._signalled) for n in _SIGNALS}
        waking = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
        self._pipe = (receiver, sender)
        try:
            self.log("service.started", pid=os.getpid(), **self.ledger.counts())
            self.audit.append("service.started")
            while not self._finished():
                self._wait()
                self._guarded_step()
        finally:
            self._close()
            signal.set_wakeup_fd(waking)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(receiver)
            os.close(sender)

    def _guarded_step(self) -> None:
        """A disk that cannot be written stops the work, not the daemon: it starts over."""
        try:
            self._step()
        except (DiskError, sqlite3.OperationalError) as error:
            self.log("state.trouble", why=type(error).__name__)
            self.dispatcher.abandon()
            self.dispatcher.hold("the state folder cannot be written: check its disk")
            self._recovered = False
            self._not_before = time.monotonic() + TROUBLE_S

    def _step(self) -> None:
        self._handle_signals()
        self._recover()
        self.dispatcher.tick()
        self.dispatcher.listen()
        now = time.monotonic()
        if self._recovered and self._stop_at is None:
            if now >= self._next_look:
                self._look(now)
            self.dispatcher.feed()
        self.hooks.tick()
        self._tell(now)

    def _recover(self) -> None:
        """What a power cut left undone is done now; waits for the outbox where it must."""
        if self._recovered or time.monotonic() < self._not_before:
            return
        try:
            self.outbox.clear()
        except DiskError as error:
            self.dispatcher.hold(str(error))
            self._not_before = time.monotonic() + TROUBLE_S
            return
        if self.ledger.is_new and (count := repeats.rebuild(self.parts)):
            self.log("ledger.rebuilt", results=count)
            self.audit.append("ledger.rebuilt", results=count)
        for scan in self.ledger.select("state = 'running'"):
            placed = scan.identity and self.outbox.find_near(scan.path, scan.identity)
            if placed:
                self.parts.adopt(scan, placed)
            else:
                self.ledger.put_back(scan.id)
                self.log("scan.interrupted", scan=scan.id, attempts=scan.attempts)
        for scan in self.ledger.select("original = 'pending'"):
            self.parts.settle_original(scan)
        self._recovered = True

    def _look(self, now: float) -> None:
        begin = time.monotonic()
        try:
            self.look = self.inbox.look(now)
            trouble = "; ".join(self.look.troubles) or None
        except OSError as error:
            self.look, trouble = Look(), f"cannot be listed: {(error.strerror or '').lower()}"
        if trouble != self.inbox_trouble:
            # Names of folders may name patients: the status tells them, the log does not.
            self.log("inbox.trouble" if trouble else "inbox.fine", folders=len(self.look.troubles))
            self.inbox_trouble = trouble
        self._follow_bundles()
        self.dispatcher.intake(self.look)
        control.obey(self.state, self.parts)
        cost = time.monotonic() - begin
        soon = self._woken and self.look.settling
        pause = (
            max(SETTLE_S, cost) if soon else max(self.settings.watch.interval_s, _LOOK_SHARE * cost)
        )
        self._next_look = time.monotonic() + pause
        self._woken = False
        self._keep_events(now)

    def _follow_bundles(self) -> None:
        """Another bundle was activated: the worker is started anew, after the scan it computes."""
        stamp = self._bundles.stamp()
        if stamp != self._bundles_stamp:
            self._bundles_stamp = stamp
            if not self.settings.enhance.bundle:
                self.log("bundle.switched")
                self.dispatcher.renew_worker()

    @property
    def events(self) -> bool:
        """Whether file events wake the daemon; without them it looks once per interval."""
        return bool(self._waker and self._waker.alive)

    @property
    def http_port(self) -> int:
        """Of health and metrics; 0 where no socket is open."""
        return self._health.port if self._health else 0

    def _keep_events(self, now: float) -> None:
        if not self.settings.watch.events or self.events:
            return
        if now < self._waker_at or self.inbox_trouble:
            return
        if self._waker and self._waker.trouble:
            self.log("events.lost", why=self._waker.trouble)
        self._waker_at = now + EVENTS_RETRY_S
        self._waker = Waker(self.parts.root, self._pipe[1])

    def _wait(self) -> None:
        until = [self._beat + HEARTBEAT_S]
        if self._stop_at is None:
            until.append(self._next_look if self._recovered else self._not_before)
        if self.dispatcher.busy or self.hooks.busy or self._stop_at is not None:
            until.append(time.monotonic() + TICK_S)
        if dog := watchdog_s():
            until.append(time.monotonic() + dog / 3)
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe[0], selectors.EVENT_READ)
            if worker := self.dispatcher.worker:
                selector.register(worker, selectors.EVENT_READ)
            selector.select(max(0.0, min(until) - time.monotonic()))
        try:
            woken = os.read(self._pipe[0], 4096)
        except BlockingIOError:
            return
        if b"e" in woken:
            self._woken = True
            self._next_look = min(self._next_look, time.monotonic())

    # Signals.

    def _signalled(self, number: int, _: Any) -> None:
        self._signals.add(number)

    def _handle_signals(self) -> None:
        signals, self._signals = self._signals, set()
        if signals & {signal.SIGTERM, signal.SIGINT} and self._stop_at is None:
            notify("STOPPING=1")
            self.log("service.stopping")
            self._stop_at = time.monotonic() + STOP_S
            self.phase = "stopping"
            self.dispatcher.release()
        if signal.SIGHUP in signals:
            self._reload_settings()

    def _reload_settings(self) -> None:
        try:
            new = self._reload()
            if folders(new) != folders(self.settings):
                raise UsageError("inbox, outbox and state only change with a restart")
        except (UsageError, DiskError) as error:
            self.log("settings.refused", why=str(error))
            return
        restart = new.enhance != self.settings.enhance
        self.settings = self.parts.settings = new
        self.log.format = new.log.format
        self.inbox.incomplete_s = new.watch.incomplete_s
        self.inbox.series_quiet_s = new.watch.series_quiet_s
        if restart:
            self.dispatcher.renew_worker()
        self.audit.append("settings.reloaded")
        self.log("settings.reloaded", worker_restarts=restart)

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        return not self.dispatcher.computing or time.monotonic() > self._stop_at

    def _close(self) -> None:
        if self._waker:
            self._waker.stop()
        if self._health:
            self._health.stop()
        self.dispatcher.stop_worker()
        self.hooks.stop()
        self.outbox.close()
        with contextlib.suppress(DiskError):  # a full disk; the ledger is what counts
            self.audit.append("service.stopped")
        self.phase = "stopped"
        self._publisher.publish(status.snapshot(self), beat=True)
        self.audit.close()
        self.ledger.close()
        self.log("service.stopped")
        for fd in self._locks:
            if fd is not None:
                os.close(fd)

    # Telling.

    def _tell(self, now: float) -> None:
        worker = self.dispatcher.worker
        ready = bool(worker and worker.ready)
        if self.phase == "starting" and ready and self._recovered:
            self.phase = "ready"
            notify("READY=1")
        elif self.phase == "starting":
            # Building an engine takes minutes; every step of this loop asks for some more time.
            notify("EXTEND_TIMEOUT_USEC=30000000")
        notify("WATCHDOG=1")
        if now - self._kept > HOUSEKEEPING_S and self._recovered:
            self._kept = now
            disk.retain(self.parts)
            with self.ledger.transaction():
                pass  # saves the service clock
        said = status.snapshot(self)
        due = now - self._beat > HEARTBEAT_S
        if self._publisher.publish(said, beat=due):
            self._beat = now
            if self._health:
                free = disk.free_bytes(self.outbox.root)
                heat = machine.heat()["temperature_c"]
                self._health.tell({**said, "outbox_free": free, "heat": heat})

    def _delivered(self, scan: Scan, folder: str) -> None:
        watch = self.settings.watch
        if watch.hook and scan.identity and (placed := self.outbox.find(folder, scan.identity)):
            self.hooks.add(scan.id, watch.hook, placed.receipt, watch.hook_timeout_s)


_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def folders(settings: Settings) -> tuple[Path, Path, Path]:
    """(inbox, outbox, state) of the settings.

    Raises:
        UsageError: one is missing, or one lies within another.
    """
    watch = settings.watch
    for name in ("inbox", "outbox", "state"):
        if not getattr(watch, name):
            raise UsageError(f"expected a folder for watch.{name}, got none; name it")
    assert watch.inbox
    assert watch.outbox
    assert watch.state
    found = Path(watch.inbox), Path(watch.outbox), Path(watch.state)
    for path, name in zip(found[:2], ("inbox", "outbox"), strict=True):
        if not path.is_dir():
            raise UsageError(f"{path}: expected a folder for the {name}, found none; create it")
    real = [path.resolve() for path in found]
    for inner in real:
        for outer in real[:2]:
            if inner is not outer and (inner == outer or outer in inner.parents):
                raise UsageError(
                    f"{inner}: lies within {outer}; inbox, outbox and state must be apart"
                )
    return found
