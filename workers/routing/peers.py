"""The owners among the other workers, for turns and requests that reached a worker that does not own the shard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.refusals import RefusalCode
from workers.routing.messages import (
    Abandon,
    Hello,
    PeerRefusal,
    PeerRequest,
    PeerResponse,
    ShardRequest,
    Submit,
    TurnAccepted,
    TurnHappened,
)
from workers.routing.owner import OwnerGone, PendingTurn, TurnCaller
from workers.routing.requests import Requests
from workers.turns import Parked, Refusal

CONNECT_TIMEOUT_S = 2.0
ACCEPT_TIMEOUT_S = 4.0  # within the router's OWNER_WAIT_S, so that there is time to ask again
ADMIT_TIMEOUT_S = 3.0  # after which the owner no longer begins a turn; the rest is for its commit and the way back
ASK_TIMEOUT_S = 5.0

R = TypeVar("R")


class Peer:
    """Another worker as a :class:`workers.routing.owner.ShardOwner`. It is linked when needed, and again after a loss.

    Args:
        path: the other worker's socket.
        hello: who calls.
        on_cut: called with each accepted turn whose owner went away before its end.
    """

    def __init__(self, path: str, hello: Hello, on_cut: Callable[[PendingTurn[Any]], None]) -> None:
        self._path = path
        self._hello = hello
        self._on_cut = on_cut
        self._connecting = asyncio.Lock()
        self._linked: _LinkedOwner | None = None

    async def submit(self, shard: int, pending: PendingTurn[TurnCaller], *, again: bool) -> None:
        link = await self._connected()
        await link.submit(shard, pending, again=again)

    async def ask(self, shard: int, request: ShardRequest[R]) -> R:
        link = await self._connected()
        return await link.ask(shard, request)

    def close(self) -> None:
        """End the link."""
        if self._linked is not None:
            self._linked.link.close()

    async def _connected(self) -> _LinkedOwner:
        async with self._connecting:
            if self._linked is None or self._linked.link.closed:
                linked = _LinkedOwner(self._on_cut)
                loop = asyncio.get_running_loop()
                try:
                    async with asyncio.timeout(CONNECT_TIMEOUT_S):
                        await loop.create_unix_connection(lambda: linked.link, self._path)
                    linked.link.send(self._hello)
                except (OSError, TimeoutError, LinkClosed) as error:  # it may die as soon as it has accepted
                    why = f"{self._path}: {error or 'no answer in time'}"
                    raise OwnerGone(why, may_have_it=False) from error
                self._linked = linked
            return self._linked


class _LinkedOwner:
    """The other worker over one link, from its start to its loss: a late message of an old link reaches no caller."""

    def __init__(self, on_cut: Callable[[PendingTurn[Any]], None]) -> None:
        self.link = FrameLink(self._received, self._lost)
        self._on_cut = on_cut
        self._requests = Requests()
        self._submitted: dict[int, PendingTurn[TurnCaller]] = {}  # by request; not accepted yet
        self._accepted: dict[int, PendingTurn[TurnCaller]] = {}  # by request; not over yet

    async def submit(self, shard: int, pending: PendingTurn[TurnCaller], *, again: bool) -> None:
        number = self._requests.number()
        request = Submit(
            request=number,
            shard=shard,
            submission=pending.submission,
            stream=pending.stream,
            again=again,
            within_s=ADMIT_TIMEOUT_S,
        )
        self._submitted[number] = pending
        try:
            accepted: TurnAccepted = await self._ask(request, ACCEPT_TIMEOUT_S)
        except (OwnerGone, asyncio.CancelledError):
            self._leave(number)
            raise
        finally:
            self._submitted.pop(number, None)
        if accepted.parked_s is not None:
            raise Parked(accepted.turn_id, accepted.parked_s)

    async def ask(self, shard: int, request: ShardRequest[R]) -> R:
        asked = PeerRequest(request=self._requests.number(), shard=shard, content=request)
        response: PeerResponse = await self._ask(asked, ASK_TIMEOUT_S)
        result: R = response.result
        return result

    async def _ask(self, request: Any, timeout_s: float) -> Any:
        try:
            response = await self._requests.ask(self.link, request, timeout_s=timeout_s)
        except ProtocolError as error:
            why = f"The message cannot be handed to the session's worker: {error}."
            raise Refusal(RefusalCode.MESSAGE_TOO_LARGE, why) from error
        except (LinkClosed, TimeoutError) as error:
            raise OwnerGone(str(error) or "no answer in time", may_have_it=True) from error
        if isinstance(response, PeerRefusal):
            code = RefusalCode(response.code)
            if code in (RefusalCode.NOT_OWNER, RefusalCode.TOO_LATE):
                raise OwnerGone(response.why, may_have_it=False)
            raise Refusal(code, response.why, response.retry_after_s, kept=response.kept)
        return response

    def _received(self, message: Any) -> None:
        match message:
            case TurnHappened():
                pending = self._accepted.get(message.request)
                if pending is not None:
                    pending.turn.hear(message.event)
                    if pending.turn.ended:
                        del self._accepted[message.request]
            case TurnAccepted():
                if message.parked_s is None:
                    self._accept(message)  # at once: the link may be lost before the waiting task runs
                self._requests.answer(message)
            case PeerResponse() | PeerRefusal():
                self._requests.answer(message)
            case _:
                raise ProtocolError(f"an owner does not say {type(message).__name__}")

    def _accept(self, message: TurnAccepted) -> None:
        number = message.request
        pending = self._submitted.pop(number, None)
        if pending is None:  # its caller has stopped waiting
            self._abandon(number)
        else:
            self._accepted[number] = pending
            pending.turn.attach(message.turn_id, lambda: self._leave(number))

    def _leave(self, number: int) -> None:
        """The caller went away, or waits no longer; an owner that has the turn, or is about to, is to know that."""
        if self._accepted.pop(number, None) is not None or number in self._submitted:
            self._abandon(number)

    def _abandon(self, number: int) -> None:
        with contextlib.suppress(LinkClosed):  # then the owner knows that its callers went away
            self.link.send(Abandon(request=number))

    def _lost(self, why: str) -> None:
        cut, self._accepted = self._accepted, {}
        self._requests.lost(why)
        for pending in cut.values():
            self._on_cut(pending)
