"""The other workers as callers: this worker runs what they submit and does what they request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from hermes_actors.background import Background
from hermes_actors.home import PRIVATE_FILE
from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.peer import peer_of
from hermes_actors.wire.refusals import RefusalCode
from workers.routing.messages import (
    Abandon,
    Hello,
    PeerRefusal,
    PeerRequest,
    PeerResponse,
    ReadTurn,
    ShardRequest,
    Submit,
    TurnAccepted,
    TurnHappened,
)
from workers.routing.owner import PendingTurn, ShardOwner
from workers.turn_errors import error_data, too_large_error
from workers.turns import Ended, NumberedEvent, Parked, Refusal, Submission, TurnEvent

log = structlog.get_logger(__name__)


class PeerServer:
    """Hears the other workers.

    Args:
        path: the socket to listen on.
        boot: the life of the supervisor that all callers must share.
        shards: of this worker.
    """

    def __init__(self, path: Path, boot: str, shards: ShardOwner) -> None:
        self._path = path
        self._boot = boot
        self._shards = shards
        self._server: asyncio.Server | None = None
        self._callers: set[_Caller] = set()

    async def start(self) -> None:
        """Listen, in place of whatever was at the path."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self._path))
        self._path.chmod(PRIVATE_FILE)
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, sock=listener)

    def _accept(self) -> FrameLink:
        caller = _Caller(self._boot, self._shards, self._callers.discard)
        self._callers.add(caller)
        return caller.link

    async def close(self) -> None:
        """Stop listening and drop the callers. The path stays: a successor may listen there already."""
        if self._server is not None:
            self._server.close()
        for caller in list(self._callers):
            caller.link.close()


class _CheckedLink(FrameLink):
    """A link that only our own user may open (SO_PEERCRED)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        uid = peer_of(transport.get_extra_info("socket")).uid
        if uid != os.getuid():
            log.warning("link of another user refused", uid=uid)
            self.close()


class _Caller:
    """One other worker, over one link."""

    def __init__(self, boot: str, shards: ShardOwner, on_gone: Callable[[_Caller], None]) -> None:
        self.link = _CheckedLink(self._received, self._lost)
        self._boot = boot
        self._shards = shards
        self._on_gone = on_gone
        self._welcome = False
        self._submitting: dict[int, asyncio.Task[None]] = {}  # by request
        self._turns: dict[int, _RemoteTurn] = {}  # by request; accepted and not over
        self._background = Background()

    def _received(self, message: Any) -> None:
        match message:
            case Hello():
                self._welcome = message.boot == self._boot
            case _ if not self._welcome:
                raise ProtocolError("a caller says hello first, and is of the same boot")
            case Submit(submission=Submission() | ReadTurn()):
                task = self._submitting[message.request] = self._background.start(self._submit(message))
                task.add_done_callback(lambda _: self._submitting.pop(message.request, None))
            case PeerRequest(content=ShardRequest()):
                self._background.start(self._respond(message))
            case Abandon():
                self._abandon(message.request)
            case _:
                raise ProtocolError(f"a worker does not send this here: {message!r:.200}")

    def _abandon(self, number: int) -> None:
        turn, submitting = self._turns.pop(number, None), self._submitting.get(number)
        if turn is not None:
            turn.leave()
        elif submitting is not None:  # what is on its way to disk gets there, and is a turn like any other
            submitting.cancel()

    async def _submit(self, request: Submit) -> None:
        turn = _RemoteTurn(self, request.request)
        submission = request.submission
        if isinstance(submission, Submission):
            submission = replace(submission, deadline=time.monotonic() + request.within_s)
        pending = PendingTurn(submission=submission, turn=turn, stream=request.stream)
        try:
            await self._shards.submit(request.shard, pending, again=request.again)
        except Refusal as no:
            self._refuse(request.request, no)
        except Parked as parked:
            self.send(TurnAccepted(request=request.request, turn_id=parked.turn_id, parked_s=parked.retry_after_s))

    async def _respond(self, request: PeerRequest) -> None:
        try:
            result = await self._shards.ask(request.shard, request.content)
            self.send(PeerResponse(request=request.request, result=result))
        except Refusal as no:
            self._refuse(request.request, no)
        except ProtocolError as error:
            self._refuse(request.request, Refusal(RefusalCode.MESSAGE_TOO_LARGE, str(error)))

    def _refuse(self, number: int, no: Refusal) -> None:
        self.send(PeerRefusal(request=number, code=no.code, why=no.why, retry_after_s=no.retry_after_s, kept=no.kept))

    def accept(self, turn: _RemoteTurn, turn_id: str) -> None:
        """Send that a turn is on disk."""
        self.send(TurnAccepted(request=turn.number, turn_id=turn_id, parked_s=None))
        self._turns[turn.number] = turn

    def over(self, turn: _RemoteTurn) -> None:
        """The caller knows the end of a turn."""
        self._turns.pop(turn.number, None)

    def send(self, message: Any) -> None:
        """Send, unless the link is lost: then :meth:`_lost` ends what the caller had running."""
        with contextlib.suppress(LinkClosed):
            self.link.send(message)

    def _lost(self, why: str) -> None:
        log.debug("link of a worker ended", why=why)
        turns, self._turns = self._turns, {}
        for turn in turns.values():
            turn.leave()
        self._on_gone(self)


class _RemoteTurn:
    """The caller of a turn at another worker: a :class:`workers.routing.owner.TurnCaller`."""

    def __init__(self, caller: _Caller, number: int) -> None:
        self.number = number
        self.ended = False
        self.leave: Callable[[], None]
        self._caller = caller

    def attach(self, turn_id: str, leave: Callable[[], None]) -> None:
        self.leave = leave
        if self._caller.link.closed:
            self.ended = True
            leave()
        else:
            self._caller.accept(self, turn_id)

    def hear(self, event: TurnEvent | NumberedEvent) -> None:
        plain = event.event if isinstance(event, NumberedEvent) else event
        try:
            self._caller.send(TurnHappened(request=self.number, event=event))
        except ProtocolError as error:  # larger than a frame: the reply, or all of it so far for one who came late
            log.warning("event cannot be sent to its caller", event_type=type(plain).__name__, why=str(error))
            if isinstance(plain, Ended):
                end = replace(plain, state="failed", text="", error=error_data(too_large_error()))
                numbered = replace(event, event=end) if isinstance(event, NumberedEvent) else end
                self._caller.send(TurnHappened(request=self.number, event=numbered))
        if isinstance(plain, Ended):
            self.ended = True
            self._caller.over(self)
