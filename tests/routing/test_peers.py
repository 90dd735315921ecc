"""One worker and its owner over a real socket: who may call, what is told, and what a broken link means when."""

from __future__ import annotations

import asyncio
import math
import socket
import stat
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from fakes.cluster import BOOT, ended, heard
from fakes.sessions import BOUND_S, until
from fakes.store_samples import submission

from hermes_actors.wire.link import FrameLink, LinkClosed
from hermes_actors.wire.messages import StopWorker
from hermes_actors.wire.refusals import RefusalCode
from workers.routing.listening_turn import ListeningTurn
from workers.routing.messages import (
    Abandon,
    DescribeSession,
    Hello,
    PeerRequest,
    PeerResponse,
    ShardRequest,
    Submit,
    TurnAccepted,
    TurnHappened,
)
from workers.routing.owner import OwnerGone, PendingTurn, TurnCaller
from workers.routing.peer_server import PeerServer
from workers.routing.peers import ACCEPT_TIMEOUT_S, ADMIT_TIMEOUT_S, Peer
from workers.sessions.feed import TurnFeed
from workers.turn_errors import cancelled_error, unstored_end
from workers.turns import Delta, Ended, Refusal, Submission

HELLO = Hello(boot=BOOT, slot=0, generation=1)
R = TypeVar("R")
Pending = PendingTurn[ListeningTurn]
DESCRIBE = DescribeSession(key="a")


def end_of(feed: TurnFeed) -> Ended:
    return unstored_end(feed.turn_id, "ses", "cancelled", cancelled_error())


class FakeOwner:
    """What an owner does with what other workers send it; ``refuse`` and ``gate`` steer it."""

    def __init__(self) -> None:
        self.feeds: list[TurnFeed] = []
        self.sent: list[tuple[int, Submission, bool]] = []
        self.abandoned: list[str] = []
        self.withdrawn: list[str] = []  # before they were accepted
        self.refuse: Refusal | None = None
        self.known: TurnFeed | None = None  # a turn that was handed over before
        self.gate = asyncio.Event()
        self.gate.set()

    async def submit(self, shard: int, pending: PendingTurn[TurnCaller], *, again: bool) -> None:
        message = pending.submission
        assert isinstance(message, Submission)
        self.sent.append((shard, message, again))
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.withdrawn.append(message.turn_id)
            raise
        if self.refuse is not None:
            raise self.refuse
        feed = self.known or TurnFeed(message.turn_id, message.fingerprint)
        feed.on_abandoned = lambda: self.abandoned.append(feed.turn_id)
        self.feeds.append(feed)
        pending.turn.attach(feed.turn_id, lambda: feed.leave(pending.turn.hear))
        feed.listen(pending.turn.hear, stream=pending.stream)

    async def ask(self, shard: int, request: ShardRequest[R]) -> R:
        await self.gate.wait()
        if self.refuse is not None:
            raise self.refuse
        return cast("R", [shard, request])


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


@pytest.fixture
async def server(tmp_path: Path, owner: FakeOwner) -> AsyncIterator[PeerServer]:
    made = PeerServer(tmp_path / "owner.sock", BOOT, owner)
    await made.start()
    yield made
    owner.gate.set()
    await made.close()
    await until(lambda: not made._callers)


@pytest.fixture
def cut() -> list[Pending]:
    return []


@pytest.fixture
async def peer(tmp_path: Path, server: PeerServer, cut: list[Pending]) -> AsyncIterator[Peer]:
    made = Peer(str(tmp_path / "owner.sock"), HELLO, cut.append)
    yield made
    made.close()


def pending(turn_id: str = "turn_1", *, stream: bool = True) -> Pending:
    return PendingTurn(submission=submission(turn_id=turn_id), turn=ListeningTurn(turn_id), stream=stream)


class RawOwner:
    """The owner's end of a link, played frame by frame."""

    def __init__(self, path: Path) -> None:
        self.messages: list[Any] = []
        self.lost = False
        self.link = FrameLink(self.messages.append, lambda _: setattr(self, "lost", True))
        self.path = path

    async def start(self) -> asyncio.Server:
        return await asyncio.get_running_loop().create_unix_server(lambda: self.link, str(self.path))

    async def until_told(self, kind: type[Any]) -> Any:
        await until(lambda: any(isinstance(message, kind) for message in self.messages))
        return next(message for message in self.messages if isinstance(message, kind))


@pytest.fixture
async def raw(tmp_path: Path) -> AsyncIterator[RawOwner]:
    made = RawOwner(tmp_path / "raw.sock")
    server = await made.start()
    yield made
    server.close()
    made.link.close()
    await until(lambda: made.link._transport is None or made.lost)


# -- what goes well -----------------------------------------------------------------------------------------------


async def test_a_turn_is_handed_over_and_its_events_come_back_in_order(peer: Peer, owner: FakeOwner) -> None:
    sent = pending()
    await peer.submit(3, sent, again=True)
    (feed,) = owner.feeds
    feed.reasoning("hm")
    feed.text("one ")
    feed.tool("call", "mcp__a__x", "running")
    feed.text("two")
    feed.end(end_of(feed))

    events = await heard(sent.turn)

    ((shard, submitted, again),) = owner.sent
    assert (shard, replace(submitted, deadline=math.inf), again) == (3, sent.submission, True)
    assert [type(event).__name__ for event in events] == ["Reasoning", "Delta", "ToolProgress", "Delta", "Ended"]
    assert peer._linked is not None
    assert peer._linked._accepted == peer._linked._submitted == {}


async def test_a_turn_travels_with_the_seconds_that_its_caller_waits(raw: RawOwner) -> None:
    peer = Peer(str(raw.path), HELLO, lambda _: None)
    submitting = asyncio.ensure_future(peer.submit(0, pending(), again=False))

    request = await raw.until_told(Submit)

    assert request.within_s == ADMIT_TIMEOUT_S < ACCEPT_TIMEOUT_S
    assert request.submission.deadline == math.inf
    submitting.cancel()
    peer.close()


async def test_an_owner_begins_a_turn_within_those_seconds_by_its_own_clock(
    tmp_path: Path, server: PeerServer, owner: FakeOwner
) -> None:
    caller, before = RawCaller(), time.monotonic()

    await caller.call(tmp_path / "owner.sock", HELLO, submit())
    await until(lambda: bool(owner.sent))

    ((_, submitted, _),) = owner.sent
    assert before + BOUND_S <= submitted.deadline <= time.monotonic() + BOUND_S
    caller.link.close()


async def test_the_id_of_an_earlier_turn_comes_with_its_acceptance(peer: Peer, owner: FakeOwner) -> None:
    owner.known = TurnFeed("turn_0", b"")
    sent = pending("turn_1")

    await peer.submit(0, sent, again=False)

    assert sent.turn.turn_id == "turn_0"


async def test_questions_are_answered_and_refusals_are_told(peer: Peer, owner: FakeOwner) -> None:
    assert cast("object", await peer.ask(2, DESCRIBE)) == [2, DESCRIBE]
    owner.refuse = Refusal(RefusalCode.SESSION_NOT_FOUND, "There is none.")

    with pytest.raises(Refusal) as refused:
        await peer.ask(2, DESCRIBE)

    assert (refused.value.code, refused.value.why) == ("session_not_found", "There is none.")


async def test_a_refused_turn_is_told_and_nothing_is_kept(peer: Peer, owner: FakeOwner, cut: list[Pending]) -> None:
    owner.refuse = Refusal(RefusalCode.MAILBOX_FULL, "Full.", 2.0)

    with pytest.raises(Refusal) as refused:
        await peer.submit(0, pending(), again=False)

    assert (refused.value.code, refused.value.retry_after_s) == ("mailbox_full", 2.0)
    assert peer._linked is not None
    assert peer._linked._accepted == peer._linked._submitted == {}
    assert cut == []


@pytest.mark.parametrize("code", [RefusalCode.NOT_OWNER, RefusalCode.TOO_LATE])
async def test_an_owner_that_has_no_business_with_a_turn_counts_as_gone_and_has_it_not(
    peer: Peer, owner: FakeOwner, code: RefusalCode
) -> None:
    owner.refuse = Refusal(code, "No.")

    with pytest.raises(OwnerGone) as gone:
        await peer.submit(0, pending(), again=False)

    assert not gone.value.may_have_it


async def test_an_owner_that_has_the_shard_no_more_is_not_asked_about_it(peer: Peer, owner: FakeOwner) -> None:
    owner.refuse = Refusal(RefusalCode.NOT_OWNER, "Shard 0 is not open here.")

    with pytest.raises(OwnerGone):
        await peer.ask(0, DESCRIBE)


async def test_many_at_once_share_one_link(peer: Peer, server: PeerServer, owner: FakeOwner) -> None:
    await asyncio.gather(*(peer.submit(0, pending(f"turn_{n}"), again=False) for n in range(50)))

    assert len(owner.feeds) == 50
    assert len(server._callers) == 1


async def test_a_caller_who_leaves_is_told_to_the_owner(peer: Peer, owner: FakeOwner) -> None:
    sent = pending()
    await peer.submit(0, sent, again=False)

    sent.turn.abandon()

    await until(lambda: owner.abandoned == ["turn_1"])


async def test_an_owner_does_not_go_on_admitting_what_its_submitter_gave_up(peer: Peer, owner: FakeOwner) -> None:
    owner.gate.clear()
    submitting = asyncio.ensure_future(peer.submit(0, pending(), again=False))
    await until(lambda: bool(owner.sent))

    submitting.cancel()

    await until(lambda: owner.withdrawn == ["turn_1"])
    assert owner.feeds == []


async def test_what_an_owner_accepts_after_its_submitter_gave_up_is_abandoned(raw: RawOwner) -> None:
    peer = Peer(str(raw.path), HELLO, lambda _: None)
    submitting = asyncio.ensure_future(peer.submit(0, pending(), again=False))
    request = await raw.until_told(Submit)
    submitting.cancel()
    await raw.until_told(Abandon)

    raw.link.send(TurnAccepted(request=request.request, turn_id="turn_1", parked_s=None))

    await until(lambda: sum(isinstance(message, Abandon) for message in raw.messages) == 2)
    peer.close()


async def test_a_submitter_cancelled_in_the_moment_of_acceptance_abandons_the_turn(raw: RawOwner) -> None:
    peer = Peer(str(raw.path), HELLO, lambda _: None)
    submitting = asyncio.ensure_future(peer.submit(0, pending(), again=False))
    request = await raw.until_told(Submit)
    assert peer._linked is not None

    peer._linked._received(TurnAccepted(request=request.request, turn_id="turn_1", parked_s=None))
    submitting.cancel()

    abandoned = await raw.until_told(Abandon)
    assert abandoned.request == request.request
    assert peer._linked._accepted == {}
    peer.close()


# -- links that break ---------------------------------------------------------------------------------------------


async def test_nobody_at_the_path_counts_as_gone(tmp_path: Path) -> None:
    with pytest.raises(OwnerGone, match=r"missing\.sock") as gone:
        await Peer(str(tmp_path / "missing.sock"), HELLO, lambda _: None).ask(0, DESCRIBE)

    assert not gone.value.may_have_it


async def test_an_owner_that_dies_as_soon_as_it_has_accepted_is_gone(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(_link: FrameLink, _message: object) -> None:
        raise LinkClosed("closed by the other end")

    monkeypatch.setattr(FrameLink, "send", send)  # as after the kernel's word of it, which comes at no certain time

    with pytest.raises(OwnerGone, match="closed by the other end"):
        await peer.ask(0, DESCRIBE)


async def test_a_link_lost_before_acceptance_leaves_it_unknown(raw: RawOwner, cut: list[Pending]) -> None:
    peer = Peer(str(raw.path), HELLO, cut.append)
    submitting = asyncio.ensure_future(peer.submit(0, pending(), again=False))
    await raw.until_told(Submit)

    raw.link.close()

    with pytest.raises(OwnerGone) as gone:
        await submitting
    assert gone.value.may_have_it
    assert cut == []


async def test_a_link_lost_after_acceptance_cuts_the_turn_once(raw: RawOwner, cut: list[Pending]) -> None:
    peer = Peer(str(raw.path), HELLO, cut.append)
    sent = pending()
    submitting = asyncio.ensure_future(peer.submit(0, sent, again=False))
    request = await raw.until_told(Submit)
    raw.link.send(TurnAccepted(request=request.request, turn_id="turn_1", parked_s=None))
    await submitting

    raw.link.close()

    await until(lambda: cut == [sent])


async def test_a_link_lost_in_the_moment_of_acceptance_cuts_the_turn(raw: RawOwner, cut: list[Pending]) -> None:
    peer = Peer(str(raw.path), HELLO, cut.append)
    sent = pending()
    submitting = asyncio.ensure_future(peer.submit(0, sent, again=False))
    request = await raw.until_told(Submit)
    assert peer._linked is not None

    linked = peer._linked  # both are read before the one who waits has its turn
    linked._received(TurnAccepted(request=request.request, turn_id="turn_1", parked_s=None))
    linked._lost("closed by the other end")

    await submitting
    assert cut == [sent]
    peer.close()


async def test_an_accepted_turn_that_ended_is_not_cut_by_a_loss(raw: RawOwner, cut: list[Pending]) -> None:
    peer = Peer(str(raw.path), HELLO, cut.append)
    sent = pending()
    submitting = asyncio.ensure_future(peer.submit(0, sent, again=False))
    request = await raw.until_told(Submit)
    raw.link.send(TurnAccepted(request=request.request, turn_id="turn_1", parked_s=None))
    raw.link.send(TurnHappened(request=request.request, event=Delta(text="all")))
    end = unstored_end("turn_1", "ses", "cancelled", cancelled_error())
    raw.link.send(TurnHappened(request=request.request, event=end))
    raw.link.close()
    await submitting

    assert (await ended(sent.turn)) == end
    await until(lambda: peer._linked is not None and peer._linked.link.closed)
    assert cut == []


async def test_an_owner_that_says_what_owners_do_not_say_is_dropped(raw: RawOwner) -> None:
    peer = Peer(str(raw.path), HELLO, lambda _: None)
    asking = asyncio.ensure_future(peer.ask(0, DESCRIBE))
    await raw.until_told(PeerRequest)

    raw.link.send(StopWorker())

    with pytest.raises(OwnerGone, match="does not say Stop"):
        await asking


async def test_an_answer_that_comes_too_late_meets_nobody(raw: RawOwner) -> None:
    peer = Peer(str(raw.path), HELLO, lambda _: None)
    with pytest.raises(OwnerGone, match="no answer in time"):
        await peer.ask(0, DESCRIBE)
    first = await raw.until_told(PeerRequest)
    again = asyncio.ensure_future(peer.ask(1, DESCRIBE))
    await until(lambda: len([m for m in raw.messages if isinstance(m, PeerRequest)]) == 2)

    raw.link.send(PeerResponse(request=first.request, result="late"))
    raw.link.send(PeerResponse(request=first.request + 1, result="in time"))

    assert cast("object", await again) == "in time"
    peer.close()


async def test_the_loss_of_an_old_link_says_nothing_about_the_new_one(
    peer: Peer, owner: FakeOwner, cut: list[Pending]
) -> None:
    await peer.ask(0, DESCRIBE)
    old = peer._linked
    assert old is not None
    lost: Callable[[str], None] = old._lost
    old.link._on_lost = lambda _: None  # the word of its loss is late
    old.link._abort("broken")
    await until(lambda: old.link.closed)
    sent = pending()
    await peer.submit(0, sent, again=False)

    lost("broken")

    assert cut == []
    owner.feeds[0].end(end_of(owner.feeds[0]))
    await ended(sent.turn)


# -- who may call -------------------------------------------------------------------------------------------------


class RawCaller:
    """A caller, played frame by frame."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.lost = False
        self.link = FrameLink(self.messages.append, lambda _: setattr(self, "lost", True))

    async def call(self, path: Path, *messages: Any) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self.link, str(path))
        for message in messages:
            self.link.send(message)


def submit(number: int = 1) -> Submit:
    return Submit(request=number, shard=0, submission=submission(), stream=True, again=False, within_s=BOUND_S)


@pytest.mark.parametrize(
    "messages",
    [
        [submit()],
        [Hello(boot="another boot", slot=0, generation=1), submit()],
        [HELLO, StopWorker()],
        [HELLO, replace(submit(), submission=["unknown"])],  # type: ignore[arg-type]  # that is the fault
        [HELLO, replace(submit(), submission=Delta(text="x"))],  # type: ignore[arg-type]  # that is the fault
        [HELLO, PeerRequest(request=1, shard=0, content=HELLO)],  # type: ignore[arg-type]  # that is the fault
    ],
    ids=["no hello", "another boot", "no such order", "no turn", "another message", "no request"],
)
async def test_who_does_not_keep_to_the_protocol_is_dropped(
    tmp_path: Path, server: PeerServer, owner: FakeOwner, messages: list[Any]
) -> None:
    caller = RawCaller()
    await caller.call(tmp_path / "owner.sock", *messages)

    await until(lambda: caller.lost)

    assert owner.sent == []
    await until(lambda: not server._callers)


async def test_a_caller_whose_link_is_lost_leaves_its_turns(
    tmp_path: Path, server: PeerServer, owner: FakeOwner
) -> None:
    caller = RawCaller()
    await caller.call(tmp_path / "owner.sock", HELLO, submit())
    await until(lambda: bool(caller.messages))

    caller.link.close()

    await until(lambda: owner.abandoned == ["turn_1"])
    await until(lambda: not server._callers)


async def test_a_turn_accepted_after_its_callers_link_was_lost_is_abandoned(
    tmp_path: Path, server: PeerServer, owner: FakeOwner
) -> None:
    owner.gate.clear()
    caller = RawCaller()
    await caller.call(tmp_path / "owner.sock", HELLO, submit())
    await until(lambda: bool(owner.sent))
    caller.link.close()
    await until(lambda: not server._callers)

    owner.gate.set()

    await until(lambda: owner.abandoned == ["turn_1"])


async def test_a_turn_that_another_caller_hears_is_not_abandoned(
    tmp_path: Path, server: PeerServer, owner: FakeOwner
) -> None:
    feed = owner.known = TurnFeed("turn_1", b"")
    one, other = RawCaller(), RawCaller()
    await one.call(tmp_path / "owner.sock", HELLO, submit())
    await other.call(tmp_path / "owner.sock", HELLO, submit())
    await until(lambda: len(one.messages) == len(other.messages) == 1)

    one.link.send(Abandon(request=1))
    one.link.close()
    await until(lambda: len(server._callers) == 1)

    assert owner.abandoned == []
    feed.end(end_of(feed))
    await until(lambda: len(other.messages) == 2)
    other.link.close()


async def test_the_socket_is_for_its_owner_alone(tmp_path: Path, server: PeerServer) -> None:
    assert stat.S_IMODE((tmp_path / "owner.sock").stat().st_mode) == 0o600


async def test_what_a_dead_worker_left_at_the_path_is_replaced(tmp_path: Path, owner: FakeOwner) -> None:
    path = tmp_path / "left.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    server = PeerServer(path, BOOT, owner)

    await server.start()

    peer = Peer(str(path), HELLO, lambda _: None)
    assert await peer.ask(0, DESCRIBE)
    peer.close()
    await server.close()
    await until(lambda: not server._callers)


async def test_a_worker_that_ends_late_does_not_take_its_successor_off_the_path(
    tmp_path: Path, server: PeerServer, owner: FakeOwner
) -> None:
    path = tmp_path / "owner.sock"
    successor = PeerServer(path, BOOT, owner)
    await successor.start()

    await server.close()

    peer = Peer(str(path), HELLO, lambda _: None)
    assert await peer.ask(0, DESCRIBE)
    peer.close()
    await successor.close()
    await until(lambda: not successor._callers)
