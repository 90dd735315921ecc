"""Notices to a service manager such as systemd: sd_notify(3), over the datagram socket in ``NOTIFY_SOCKET``.

Without that variable there are none. A notice that cannot be delivered is dropped: it is never worth a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Literal

from hermes_actors.core.events import Event, Tick

About = Literal["waiting", "ready", "draining", "restarting", "stopping", "held", "serving"]

_MICROSECONDS = 1_000_000


class ServiceManager:
    """The service manager that started the gateway and watches it, if there is one.

    Args:
        environment: with ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID``.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        #: Seconds between two :meth:`alive` at most, after which the gateway counts as hung. None: it does not watch.
        self.watchdog_s = _watchdog_s(environment) if self._address else None

    def alive(self) -> None:
        """It is not hung."""
        self._send("WATCHDOG=1")

    def going(self, about: About, within_s: float) -> None:
        """How the gateway goes on; ``within_s``: how long that may take before it counts as hung, in seconds."""
        patience = f"EXTEND_TIMEOUT_USEC={int(within_s * _MICROSECONDS)}"
        match about:
            case "waiting":
                self._send("STATUS=waits for its disk, which cannot be written", patience)
            case "ready":
                self._send("READY=1", "STATUS=serving")
            case "draining":
                self._send(f"STATUS=draining, for {within_s:.0f} s at most", patience)
            case "restarting":
                now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
                self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", "STATUS=restarting in place", patience)
            case "stopping":
                self._send("STOPPING=1", "STATUS=stopping", patience)
            case "held":
                self._send("STATUS=drained and held: hermes-ctl drain --cancel lets it serve again")
            case "serving":
                self._send("STATUS=serving")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address  # abstract namespace
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.setblocking(False)
            manager.connect(address)
            manager.send("\n".join(lines).encode())


class Watchdog:
    """Tells the service manager that the gateway is not hung, as long as the supervisor actor handles its events.

    Args:
        manager: gets the notices.
        tell: where the actor's events go.
    """

    def __init__(self, manager: ServiceManager, tell: Callable[[Event], None]) -> None:
        self._manager = manager
        self._tell = tell
        self._handled = False

    def handled(self) -> None:
        """The actor is through with a batch of events."""
        self._handled = True

    async def run(self) -> None:
        """Send a notice again and again, twice as often as the manager requires; none if it does not watch."""
        if self._manager.watchdog_s is None:
            return
        while True:
            self._handled = False
            self._tell(Tick(due=time.monotonic()))  # finds nothing to do
            await asyncio.sleep(self._manager.watchdog_s / 2)
            if self._handled:
                self._manager.alive()


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """As sd_watchdog_enabled(3): None where no process, or another one, is watched."""
    wanted, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", str(os.getpid()))
    if not wanted.isdecimal() or int(wanted) == 0 or pid != str(os.getpid()):
        return None
    return int(wanted) / _MICROSECONDS
