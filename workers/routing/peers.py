"""The owners among the other workers: a turn or a question that reached the wrong worker is handed to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

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
from hermes_actors.wire.refusals import RefusalCode
from workers.routing.owner import Handover, OwnerGone
from workers.routing.requests import Requests
from workers.turns import Parked, Refusal

CONNECT_TIMEOUT_S = 2.0
ACCEPT_TIMEOUT_S = 4.0  # within the router's OWNER_WAIT_S, so that there is time to ask again
ADMIT_TIMEOUT_S = 3.0  # after which the owner lets a turn be; the rest is for its commit and the way back
ASK_TIMEOUT_S = 5.0


class Peer:
    """Another worker as an :class:`workers.routing.owner.Owner`. The link is made when needed, anew after its loss.

    Args:
        path: the other worker's socket.
        hello: who calls.
        on_cut: called with each accepted turn whose owner went away before its end.
    """

    def __init__(self, path: str, hello: Hello, on_cut: Callable[[Handover], None]) -> None:
        self._path = path
        self._hello = hello
        self._on_cut = on_cut
        self._connecting = asyncio.Lock()
        self._linked: _LinkedOwner | None = None

    async def submit(self, shard: int, handover: Handover, *, again: bool) -> None:
        link = await self._connected()
        await link.submit(shard, handover, again=again)

    async def ask(self, shard: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        link = await self._connected()
        return await link.ask(shard, what, data)

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
    """The other worker over one link, from its start to its loss: a late word of an old link meets nobody."""

    def __init__(self, on_cut: Callable[[Handover], None]) -> None:
        self.link = FrameLink(self._received, self._lost)
        self._on_cut = on_cut
        self._requests = Requests()
        self._submitted: dict[int, Handover] = {}  # by request; not accepted yet
        self._accepted: dict[int, Handover] = {}  # by request; not over yet

    async def submit(self, shard: int, handover: Handover, *, again: bool) -> None:
        number = self._requests.number()
        submission = to_parts(replace(handover.submission, deadline=time.monotonic() + ADMIT_TIMEOUT_S))
        request = Submit(request=number, shard=shard, submission=submission, stream=handover.stream, again=again)
        self._submitted[number] = handover
        try:
            answer = await self._ask(request, ACCEPT_TIMEOUT_S)
        except BaseException:
            self._leave(number)
            raise
        finally:
            self._submitted.pop(number, None)
        if isinstance(answer, TurnRefused):
            code = RefusalCode(answer.code)
            if code in (RefusalCode.NOT_OWNER, RefusalCode.TOO_LATE):
                raise OwnerGone(answer.why, may_have_it=False)
            raise Refusal(code, answer.why, answer.retry_after_s)
        if isinstance(answer, TurnParked):
            raise Parked(answer.turn_id, answer.retry_after_s)

    async def ask(self, shard: int, what: str, data: dict[str, Any]) -> dict[str, Any]:
        request = Ask(request=self._requests.number(), shard=shard, what=what, data=data)
        answer: Told = await self._ask(request, ASK_TIMEOUT_S)
        if answer.error == RefusalCode.NOT_OWNER:
            raise OwnerGone(answer.why, may_have_it=False)
        if answer.error is not None:
            raise Refusal(RefusalCode(answer.error), answer.why)
        return answer.data

    async def _ask(self, request: Any, timeout_s: float) -> Any:
        try:
            return await self._requests.ask(self.link, request, timeout_s=timeout_s)
        except ProtocolError as error:
            why = f"The message cannot be handed to the session's worker: {error}."
            raise Refusal(RefusalCode.MESSAGE_TOO_LARGE, why) from error
        except (LinkClosed, TimeoutError) as error:
            raise OwnerGone(str(error) or "no answer in time", may_have_it=True) from error

    def _received(self, message: Any) -> None:
        match message:
            case TurnEventFrame():
                handover = self._accepted.get(message.request)
                if handover is not None:
                    handover.turn.hear(from_parts(message.event))
                    if handover.turn.ended:
                        del self._accepted[message.request]
            case TurnAccepted():
                self._accept(message)  # not left to the one who waits: the link may be lost before its turn comes
                self._requests.answer(message)
            case TurnRefused() | TurnParked() | Told():
                self._requests.answer(message)
            case _:
                raise ProtocolError(f"an owner does not say {type(message).__name__}")

    def _accept(self, message: TurnAccepted) -> None:
        number = message.request
        handover = self._submitted.pop(number, None)
        if handover is None:  # its caller has stopped waiting
            self._abandon(number)
        else:
            self._accepted[number] = handover
            handover.turn.attach(message.turn_id, lambda: self._leave(number))

    def _leave(self, number: int) -> None:
        if self._accepted.pop(number, None) is not None:
            self._abandon(number)

    def _abandon(self, number: int) -> None:
        with contextlib.suppress(LinkClosed):  # an owner that is gone needs no telling
            self.link.send(Abandon(request=number))

    def _lost(self, why: str) -> None:
        cut, self._accepted = self._accepted, {}
        self._requests.lost(why)
        for handover in cut.values():
            self._on_cut(handover)
