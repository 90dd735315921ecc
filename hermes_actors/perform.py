"""Effects done: one function or branch for each, in the order of the list.

:class:`Recorder` works on the registry, in the supervisor actor's thread. :class:`Performer` works on processes, links
and logs, on the event loop, after the commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from hermes_actors import reaper
from hermes_actors.background import Background
from hermes_actors.control.messages import ControlReply
from hermes_actors.control.server import ControlServer
from hermes_actors.core import effects as core
from hermes_actors.core.events import Event, SessionsFound
from hermes_actors.core.model import NEVER_RESTARTED, Process, SessionEntry
from hermes_actors.core.policy import restart_after
from hermes_actors.core.requests import NAMES_SHOWN
from hermes_actors.core.views import session_line
from hermes_actors.home import Home
from hermes_actors.pool import Pool
from hermes_actors.registry import BadCursor, Registry, find_sessions
from hermes_actors.wire import messages as wire
from hermes_actors.wire.ownership import OWNER_VARIABLE, owner_mark

SECOND_SWEEP_S = 1.0  # a process that was between fork and exec at the first sweep carries its mark by then

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """A message for a worker that a registry effect made."""

    slot: int
    generation: int
    message: Any


Outgoing = core.OutwardEffect | Tell


class Recorder:
    """Registry effects. What they answer leaves only after the commit.

    Args:
        registry: where they are recorded.
        facts: what the status says of the process itself.
    """

    def __init__(self, registry: Registry, facts: Mapping[str, Any]) -> None:
        self._registry = registry
        self._facts = facts

    def record(self, effect: core.RegistryEffect) -> Outgoing | None:
        """Do one effect in the open transaction; its answer, if it has one."""
        match effect:
            case core.CommitTable():
                self._registry.write_owners(effect.owners)
                return None
            case core.TouchSessions():
                self._registry.touch(effect.active)
                return None
            case core.ActivateSession():
                return self._activate(effect)
            case core.ForgetSession():
                existed = self._registry.forget(effect.key)
                forgotten = wire.Forgotten(request=effect.request, existed=existed)
                return Tell(slot=effect.slot, generation=effect.generation, message=forgotten)
            case core.RenameSession():
                return self._rename(effect)
            case core.RecordFallback():
                return self._fall_back(effect)
            case core.PageForWorker():
                return self._page_for_worker(effect)
            case core.PageForOperator():
                return self._page_for_operator(effect)
            case core.ReplyStatus():
                data = {**self._facts, **effect.data, "sessions": self._registry.count()}
                return core.Reply(client=effect.client, request=effect.request, data=data)
            case _:
                assert_never(effect)

    def commit(self) -> None:
        """Make all of it durable."""
        self._registry.commit()

    def _activate(self, effect: core.ActivateSession) -> Tell:
        entry = self._registry.session(effect.key)
        if entry is None and effect.create:
            entry = self._registry.add(effect.key, effect.principal, effect.shard, time.time())
        return _activated(effect, entry)

    def _rename(self, effect: core.RenameSession) -> Tell:
        return _activated(effect, self._registry.rename(effect.key, time.time()))

    def _fall_back(self, effect: core.RecordFallback) -> core.SendRestartActor | None:
        entry = self._registry.session(effect.key)
        before = NEVER_RESTARTED if entry is None else entry.actor  # a stateless conversation has no entry
        after = restart_after(before, effect.turn_id, effect.reason, time.time())
        if after is None:
            return None
        self._registry.write_actor(effect.key, after)
        return core.SendRestartActor(
            slot=effect.slot, generation=effect.generation, key=effect.key, reason=effect.reason
        )

    def _page_for_worker(self, effect: core.PageForWorker) -> Outgoing:
        try:
            entries, cursor = self._registry.page(effect.principal, effect.after, effect.limit)
        except BadCursor as error:
            return core.SendRefused(
                slot=effect.slot,
                generation=effect.generation,
                request=effect.request,
                code="bad_request",
                why=str(error),
            )
        page = wire.SessionPage(request=effect.request, sessions=[_plain(entry) for entry in entries], next=cursor)
        return Tell(slot=effect.slot, generation=effect.generation, message=page)

    def _page_for_operator(self, effect: core.PageForOperator) -> core.Reply:
        client, request = effect.client, effect.request
        try:
            entries, cursor = self._registry.page(None, effect.after, effect.limit)
        except BadCursor as error:
            return core.Reply(client=client, request=request, error="bad_request", why=f"after: {error}")
        lines = [session_line(entry, effect.owners, effect.up) for entry in entries]
        return core.Reply(client=client, request=request, data={"sessions": lines, "next": cursor})


def _activated(effect: core.ActivateSession | core.RenameSession, entry: SessionEntry | None) -> Tell:
    message: wire.Activated | wire.Refused
    if entry is None:
        message = wire.Refused(request=effect.request, code="not_found", why=f"there is no session {effect.key!r}")
    else:
        message = wire.Activated(request=effect.request, session_id=entry.session_id, created_at=entry.created_at)
    return Tell(slot=effect.slot, generation=effect.generation, message=message)


def _plain(entry: SessionEntry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "session_id": entry.session_id,
        "created_at": entry.created_at,
        "last_active_at": entry.last_active_at,
    }


class Performer:
    """Effects on processes, links, operators and logs.

    Args:
        pool: the workers.
        control: where operators wait for replies.
        home: whose registry is searched, and where the workers' sockets are.
        boot: id of this life of the supervisor.
        configure: what a new process is told first.
        reconfigure: what the others are told when the configuration changes.
        reload: reads the configuration again.
        tell: where events go.
        announce: called once, when the gateway serves.
        finish: called once, when all workers are gone.
        background: what runs the effects that take longer.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        control: ControlServer,
        home: Home,
        boot: str,
        configure: Callable[[int, int], wire.Configure],
        reconfigure: Callable[[int], wire.Reconfigure],
        reload: Callable[[int | None, int], Awaitable[Event]],
        tell: Callable[[Event], None],
        announce: Callable[[], None],
        finish: Callable[[], None],
        background: Background,
    ) -> None:
        self._pool = pool
        self._control = control
        self._home = home
        self._boot = boot
        self._configure = configure
        self._reconfigure = reconfigure
        self._reload = reload
        self._tell = tell
        self._announce = announce
        self._finish = finish
        self._background = background

    def perform(self, effect: Outgoing) -> None:
        """Do one effect, or begin what takes longer."""
        match effect:
            case Tell():
                self._pool.send(effect.slot, effect.generation, effect.message)
            case core.Reply():
                self._reply(effect)
            case core.Spawn():
                self._pool.spawn(effect.slot, effect.generation)
            case core.Kill():
                self._pool.kill(effect.slot, effect.generation)
            case core.Sweep():
                self._background.start(self._sweep(effect))
            case core.FindSessions():
                self._background.start(self._find(effect))
            case core.LoadSettings():
                self._background.start(self._load(effect))
            case core.Log():
                getattr(log, effect.level)(effect.text, **effect.fields)
            case core.Announce():
                self._announce()
            case core.Finish():
                self._finish()
            case _:
                self._send(effect)

    def _send(self, effect: core.MessageEffect) -> None:
        if isinstance(effect, core.SendTable | core.SendQuery | core.SendReconfigure):
            to = effect.to
        else:
            to = (Process(effect.slot, effect.generation),)
        message = self._message(effect)
        for slot, generation in to:
            self._pool.send(slot, generation, message)

    def _message(self, effect: core.MessageEffect) -> Any:
        match effect:
            case core.SendConfigure():
                return self._configure(effect.slot, effect.generation)
            case core.SendTable():
                owners = {shard: list(owner) for shard, owner in enumerate(effect.owners)}
                peers = {slot: str(self._home.peer(slot)) for slot in effect.up}
                return wire.Assign(owners=owners, peers=peers)
            case core.SendListen():
                return wire.Listen(slots=list(effect.slots))
            case core.SendStop():
                return wire.Stop(grace_s=effect.grace_s)
            case core.SendRestartActor():
                log.info("restarting an agent actor", worker=effect.slot, session=effect.key, why=effect.reason)
                return wire.RestartActor(key=effect.key)
            case core.SendQuery():
                return wire.Query(request=effect.request, about=effect.about, key=effect.key)
            case core.SendReconfigure():
                return self._reconfigure(effect.request)
            case core.SendRefused():
                return wire.Refused(request=effect.request, code=effect.code, why=effect.why)
            case _:
                assert_never(effect)

    def _reply(self, effect: core.Reply) -> None:
        reply = ControlReply(request=effect.request, error=effect.error, why=effect.why, data=dict(effect.data))
        self._control.reply(effect.client, reply)

    # -- what takes longer -------------------------------------------------------------------------------------------
    async def _sweep(self, effect: core.Sweep) -> None:
        mark = f"{OWNER_VARIABLE}={owner_mark(self._home.root, self._boot, effect.slot, effect.generation)}"
        for wait_s in (0.0, SECOND_SWEEP_S):
            await asyncio.sleep(wait_s)
            killed = await asyncio.to_thread(reaper.sweep, [mark])
            if killed:
                log.warning("killed what a dead worker left running", worker=effect.slot, pids=killed)

    async def _load(self, effect: core.LoadSettings) -> None:
        self._tell(await self._reload(effect.client, effect.request))

    async def _find(self, effect: core.FindSessions) -> None:
        try:
            found = await asyncio.to_thread(find_sessions, self._home.registry, effect.wanted, NAMES_SHOWN + 1)
        except sqlite3.Error as error:
            why = f"the registry cannot be searched: {error}"
            self._reply(core.Reply(client=effect.client, request=effect.request, error="busy", why=why))
            return
        self._tell(SessionsFound(client=effect.client, request=effect.request, wanted=effect.wanted, found=found))
