"""Links between the workers: a turn or a question that reached the wrong worker goes to the owner of its shard."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

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
    TurnRefused,
)
from workers.agents.feed import ListeningTurn, TurnFeed
from workers.routing.requests import Requests
from workers.turns import Refusal, Submission, TurnEvent

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 2.0
ACCEPT_TIMEOUT_S = 10.0  # the owner may have to activate the session first
ASK_TIMEOUT_S = 5.0
NOT_OWNER = "not_owner"  # refusal between workers only: the table is behind

_PEER_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class OwnerGone(Exception):
    """The owner cannot be reached, or owns the shard no more; it may or may not have got the request."""


class Peer:
    """This worker's link to one other worker, made when first needed.

    Args:
        path: the other worker's socket.
        hello: who calls.
        on_cut: called with each accepted turn whose owner went away before its end.
    """

    def __init__(self, path: str, hello: Hello, on_cut: Callable[[ListeningTurn], None]) -> None:
        self._path = path
        self._hello = hello
        self._on_cut = on_cut
        self._requests = Requests()
        self._turns: dict[int, ListeningTurn] = {}
        self._link: FrameLink | None = None
        self._connecting = asyncio.Lock()

    async def submit(
        self, shard: int, submission: Submission, turn: ListeningTurn, *, stream: bool, again: bool
    ) -> str:
        """Hand a turn over; its events go to ``turn``.

        Returns:
            The id of the turn that the owner runs for it.

        Raises:
            Refusal: the owner did not accept it.
            OwnerGone: it is not known whether the owner has it.
        """
        link = await self._connect()
        number = self._requests.number()
        self._turns[number] = turn
        request = Submit(request=number, shard=shard, submission=to_parts(submission), stream=stream, again=again)
        accepted = False
        try:
            answer = await self._ask(link, request, ACCEPT_TIMEOUT_S)
            if isinstance(answer, TurnRefused):
                if answer.code == NOT_OWNER:
                    raise OwnerGone(answer.why)
                raise Refusal(answer.code, answer.why, answer.retry_after_s)
            assert isinstance(answer, TurnAccepted)
            accepted = True
        finally:
            if not accepted:
                self._turns.pop(number, None)
        turn.on_abandon = lambda: self._abandon(number)
        return answer.turn_id

    async def ask(self, shard: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        """Ask the owner of a shard.

        Raises:
            Refusal: it said no.
            OwnerGone: it is not known whether it was done.
        """
        link = await self._connect()
        request = Ask(request=self._requests.number(), shard=shard, what=what, data=data)
        answer = await self._ask(link, request, ASK_TIMEOUT_S)
        assert isinstance(answer, Told)
        if answer.error == NOT_OWNER:
            raise OwnerGone(answer.why)
        if answer.error is not None:
            raise Refusal(answer.error, answer.why)
        return answer.data

    def close(self) -> None:
        """End the link."""
        if self._link is not None:
            self._link.close()

    async def _ask(self, link: FrameLink, request: Any, timeout_s: float) -> Any:
        try:
            return await self._requests.ask(link, request, timeout_s=timeout_s)
        except ProtocolError as error:
            raise Refusal(
                "message_too_large", f"The message cannot be handed to the session's worker: {error}."
            ) from error
        except (LinkClosed, TimeoutError) as error:
            raise OwnerGone(str(error) or "no answer in time") from error

    async def _connect(self) -> FrameLink:
        async with self._connecting:
            if self._link is None or self._link.closed:
                loop = asyncio.get_running_loop()
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        _, link = await loop.create_unix_connection(
                            lambda: FrameLink(self._received, self._lost), self._path
                        )
                except (OSError, TimeoutError) as error:
                    raise OwnerGone(f"{self._path}: {error or 'no answer in time'}") from error
                link.send(self._hello)
                self._link = link
            return self._link

    def _received(self, message: Any) -> None:
        if isinstance(message, TurnEventFrame):
            turn = self._turns.get(message.request)
            if turn is not None:
                turn.hear(from_parts(message.event))
                if turn.ended:
                    del self._turns[message.request]
        else:
            self._requests.answer(message)

    def _lost(self, why: str) -> None:
        self._link = None
        turns, self._turns = self._turns, {}
        waiting = self._requests.waiting
        self._requests.lost(why)
        for number, turn in turns.items():
            if number not in waiting:
                self._on_cut(turn)

    def _abandon(self, number: int) -> None:
        self._turns.pop(number, None)
        if self._link is not None:
            with contextlib.suppress(LinkClosed):  # an owner that is gone needs no telling
                self._link.send(Abandon(request=number))


Submitted = Callable[[int, Submission, bool], Awaitable[TurnFeed]]  # shard, submission, again
Asked = Callable[[int, str, dict[str, Any]], Awaitable[dict[str, Any]]]  # shard, what, data


class PeerServer:
    """Hears the other workers: runs what they submit, answers what they ask."""

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
        """Stop listening and drop the callers."""
        if self._server is not None:
            self._server.close()
        for caller in list(self._callers):
            caller.link.close()
        self._path.unlink(missing_ok=True)


class _CheckedLink(FrameLink):
    """A link that only our own user may open (SO_PEERCRED)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        credentials = transport.get_extra_info("socket").getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size
        )
        _, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
        if uid != os.getuid():
            log.warning("link of another user refused", uid=uid)
            self.close()


class _Caller:
    """One other worker, as its server sees it."""

    def __init__(self, boot: str, submitted: Submitted, asked: Asked, on_gone: Callable[[_Caller], None]) -> None:
        self.link = _CheckedLink(self._received, self._lost)
        self._boot = boot
        self._submitted = submitted
        self._asked = asked
        self._on_gone = on_gone
        self._welcome = False
        self._turns: dict[int, Callable[[], None]] = {}  # request -> stop listening to it
        self._tasks: set[asyncio.Task[None]] = set()

    def _received(self, message: Any) -> None:
        match message:
            case Hello():
                self._welcome = message.boot == self._boot
            case _ if not self._welcome:
                raise ProtocolError("a caller says hello first, and is of the same boot")
            case Submit():
                self._start(self._run(message))
            case Ask():
                self._start(self._answer(message))
            case Abandon():
                leave = self._turns.pop(message.request, None)
                if leave is not None:
                    leave()
            case _:
                raise ProtocolError(f"a worker does not say {type(message).__name__} here")

    async def _run(self, request: Submit) -> None:
        submission = from_parts(request.submission)
        try:
            feed = await self._submitted(request.shard, submission, request.again)
        except Refusal as refusal:
            self._send(
                TurnRefused(
                    request=request.request, code=refusal.code, why=refusal.why, retry_after_s=refusal.retry_after_s
                )
            )
            return

        def tell(event: TurnEvent) -> None:
            self._send(TurnEventFrame(request=request.request, event=to_parts(event)))
            if feed.ended is not None:
                self._turns.pop(request.request, None)

        if self.link.closed:
            feed.abandoned()
            return
        self._send(TurnAccepted(request=request.request, turn_id=feed.turn_id))
        self._turns[request.request] = lambda: feed.leave(tell)
        feed.listen(tell, stream=request.stream)

    async def _answer(self, request: Ask) -> None:
        try:
            told = Told(
                request=request.request,
                error=None,
                why="",
                data=await self._asked(request.shard, request.what, request.data),
            )
        except Refusal as refusal:
            told = Told(request=request.request, error=refusal.code, why=refusal.why, data={})
        self._send(told)

    def _send(self, message: Any) -> None:
        with contextlib.suppress(LinkClosed):  # _lost has seen, or will see, to what the caller had running
            self.link.send(message)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _lost(self, why: str) -> None:
        log.debug("link of a worker ended", why=why)
        for leave in list(self._turns.values()):
            leave()
        self._turns.clear()
        self._on_gone(self)
