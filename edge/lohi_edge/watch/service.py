"""The daemon's life: locks, recovery, the loop, signals, and telling others how it is."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable

from lohi_edge.device.latency import WINDOW
from lohi_edge.device.library import Library
from lohi_edge.errors import DiskError, UsageError
from lohi_edge.settings import Settings
from lohi_edge.watch import control, disk, localfs, network, recovery, state, status
from lohi_edge.watch.audit import Audit
from lohi_edge.watch.bell import Bell
from lohi_edge.watch.closing import Closing
from lohi_edge.watch.crew import TICK_S
from lohi_edge.watch.dispatch import Dispatcher
from lohi_edge.watch.folders import claim, folders, warn_of_bare
from lohi_edge.watch.herald import HEARTBEAT_S, Herald
from lohi_edge.watch.hook import Hooks
from lohi_edge.watch.inbox import Inbox
from lohi_edge.watch.log import Log
from lohi_edge.watch.lookout import Lookout
from lohi_edge.watch.network import Network
from lohi_edge.watch.notify import notify, watchdog_s
from lohi_edge.watch.outbox import Outbox
from lohi_edge.watch.outgoing import Outgoing
from lohi_edge.watch.schema import Scan

STOP_S = 8.0  # for the scan that is computing at SIGTERM; the promise is 10
HOUSEKEEPING_S = 600.0
TROUBLE_S = 5.0


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
        network.check(settings)
        self._locks = claim(root, out, home)
        warn_of_bare(root, out, self.log)
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
            root, self.inbox, self.outbox, self.ledger, self.audit, self.log, settings,
            Outgoing(home, settings),
        )  # fmt: skip
        self.network = Network(root, home, settings, self.log)
        self.hooks = Hooks(self.log)
        self.herald = Herald(home, self.outbox, settings.http)
        self.dispatcher = Dispatcher(self.parts, home, self._delivered)
        self._bundles = Library()
        self._bundles_stamp = self._bundles.stamp()
        self.lookout = Lookout(root, self.inbox, self.log)
        self.phase = "starting"
        self._bell = Bell()
        self._kept = 0.0
        self._stop_at: float | None = None
        self._recovered = False
        self._not_before = 0.0

    # Life.

    def run(self) -> None:
        """Work until SIGTERM or SIGINT.

        Raises:
            BundleError: the model is refused.
        """
        with self._bell:
            try:
                self.log("service.started", pid=os.getpid(), **self.ledger.counts())
                self.audit.append("service.started")
                while not self._finished():
                    self._wait()
                    self._guarded_step()
            finally:
                self._close()

    def _guarded_step(self) -> None:
        """A disk that cannot be written stops the work, not the daemon: it starts over."""
        try:
            self._step()
        except (DiskError, sqlite3.OperationalError) as error:
            self.log("state.trouble", why=type(error).__name__)
            self.dispatcher.hands.abandon()
            self.dispatcher.gate.close_after_trouble()
            self._recovered = False
            self._not_before = time.monotonic() + TROUBLE_S

    def _step(self) -> None:
        self.parts.leaving.begin()
        self._handle_signals()
        self._recover()
        self.dispatcher.tick()
        self.dispatcher.listen()
        now = time.monotonic()
        if self._recovered and self._stop_at is None:
            if now >= self.lookout.next:
                self._look(now)
            self.dispatcher.feed()
        self.hooks.tick()
        self.network.tick()
        self._tell(now)

    def _recover(self) -> None:
        """What a power cut left undone is done now; waits for the outbox where it must."""
        if self._recovered or time.monotonic() < self._not_before:
            return
        try:
            self.outbox.clear()
        except DiskError as error:
            self.dispatcher.gate.close(str(error))
            self._not_before = time.monotonic() + TROUBLE_S
            return
        control.clear(self.state)
        recovery.recover(self.parts)
        self.dispatcher.contract.restore(recovery.seconds_of_last(self.parts, WINDOW))
        self._recovered = True

    def _look(self, now: float) -> None:
        begin = time.monotonic()
        look = self.lookout.see(now)
        self._follow_bundles()
        self.dispatcher.intake(look)
        self.parts.settle_seen(look)
        control.obey(self.state, self.parts)
        self.lookout.plan(begin, self.settings.watch, self._bell.rope)

    def _follow_bundles(self) -> None:
        """Another bundle was activated: the worker is started anew, after the scan it computes."""
        stamp = self._bundles.stamp()
        if stamp != self._bundles_stamp:
            self._bundles_stamp = stamp
            if not self.settings.enhance.bundle:
                self.log("bundle.switched")
                self.dispatcher.renew_worker()

    def _wait(self) -> None:
        until = [self.herald.beat + HEARTBEAT_S]
        if self._stop_at is None:
            until.append(self.lookout.next if self._recovered else self._not_before)
        if self.dispatcher.busy or self.hooks.busy or self._stop_at is not None:
            until.append(time.monotonic() + TICK_S)
        if dog := watchdog_s():
            until.append(time.monotonic() + dog / 3)
        children = (self.dispatcher.crew.process, self.network.process)
        if self._bell.wait(min(until), [child for child in children if child]):
            self.lookout.wake()

    # Signals.

    def _handle_signals(self) -> None:
        signals = self._bell.caught()
        if signals & {signal.SIGTERM, signal.SIGINT} and self._stop_at is None:
            notify("STOPPING=1")
            self.log("service.stopping")
            self._stop_at = time.monotonic() + STOP_S
            self.phase = "stopping"
            self.dispatcher.hands.release()
        if signal.SIGHUP in signals:
            self._reload_settings()

    def _reload_settings(self) -> None:
        try:
            new = self._reload()
            if folders(new) != folders(self.settings):
                raise UsageError("inbox, outbox and state only change with a restart")
            network.check(new)
            self.herald.renew(new.http)
        except (UsageError, DiskError) as error:
            self.log("settings.refused", why=str(error))
            return
        restart = new.enhance != self.settings.enhance
        self.settings = self.parts.settings = self.parts.outgoing.settings = new
        self.network.renew(new)
        self.dispatcher.contract.renew(new.latency)
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
        return not self.dispatcher.hands.finishing or time.monotonic() > self._stop_at

    def _close(self) -> None:
        self.lookout.stop()
        self.herald.stop()
        self.dispatcher.hands.stop()
        self.hooks.stop()
        self.network.stop()
        self.outbox.close()
        with contextlib.suppress(DiskError):  # a full disk; the ledger is what counts
            self.audit.append("service.stopped")
        self.phase = "stopped"
        self.herald.tell(time.monotonic(), status.snapshot(self))
        self.audit.close()
        self.ledger.close()
        self.log("service.stopped")
        for fd in self._locks:
            os.close(fd)

    # Telling.

    def _tell(self, now: float) -> None:
        if self.phase == "starting" and self.dispatcher.crew.ready and self._recovered:
            self.phase = "ready"
            notify("READY=1")
        self.herald.alive(self.phase == "starting")
        if now - self._kept > HOUSEKEEPING_S and self._recovered:
            self._kept = now
            disk.retain(self.parts)
            self.parts.settle_pending()
            with self.ledger.transaction():
                pass  # saves the service clock
        self.herald.tell(now, status.snapshot(self))

    def _delivered(self, scan: Scan, folder: str) -> None:
        watch = self.settings.watch
        if watch.hook and scan.identity and (placed := self.outbox.find(folder, scan.identity)):
            self.hooks.add(scan.id, watch.hook, placed.receipt, watch.hook_timeout_s)
