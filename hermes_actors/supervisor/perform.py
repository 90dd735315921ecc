"""Effects on processes, links, operators and logs: one branch for each, on the event loop, after the commit.

:class:`hermes_actors.supervisor.recorder.Recorder` writes the other effects before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import assert_never

import structlog

from hermes_actors.background import Background
from hermes_actors.core import effects as core
from hermes_actors.core.events import Event, SessionsFound
from hermes_actors.core.sessions.names import MOST_SOUGHT
from hermes_actors.core.state import ReplyTo
from hermes_actors.home import Home
from hermes_actors.operations.plain import to_plain
from hermes_actors.operators.messages import OperatorResponse
from hermes_actors.operators.server import ControlServer
from hermes_actors.pool import reaper
from hermes_actors.pool.pool import Pool
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.registry import find_sessions
from hermes_actors.restart.prepare import RestartPreparation
from hermes_actors.supervisor.actor import Outgoing
from hermes_actors.supervisor.notify import ServiceManager
from hermes_actors.wire import messages as wire
from hermes_actors.wire.failpoints import point
from hermes_actors.wire.ownership import OWNER_VARIABLE, owner_mark
from hermes_actors.wire.refusals import RefusalCode

SECOND_SWEEP_S = 1.0  # a process that was between fork and exec at the first sweep has its mark by then

# Fault points, once the message is on its way.
_SENT: Mapping[type[object], str] = {
    wire.Drain: "drain.sent",
    wire.Seal: "seal.sent",
    wire.Cut: "cut.sent",
    wire.StopWorker: "stop.sent",
}

log = structlog.get_logger(__name__)


class Performer:
    """Effects on processes, links, operators and logs.

    Args:
        pool: the workers.
        control: where operators wait for replies.
        home: whose registry is searched, and where the workers' sockets are.
        boot: id of this life of the supervisor.
        fill_in: adds what decisions do not know, the configuration with its secrets, to a message as it leaves.
        reload: reads the configuration again.
        tell: where events go.
        announce: called once, when the gateway serves.
        finish: called once, when all workers are gone, with whether the gateway restarts in place.
        preparation: makes the next life ready.
        service_manager: hears how the gateway goes on.
        background: what runs the effects that take longer.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        control: ControlServer,
        home: Home,
        boot: str,
        fill_in: Callable[[wire.Configure | wire.Reconfigure], wire.Configure | wire.Reconfigure],
        reload: Callable[[ReplyTo | None], Awaitable[Event]],
        tell: Callable[[Event], None],
        announce: Callable[[], None],
        finish: Callable[[bool], None],
        preparation: RestartPreparation,
        service_manager: ServiceManager,
        background: Background,
    ) -> None:
        self._pool = pool
        self._control = control
        self._home = home
        self._boot = boot
        self._fill_in = fill_in
        self._reload = reload
        self._tell = tell
        self._announce = announce
        self._finish = finish
        self._preparation = preparation
        self._service_manager = service_manager
        self._background = background

    def perform(self, outgoing: Outgoing) -> None:
        """Do one effect, or begin what takes longer."""
        with structlog.contextvars.bound_contextvars(cause=outgoing.cause):
            self._perform(outgoing.effect)

    def _perform(self, effect: core.Outward) -> None:
        match effect:
            case core.Send():
                self._send(effect)
            case core.Reply():
                self._reply(effect)
            case core.Spawn():
                self._pool.spawn(*effect.process)
            case core.Kill():
                self._pool.kill(*effect.process)
            case core.Sweep():
                self._background.start(self._sweep(effect))
            case core.FindSessions():
                self._background.start(self._find(effect))
            case core.LoadSettings():
                self._background.start(self._load(effect))
            case core.PrepareRestart():
                self._preparation.prepare(effect.number)
            case core.DropNextLife():
                self._preparation.abandon()
            case core.Log():
                getattr(log, effect.level)(effect.text, **effect.fields)
            case core.Announce(about="ready"):
                self._announce()
            case core.Announce():
                self._service_manager.going(effect.about, effect.within_s)
            case core.EndProcess():
                self._finish(effect.restart)
            case _:
                assert_never(effect)

    def _send(self, effect: core.Send) -> None:
        message = effect.message
        if isinstance(message, wire.Configure | wire.Reconfigure):
            message = self._fill_in(message)
        elif isinstance(message, wire.Cut):
            point("cuts.recorded")
        elif isinstance(message, wire.Activated | wire.Recorded | wire.Reckoned | wire.SessionPage):
            point("answer.recorded")
        for slot, generation in effect.to:
            self._pool.send(slot, generation, message)
        if (sent := _SENT.get(type(message))) is not None:
            point(sent)

    def _reply(self, effect: core.Reply) -> None:
        data = {} if effect.error else to_plain(effect.result)
        client, request = effect.reply_to
        self._control.respond(client, OperatorResponse(request=request, error=effect.error, why=effect.why, data=data))

    # -- what takes longer -------------------------------------------------------------------------------------------
    async def _sweep(self, effect: core.Sweep) -> None:
        mark = f"{OWNER_VARIABLE}={owner_mark(self._home.root, self._boot, *effect.process)}"
        for wait_s in (0.0, SECOND_SWEEP_S):
            await asyncio.sleep(wait_s)
            killed = await asyncio.to_thread(reaper.sweep, [mark])
            if killed:
                log.warning("killed what a dead worker left running", worker=effect.process.slot, pids=killed)

    async def _load(self, effect: core.LoadSettings) -> None:
        self._tell(await self._reload(effect.reply_to))

    async def _find(self, effect: core.FindSessions) -> None:
        try:
            found = await asyncio.to_thread(find_sessions, self._home.registry, effect.operation.session, MOST_SOUGHT)
        except RegistryFailed as error:
            why = f"the registry cannot be searched: {error}"
            self._reply(core.Reply(reply_to=effect.reply_to, error=RefusalCode.BUSY, why=why))
            return
        self._tell(
            SessionsFound(
                reply_to=effect.reply_to,
                operation=effect.operation,
                found=found,
            )
        )
