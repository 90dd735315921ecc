"""Questions that wait for answers on a link, and the supervisor's registry behind one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fakes.shard_store import FakeShardStore
from fakes.virtual_time import until_idle

from hermes_actors.wire.link import LinkClosed
from hermes_actors.wire.messages import (
    Activate,
    Activated,
    Forget,
    ListSessions,
    Recorded,
    Recovered,
    Refused,
    Reset,
    Resume,
    SessionPage,
    Succeeded,
)
from hermes_actors.wire.records import CutTurn, Fresh, Interrupted, Suspended
from workers.routing.registry import RemoteRegistry
from workers.routing.requests import Requests
from workers.sessions.marks import UNMARKED, Marks
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.registry import SessionRecord
from workers.turns import Refusal


class FakeLink:
    """Gives each message to ``answer``, if there is one."""

    closed = False

    def __init__(self, answer: Callable[[Any], None] | None = None) -> None:
        self.sent: list[Any] = []
        self.answer = answer

    def send(self, message: Any) -> None:
        if self.closed:
            raise LinkClosed("gone")
        self.sent.append(message)
        if self.answer is not None:
            self.answer(message)

    async def drained(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def question(requests: Requests) -> Forget:
    return Forget(request=requests.number(), key="a", shard=0, fence=1)


# -- requests -----------------------------------------------------------------------------------------------------


async def test_each_answer_reaches_the_one_who_asked_whatever_their_order() -> None:
    requests, link = Requests(), FakeLink()
    asked = [asyncio.ensure_future(requests.ask(link, question(requests), timeout_s=5.0)) for _ in range(3)]
    await until_idle()

    for sent in reversed(link.sent):
        requests.answer(Recorded(request=sent.request))

    assert [(await one).request for one in asked] == [sent.request for sent in link.sent]
    assert requests._waiting == {}


async def test_who_gets_no_answer_in_time_waits_no_longer_and_a_late_one_is_dropped() -> None:
    requests, link = Requests(), FakeLink()
    with pytest.raises(TimeoutError):
        await requests.ask(link, question(requests), timeout_s=0.0)

    requests.answer(Recorded(request=1))

    assert requests._waiting == {}


async def test_a_lost_link_is_told_to_all_who_wait() -> None:
    requests, link = Requests(), FakeLink()
    asked = [asyncio.ensure_future(requests.ask(link, question(requests), timeout_s=5.0)) for _ in range(3)]
    await until_idle()

    requests.lost("gone")

    assert [str(error) for error in await asyncio.gather(*asked, return_exceptions=True)] == ["gone"] * 3
    assert requests._waiting == {}


async def test_nothing_waits_for_what_could_not_be_sent() -> None:
    requests, link = Requests(), FakeLink()
    link.close()

    with pytest.raises(LinkClosed):
        await requests.ask(link, question(requests), timeout_s=5.0)

    assert requests._waiting == {}


# -- the registry -------------------------------------------------------------------------------------------------


def registry_that(answer: Callable[[Any], Any]) -> RemoteRegistry:
    requests = Requests()
    return RemoteRegistry(FakeLink(lambda message: requests.answer(answer(message))), requests)


SHARD = OwnedShard(number=3, fence=7, store=FakeShardStore())


def activated(message: Any, **marks: Any) -> Activated:
    given: dict[str, Any] = {"resume": None, "fresh": None, "strikes": 0}
    return Activated(request=message.request, session_id="ses", created_at=1.5, **(given | marks))


async def test_the_session_of_a_key_is_asked_for_under_the_shards_fence() -> None:
    seen: list[Activate] = []

    def answer(message: Activate) -> Activated:
        seen.append(message)
        return activated(message)

    record = await registry_that(answer).activate("key", "anna", SHARD, create=True)

    assert record == SessionRecord(session_id="ses", created_at=1.5, marks=UNMARKED)
    assert seen == [Activate(request=1, key="key", principal="anna", shard=3, fence=7, create=True)]


async def test_what_a_session_carries_comes_with_it() -> None:
    marks = {"resume": Interrupted("crash", 2.5), "fresh": Fresh("operator", 3.5, "ses_former"), "strikes": 2}

    record = await registry_that(lambda message: activated(message, **marks)).activate(
        "key", "anna", SHARD, create=True
    )

    assert record.marks == Marks(
        resume=Interrupted(reason="crash", at=2.5),
        fresh=Fresh(reason="operator", at=3.5, former_id="ses_former"),
        strikes=2,
    )


async def test_a_session_that_is_only_looked_at_may_be_suspended() -> None:
    registry = registry_that(lambda message: activated(message, suspended=Suspended("operator", 2.5)))

    record = await registry.activate("key", "anna", SHARD, create=False)

    assert record.suspended == Suspended(reason="operator", at=2.5)


async def test_a_session_is_reset_and_resumed_under_the_shards_fence() -> None:
    seen: list[Any] = []

    def answer(message: Any) -> Activated:
        seen.append(message)
        return activated(message)

    registry = registry_that(answer)

    assert (await registry.reset("key", SHARD)).session_id == "ses"
    assert (await registry.resume("key", SHARD)).session_id == "ses"
    assert seen == [
        Reset(request=1, key="key", shard=3, fence=7),
        Resume(request=2, key="key", shard=3, fence=7),
    ]


async def test_a_success_and_what_was_recovered_are_told_until_they_are_recorded() -> None:
    seen: list[Any] = []

    def answer(message: Any) -> Recorded:
        seen.append(message)
        return Recorded(request=message.request)

    registry = registry_that(answer)
    await registry.succeeded("key", SHARD, "turn")
    await registry.recovered(SHARD, [CutTurn("key", "turn", "ses_1")], ["other"])

    assert seen == [
        Succeeded(request=1, key="key", shard=3, fence=7, turn_id="turn"),
        Recovered(request=2, shard=3, fence=7, cut=[CutTurn("key", "turn", "ses_1")], queued=["other"]),
    ]


async def test_a_page_of_sessions_comes_with_its_cursor() -> None:
    def answer(message: ListSessions) -> SessionPage:
        return SessionPage(request=message.request, sessions=[{"key": message.principal}], next="cursor")

    assert await registry_that(answer).page("anna", None, 5) == ([{"key": "anna"}], "cursor")


@pytest.mark.parametrize(
    ("code", "told"),
    [("not_found", "session_not_found"), ("stale_fence", "shard_unavailable")],
)
async def test_what_the_supervisor_refuses_is_refused(code: str, told: str) -> None:
    registry = registry_that(lambda message: Refused(request=message.request, code=code, why="No."))

    with pytest.raises(Refusal) as refused:
        await registry.activate("key", "anna", SHARD, create=False)

    assert (refused.value.code, refused.value.why) == (told, "No.")


async def test_a_supervisor_that_is_silent_or_gone_refuses() -> None:
    silent, gone = FakeLink(), FakeLink()
    gone.close()

    for link in (silent, gone):
        registry = RemoteRegistry(link, Requests())
        for question in (registry.forget("key", SHARD), registry.recovered(SHARD, [], [])):
            with pytest.raises(Refusal) as refused:
                await question
            assert refused.value.code == "shard_unavailable"
            assert refused.value.retry_after_s
            assert "()" not in refused.value.why
