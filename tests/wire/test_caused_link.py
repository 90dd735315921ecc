"""The number of the event that led to a message: it travels with it, and the answer carries it on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.control_peer import BOUND_S
from structlog.contextvars import bound_contextvars

from hermes_actors.wire.caused import CausedLink, cause
from hermes_actors.wire.link import FrameLink
from hermes_actors.wire.messages import Query, Ready, Seal, Sealed


class End:
    """One end of the link; ``answers`` to each Seal."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[Any, int | None]] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.link = CausedLink(self._received, self.lost.put_nowait)

    def _received(self, message: Any) -> None:
        self.heard.put_nowait((message, cause()))
        if isinstance(message, Seal):
            self.link.send(Sealed(request=message.request, cut=[], busy=[], stateless=0))

    async def next(self) -> tuple[Any, int | None]:
        async with asyncio.timeout(BOUND_S):
            return await self.heard.get()


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Two ends of a link that was opened while something had a cause."""
    supervisor, worker = End(), End()
    loop = asyncio.get_running_loop()
    with bound_contextvars(cause=3):
        for end, sock in zip((supervisor, worker), socket.socketpair(), strict=True):
            await loop.create_connection(lambda end=end: end.link, sock=sock)  # type: ignore[misc]  # a default
    yield supervisor, worker
    supervisor.link.close()
    worker.link.close()


async def test_a_message_has_the_cause_of_what_sent_it_and_its_answer_carries_it_on(ends: tuple[End, End]) -> None:
    supervisor, worker = ends

    with bound_contextvars(cause=17):
        supervisor.link.send(Seal(request=1))

    assert await worker.next() == (Seal(request=1), 17)
    assert await supervisor.next() == (Sealed(request=1, cut=[], busy=[], stateless=0), 17)
    assert cause() is None, "nothing of it stays"


async def test_what_a_worker_says_by_itself_has_no_cause(ends: tuple[End, End]) -> None:
    supervisor, worker = ends

    worker.link.send(Ready())

    assert await supervisor.next() == (Ready(), None)


async def test_a_message_without_its_cause_ends_the_link() -> None:
    end, other = End(), FrameLink(lambda _: None, lambda _: None)
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: end.link, sock=ours)
    await loop.create_connection(lambda: other, sock=theirs)

    other.send(Query(request=1, operation="mcp", arguments={}))

    async with asyncio.timeout(BOUND_S):
        assert await end.lost.get() == "a message of this link comes in Caused, not Query"
    other.close()
