"""The other workers as callers: what they submit is run, what they ask is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from hermes_actors.background import Background
from hermes_actors.home import PRIVATE_FILE
from hermes_actors.wire.codec import ProtocolError, from_parts, to_parts
from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.messages import (
    Abandon,
    Ask,
    Hello,
    Submit,
    Told,
    TurnAccepted,
    TurnEventFrame,
    TurnParked,
    TurnRefused,
)
from hermes_actors.wire.peer import peer_of
from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.feed import TurnFeed
from workers.turn_errors import error_data, too_large_error
from workers.turns import Ended, Parked, Refusal, Submission, TurnEvent

log = structlog.get_logger(__name__)

Submitted = Callable[[int, Submission, bool], Awaitable[TurnFeed]]  # shard, submission, again
Asked = Callable[[int, str, dict[str, Any]], Awaitable[dict[str, Any]]]  # shard, what, data


class PeerServer:
    """Hears the other workers.

    Args:
        path: the socket to listen on.
        boot: the life of the supervisor that all callers must share.
        submitted: takes a turn; refuses it with a :class:`workers.turns.Refusal`, or parks it.
        asked: answers a question, likewise.
    """

    def __init__(self, path: Path, boot: str, *, submitted: Submitted, asked: Asked) -> None:
        self._path = path
        self._boot = boot
        self._submitted = submitted
        self._asked = asked
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
        caller = _Caller(self._boot, self._submitted, self._asked, self._callers.discard)
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

    def __init__(self, boot: str, submitted: Submitted, asked: Asked, on_gone: Callable[[_Caller], None]) -> None:
        self.link = _CheckedLink(self._received, self._lost)
        self._boot = boot
        self._submitted = submitted
        self._asked = asked
        self._on_gone = on_gone
        self._welcome = False
        self._turns: dict[int, Callable[[], None]] = {}  # request -> stop listening to it
        self._background = Background()

    def _received(self, message: Any) -> None:
        match message:
            case Hello():
                self._welcome = message.boot == self._boot
            case _ if not self._welcome:
                raise ProtocolError("a caller says hello first, and is of the same boot")
            case Submit():
                submission = from_parts(message.submission)
                if not isinstance(submission, Submission):
                    raise ProtocolError(f"a {type(submission).__name__} is no turn")
                self._background.start(self._run(message, submission))
            case Ask():
                self._background.start(self._answer(message))
            case Abandon():
                leave = self._turns.pop(message.request, None)
                if leave is not None:
                    leave()
            case _:
                raise ProtocolError(f"a worker does not say {type(message).__name__} here")

    async def _run(self, request: Submit, submission: Submission) -> None:
        number = request.request
        try:
            feed = await self._submitted(request.shard, submission, request.again)
        except Refusal as no:
            self._send(TurnRefused(request=number, code=no.code, why=no.why, retry_after_s=no.retry_after_s))
            return
        except Parked as parked:
            self._send(TurnParked(request=number, turn_id=parked.turn_id, retry_after_s=parked.retry_after_s))
            return
        if self.link.closed:
            feed.abandon()
            return

        def tell(event: TurnEvent) -> None:
            self._tell(number, event)
            if isinstance(event, Ended):
                self._turns.pop(number, None)

        self._send(TurnAccepted(request=number, turn_id=feed.turn_id))
        self._turns[number] = lambda: feed.leave(tell)
        feed.listen(tell, stream=request.stream)

    def _tell(self, number: int, event: TurnEvent) -> None:
        try:
            self._send(TurnEventFrame(request=number, event=to_parts(event)))
        except ProtocolError as error:  # larger than a frame: the reply, or all of it so far for one who came late
            log.warning("event cannot be handed over", event_type=type(event).__name__, why=str(error))
            if isinstance(event, Ended):
                end = replace(event, state="failed", text="", error=error_data(too_large_error()))
                self._send(TurnEventFrame(request=number, event=to_parts(end)))

    async def _answer(self, request: Ask) -> None:
        number = request.request
        try:
            data = await self._asked(request.shard, request.what, request.data)
            self._send(Told(request=number, error=None, why="", data=data))
        except Refusal as no:
            self._send(Told(request=number, error=no.code, why=no.why, data={}))
        except ProtocolError as error:
            self._send(Told(request=number, error=RefusalCode.MESSAGE_TOO_LARGE, why=str(error), data={}))

    def _send(self, message: Any) -> None:
        with contextlib.suppress(LinkClosed):  # _lost has seen, or will see, to what the caller had running
            self.link.send(message)

    def _lost(self, why: str) -> None:
        log.debug("link of a worker ended", why=why)
        turns, self._turns = self._turns, {}
        for leave in turns.values():
            leave()
        self._on_gone(self)
