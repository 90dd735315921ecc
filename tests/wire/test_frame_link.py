"""Links over real sockets: whole messages in order, bounds, and a loss that is told once."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fakes.virtual_time import step
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.wire import link as link_module
from hermes_actors.wire.codec import ProtocolError, encode
from hermes_actors.wire.frames import MAX_FRAME_BYTES
from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.messages import NoTurnRuns
from hermes_actors.wire.tags import message

BOUND_S = 5.0


@message("sample_of_links")
class Sample:
    """Something that travels."""

    number: int
    data: dict[str, Any]


class End:
    """A link and what it told."""

    def __init__(self, on_message: Callable[[Any], None] | None = None) -> None:
        self.messages: list[Any] = []
        self.losses: list[str] = []
        self._news = asyncio.Condition()
        self._on_message = on_message
        self._tasks: set[asyncio.Task[None]] = set()
        self.link = FrameLink(self._received, self._lost)

    def _received(self, message: Any) -> None:
        self.messages.append(message)
        self._tell()
        if self._on_message is not None:
            self._on_message(message)

    def _lost(self, why: str) -> None:
        self.losses.append(why)
        self._tell()

    def _tell(self) -> None:
        async def notify() -> None:
            async with self._news:
                self._news.notify_all()

        task = asyncio.ensure_future(notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until(self, holds: Callable[[End], bool]) -> None:
        async with asyncio.timeout(BOUND_S), self._news:
            await self._news.wait_for(lambda: holds(self))

    async def lost(self) -> str:
        await self.until(lambda end: bool(end.losses))
        return self.losses[0]


async def opened(end: End, sock: socket.socket) -> End:
    await asyncio.get_running_loop().create_connection(lambda: end.link, sock=sock)
    return end


@pytest.fixture
async def pair() -> AsyncIterator[tuple[End, End]]:
    """Two linked ends."""
    ours, theirs = socket.socketpair()
    ends = await opened(End(), ours), await opened(End(), theirs)
    yield ends
    for end in ends:
        end.link.close()
        await end.lost()


@pytest.fixture
async def half() -> AsyncIterator[tuple[End, socket.socket]]:
    """A linked end, and a bare socket at the other."""
    ours, theirs = socket.socketpair()
    end = await opened(End(), ours)
    theirs.setblocking(False)
    yield end, theirs
    theirs.close()
    await end.lost()


def frame(message: Any) -> bytes:
    body = encode(message)
    return struct.pack(">I", len(body)) + body


async def put(sock: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(BOUND_S):
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def test_messages_arrive_whole_and_in_order(pair: tuple[End, End]) -> None:
    ours, theirs = pair
    sent = [Sample(number=number, data={}) for number in range(1000)]
    for sample in sent:
        ours.link.send(sample)

    await theirs.until(lambda end: len(end.messages) == 1000)

    assert theirs.messages == sent


async def test_a_message_as_large_as_a_frame_arrives_and_one_byte_more_is_refused(pair: tuple[End, End]) -> None:
    ours, theirs = pair
    room = MAX_FRAME_BYTES - len(encode(Sample(number=1, data={"x": b"\0" * 70_000}))) + 70_000
    with pytest.raises(ProtocolError, match="a frame holds"):
        ours.link.send(Sample(number=1, data={"x": b"\0" * (room + 1)}))

    ours.link.send(Sample(number=1, data={"x": b"\0" * room}))

    await theirs.until(lambda end: len(end.messages) == 1)


async def test_a_frame_that_comes_byte_by_byte_is_one_message(half: tuple[End, socket.socket]) -> None:
    end, other = half
    for byte in frame(NoTurnRuns(number=15)):
        await put(other, bytes([byte]))
        await step()

    await end.until(lambda end: len(end.messages) == 1)

    assert end.messages == [NoTurnRuns(number=15)]


@given(cuts=st.lists(st.integers(1, 60), max_size=20))
async def test_however_the_stream_is_cut_the_messages_are_the_same(cuts: list[int]) -> None:
    sent = [NoTurnRuns(number=number) for number in range(5)]
    stream = b"".join(map(frame, sent))
    end = End()
    end.link.connection_made(asyncio.Transport())

    for cut in [*cuts, len(stream)]:
        end.link.data_received(stream[:cut])
        stream = stream[cut:]

    assert end.messages == sent


async def test_a_frame_that_announces_too_much_ends_the_link_before_it_is_read(
    half: tuple[End, socket.socket],
) -> None:
    end, other = half
    await put(other, struct.pack(">I", MAX_FRAME_BYTES + 1))

    assert "the limit is" in await end.lost()


@pytest.mark.parametrize("body", [b"\xc1", b"\x90", b"\x91\xa7unknown", b"\x92\xa4stop\xc0\xc0", b""])
async def test_what_is_no_message_ends_the_link_and_nothing_after_it_is_heard(
    half: tuple[End, socket.socket], body: bytes
) -> None:
    end, other = half
    await put(other, frame(NoTurnRuns(number=1)) + struct.pack(">I", len(body)) + body + frame(NoTurnRuns(number=2)))

    await end.lost()

    assert end.messages == [NoTurnRuns(number=1)]


async def test_a_receiver_may_end_the_link_by_a_protocol_error(half: tuple[End, socket.socket]) -> None:
    end, other = half

    def refuse(_: Any) -> None:
        raise ProtocolError("not now")

    end._on_message = refuse
    await put(other, frame(NoTurnRuns(number=1)) + frame(NoTurnRuns(number=2)))

    assert await end.lost() == "not now"
    assert len(end.messages) == 1


async def test_a_bug_in_a_receiver_ends_its_link_and_is_reported(half: tuple[End, socket.socket]) -> None:
    end, other = half
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def fail(_: Any) -> None:
        raise ZeroDivisionError("ours")

    end._on_message = fail
    await put(other, frame(NoTurnRuns(number=1)) + frame(NoTurnRuns(number=2)))

    assert await end.lost() == "ours"
    assert len(end.messages) == 1
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_a_loss_is_told_once_and_then_nothing_can_be_sent(pair: tuple[End, End]) -> None:
    ours, theirs = pair
    theirs.link.close()
    await ours.lost()
    ours.link.close()
    ours.link.close()
    for _ in range(5):
        await step()

    with pytest.raises(LinkClosed):
        ours.link.send(NoTurnRuns(number=1))
    with pytest.raises(LinkClosed):
        await ours.link.drained()
    assert ours.link.closed
    assert len(ours.losses) == 1


async def test_what_was_sent_before_a_close_still_arrives(pair: tuple[End, End]) -> None:
    ours, theirs = pair
    large = Sample(number=1, data={"x": b"\0" * 5_000_000})
    ours.link.send(large)
    ours.link.send(NoTurnRuns(number=1))
    ours.link.close()

    await theirs.lost()

    assert theirs.messages == [large, NoTurnRuns(number=1)]


async def test_a_link_that_is_not_open_yet_takes_nothing() -> None:
    link = End().link

    assert link.closed
    with pytest.raises(LinkClosed):
        link.send(NoTurnRuns(number=1))


async def test_who_does_not_read_is_waited_for_and_then_dropped(
    half: tuple[End, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    end, _ = half
    monkeypatch.setattr(link_module, "MAX_UNSENT_BYTES", 3_000_000)
    piece = Sample(number=1, data={"x": b"\0" * 1_000_000})
    end.link.send(piece)
    await step()
    drained = asyncio.ensure_future(end.link.drained())
    await step()
    assert not drained.done()

    for _ in range(5):
        if not end.link.closed:
            end.link.send(piece)
        await step()

    assert "unread" in await end.lost()
    with pytest.raises(LinkClosed):
        await drained


async def test_a_sender_goes_on_once_the_other_end_has_read(pair: tuple[End, End]) -> None:
    ours, theirs = pair
    for _ in range(5):
        ours.link.send(Sample(number=1, data={"x": b"\0" * 1_000_000}))
        async with asyncio.timeout(BOUND_S):
            await ours.link.drained()

    await theirs.until(lambda end: len(end.messages) == 5)
