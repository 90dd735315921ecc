"""A drain in a worker: what still begins, what is waited for, what is cut, and what everybody is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fakes.model_failures import failed
from fakes.sessions import BOUND_S, Bench, bounded, end_of, tool_reply, until
from fakes.virtual_time import time_passes, until_idle

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.messages import Cut, Drain, Seal
from hermes_actors.wire.records import CutTurn, Interrupted
from workers.routing.listening_turn import ListeningTurn
from workers.sessions import drain
from workers.sessions.agent import Resident
from workers.sessions.command_run import stop_turn
from workers.sessions.feed import TurnFeed
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.recovery import recover
from workers.sessions.running import running_turns
from workers.turn_errors import cut_error
from workers.turns import Ended, GatewayDraining, Parked, Refusal, TurnEvent

KEY = "api:default:a"
OTHER = "api:default:b"
CONVERSATION = "conv:default:1"
LEFT_S = 60.0
AT = 1_700_000_000.0
DOWN = failed(status=401, text="")


@pytest.fixture
async def spare() -> AsyncIterator[Bench]:
    """With a fallback model."""
    made = Bench(SessionsConfig(), with_fallback=True)
    yield made
    made.model.gate.set()
    await made.sessions.close()


def order(*, asker: str | None = None, left_s: float = LEFT_S, then: str = "restart") -> Drain:
    reason = "restart_timeout" if then == "restart" else "shutdown_timeout"
    return Drain(number=1, reason=reason, then=then, deadline=time.time() + left_s, asker=asker)


def begin(bench: Bench, **fields: Any) -> None:
    bench.sessions.draining.begin(order(**fields))


def cut(bench: Bench, reason: str = "restart_timeout") -> None:
    bench.sessions.draining.cut(Cut(reason=reason, at=AT))


async def running(bench: Bench, text: str = "run", **fields: Any) -> TurnFeed:
    """A turn that waits for its model."""
    asked = len(bench.model.requests)
    bench.model.gate.clear()
    feed = await bench.send(text, **fields)
    await bench.model.until_asked(asked + 1)
    return feed


def resident(bench: Bench, key: str = KEY) -> Resident:
    return bench.sessions._resident[key]


def state(bench: Bench, feed: TurnFeed) -> str:
    return bench.store.rows[feed.turn_id].state


def asked(bench: Bench) -> list[object]:
    """The messages that the model was asked about, in order."""
    return [request[-1]["content"] for request in bench.model.requests]


async def parked(bench: Bench, text: str = "later", **fields: Any) -> Parked:
    with pytest.raises(Parked) as kept:
        await bench.send(text, **{"park": True, "idempotency_key": text, **fields})
    return kept.value


# -- what is waited for -------------------------------------------------------------------------------------------


async def test_a_drain_is_told_as_over_once_the_last_turn_is(bench: Bench) -> None:
    first, second = await running(bench), await running(bench, key=OTHER)

    begin(bench)
    await until_idle()
    assert bench.drained == []
    bench.model.gate.set()

    assert {(await end_of(feed)).state for feed in (first, second)} == {"completed"}
    await until_idle()
    assert bench.drained == [0]


async def test_a_drain_of_idle_sessions_is_over_at_once(bench: Bench) -> None:
    await bench.talk()

    begin(bench)

    assert bench.drained == [0]


async def test_stateless_turns_are_waited_for(bench: Bench) -> None:
    feed = await running(bench, key=CONVERSATION, stateless=True)

    begin(bench)
    assert bench.drained == []
    bench.model.gate.set()

    assert (await end_of(feed)).state == "completed"
    await until(lambda: bench.drained == [0])


async def test_the_turn_that_asked_for_the_drain_is_not_waited_for(bench: Bench) -> None:
    asker, other = await running(bench), await running(bench, key=OTHER)

    begin(bench, asker=KEY)
    resident(bench, OTHER).cancel(other.turn_id, cut_error("crash"))
    await end_of(other)

    await until(lambda: bench.drained == [1])
    assert asker.ended is None
    bench.model.gate.set()
    await end_of(asker)
    await until_idle()
    assert bench.drained == [1]


async def test_a_drain_that_is_told_again_changes_whom_it_waits_for_and_tells_callers_what_is_new(bench: Bench) -> None:
    asker, other = await running(bench), await running(bench, key=OTHER)
    stream = listening(asker)

    begin(bench)
    resident(bench, OTHER).cancel(other.turn_id, cut_error("crash"))
    await end_of(other)
    await until_idle()
    assert bench.drained == []

    begin(bench, asker=KEY, left_s=10.0)
    nearer = order(asker=KEY, left_s=5.0)
    for _ in range(2):
        bench.sessions.draining.begin(nearer)

    assert bench.drained == [1], "once, while the asker's turn runs"
    assert bench.sessions.draining.retry_after_s <= 5.0 + drain.RESTART_S
    bench.model.gate.set()
    told = [event for event in await heard(stream) if isinstance(event, GatewayDraining)]
    assert len(told) == 3, "what is the same is not said again"
    assert told[-1].deadline == nearer.deadline


async def test_a_turn_that_is_on_disk_as_running_begins_and_is_waited_for(bench: Bench) -> None:
    answer = bench.store.gates["admit"] = asyncio.Event()
    submission = bench.message("on disk")
    sent = asyncio.ensure_future(bench.send(submission))
    await until(lambda: ("admit running", submission.turn_id) in bench.store.journal)

    begin(bench)
    assert bench.drained == []
    answer.set()

    assert (await end_of(await sent)).text == "re: on disk"
    await until(lambda: bench.drained == [0])


async def test_a_message_whose_commit_failed_is_waited_for_no_longer(bench: Bench) -> None:
    answer = bench.store.gates["admit"] = asyncio.Event()
    bench.store.broken = {"admit running"}
    sent = asyncio.ensure_future(bench.send())
    await until(lambda: bench.sessions.pending == 1)

    begin(bench)
    answer.set()

    with pytest.raises(Refusal):
        await sent
    assert bench.drained == [0]


async def test_a_command_that_runs_is_waited_for_and_one_that_waits_is_not(bench: Bench) -> None:
    await bench.talk()
    retried = await running(bench, "/retry")
    waiting = await bench.send("/reset")

    begin(bench)
    assert bench.drained == []
    bench.model.gate.set()

    assert (await end_of(retried)).text == "re: hi"
    await until(lambda: bench.drained == [0])
    assert waiting.ended is None
    assert bench.registry.renamed == 0


# -- what begins --------------------------------------------------------------------------------------------------


async def test_what_waits_begins_in_order_when_the_drain_is_cancelled_and_not_before(bench: Bench) -> None:
    first = await running(bench, "one")
    waiting = [await bench.send("two"), await bench.send("/status"), await bench.send("three")]
    begin(bench)
    bench.model.gate.set()
    await end_of(first)
    await until_idle()
    assert asked(bench) == ["one"]
    assert state(bench, waiting[0]) == "queued"

    bench.sessions.draining.over()

    assert [(await end_of(feed)).state for feed in waiting] == ["completed"] * 3
    assert asked(bench) == ["one", "two", "three"]
    assert await bench.talk("four")


async def test_new_messages_are_refused_with_when_to_come_back_and_what_to_do(bench: Bench) -> None:
    begin(bench, left_s=20.0)

    with pytest.raises(Refusal) as refusal:
        await bench.send("new")

    assert refusal.value.code == "gateway_draining"
    assert refusal.value.retry_after_s is not None
    assert 20.0 < refusal.value.retry_after_s <= 25.0
    assert "X-Hermes-When-Draining: park" in refusal.value.why
    assert "restarts" in refusal.value.why
    assert bench.store.rows == {}


@pytest.mark.parametrize(("left_s", "expected"), [(3600.0, 300.0), (-10.0, 5.0)])
async def test_nobody_is_told_to_come_back_very_late_or_in_no_time(
    bench: Bench, left_s: float, expected: float
) -> None:
    begin(bench, left_s=left_s, then="stop")

    with pytest.raises(Refusal, match="The gateway stops") as refusal:
        await bench.send("new")

    assert refusal.value.retry_after_s == expected


async def test_whoever_talks_to_a_held_gateway_is_told_so_and_not_to_hurry(bench: Bench) -> None:
    begin(bench, left_s=-10.0, then="hold")

    with pytest.raises(Refusal, match="operator holds the gateway") as refusal:
        await bench.send("new")

    assert refusal.value.retry_after_s == 5.0
    assert "in about" not in refusal.value.why
    assert "send it again later, or now with the headers" in refusal.value.why


async def test_a_message_whose_session_is_being_activated_when_the_drain_begins_is_refused(bench: Bench) -> None:
    answer = bench.store.gates["transcript"] = asyncio.Event()
    sent = asyncio.ensure_future(bench.send())
    await until(lambda: bool(bench.registry.activations))

    begin(bench)
    answer.set()

    with pytest.raises(Refusal) as refusal:
        await sent
    assert refusal.value.code == "gateway_draining"
    assert bench.store.rows == {}


async def test_what_an_earlier_owner_left_begins_after_the_drain(bench: Bench) -> None:
    submission = bench.message("left", idempotency_key="k")
    await bench.store.admit(submission, "ses_0", "queued")
    await bench.left()
    begin(bench)

    await bounded(bench.sessions.resume(bench.shard))
    assert bench.registry.activations == []
    waiting = await bench.send("left", idempotency_key="k")  # activates its session
    await until_idle()
    assert bench.model.requests == []
    assert waiting.ended is None

    bench.sessions.draining.over()
    assert (await end_of(waiting)).text == "re: left"


async def test_an_actor_that_dies_in_a_drain_leaves_what_waits_waiting(bench: Bench) -> None:
    bench.model.script = [SystemExit(1)]
    first = await running(bench, "one")
    second = await bench.send("two")
    begin(bench)

    bench.model.gate.set()

    assert (await end_of(first)).state == "interrupted"
    await until_idle()
    assert second.ended is None
    assert bench.drained == [0]
    bench.sessions.draining.over()
    assert (await end_of(second)).text == "re: two"


async def test_stop_in_a_message_ends_what_runs_but_begins_nothing(bench: Bench) -> None:
    feed = await running(bench)
    waiting = await bench.send("wait")
    begin(bench)

    assert (await bench.talk("/stop")).text.startswith("Stopped. 1 message waiting")
    assert (await end_of(feed)).state == "cancelled"
    assert (await bench.talk("/stop")).text == "Nothing is running here. 1 message waiting."
    assert "waiting for the end of the gateway's drain" in (await bench.talk("/status")).text

    assert waiting.ended is None
    assert asked(bench) == ["run"]


async def test_a_session_can_be_deleted_while_its_messages_wait_for_the_end_of_a_drain(bench: Bench) -> None:
    await running(bench)
    waiting = await bench.send("wait")
    begin(bench)

    await bounded(bench.sessions.delete(KEY, bench.shard))

    assert waiting.ended is not None
    assert waiting.ended.state == "cancelled"
    assert bench.store.rows == {}


# -- the seal and the cut -----------------------------------------------------------------------------------------


async def test_the_seal_names_what_runs_and_what_waits_and_nothing_else(bench: Bench) -> None:
    runs = await running(bench)
    await bench.send("waits")
    stateless = await running(bench, key=CONVERSATION, stateless=True)
    begin(bench)
    await parked(bench, key=OTHER)
    answer = bench.store.gates["transcript"] = asyncio.Event()
    activating = asyncio.ensure_future(bench.send("x", key="api:default:c", park=True, idempotency_key="x"))
    await until(lambda: "api:default:c" in bench.registry.activations)
    left = bench.message("left", key="api:default:d")
    bench.sessions.backlog.take_over(bench.shard.number, [])
    await bench.store.admit(left, "ses_9", "queued")
    bench.sessions.backlog.take_over(bench.shard.number, [left])

    sealed = bench.sessions.seal(Seal(request=7))

    assert sealed.request == 7
    assert sealed.cut == [CutTurn(KEY, runs.turn_id, resident(bench).session.session_id)]
    assert sealed.busy == [KEY, OTHER, "api:default:c", "api:default:d"]
    assert sealed.stateless == 1
    cut(bench)
    assert (await end_of(runs)).state == (await end_of(stateless)).state == "interrupted"
    answer.set()
    with pytest.raises(Parked):
        await activating


async def test_a_sealed_turn_that_comes_to_its_end_waits_with_it_and_is_cut_all_the_same(bench: Bench) -> None:
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))

    bench.model.gate.set()
    await until_idle()
    assert bench.store.journal == [("admit running", feed.turn_id)]
    assert feed.ended is None
    cut(bench)

    ended = await end_of(feed)
    assert (ended.state, ended.text) == ("interrupted", "")
    assert ended.error is not None
    assert ended.error["code"] == "turn_interrupted"
    assert "restarted" in ended.error["text"]
    assert bench.store.journal[-1] == ("finish interrupted", feed.turn_id)
    assert resident(bench).session.marks.resume == Interrupted(reason="restart_timeout", at=AT)
    assert b"re: run" in bench.store.messages[feed.turn_id][-1]  # nothing that was said is lost
    assert bench.drained == []  # who sealed it knows


async def test_a_cut_session_goes_on_with_a_note_when_the_gateway_stays(bench: Bench) -> None:
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    cut(bench, "shutdown_timeout")
    assert (await end_of(feed)).state == "interrupted"
    bench.model.gate.set()

    bench.sessions.draining.over()

    assert (await bench.talk("go on")).state == "completed"
    assert "interrupted: the gateway was stopped" in bench.model.requests[-1][0]["content"]
    assert bench.registry.successes


async def test_a_turn_whose_end_is_on_its_way_to_disk_is_not_cut(bench: Bench) -> None:
    answer = bench.store.gates["finish"] = asyncio.Event()
    feed = await bench.send()
    await until(lambda: ("finish completed", feed.turn_id) in bench.store.journal)
    begin(bench)

    sealed = bench.sessions.seal(Seal(request=1))
    cut(bench)
    answer.set()

    assert (sealed.cut, sealed.busy) == ([], [KEY])
    assert (await end_of(feed)).state == "completed"
    assert not resident(bench).session.marks


async def test_a_turn_that_is_being_stopped_when_it_is_sealed_is_cut(bench: Bench) -> None:
    feed = await running(bench)
    begin(bench)
    sealed = bench.sessions.seal(Seal(request=1))
    stopping = asyncio.ensure_future(bench.talk("/stop"))
    await until_idle()
    assert feed.ended is None

    cut(bench)

    assert sealed.cut == [CutTurn(KEY, feed.turn_id, resident(bench).session.session_id)]
    assert (await end_of(feed)).state == "interrupted"
    await bounded(stopping)


async def test_what_a_sealed_turns_tools_gave_is_kept() -> None:
    bench = Bench(SessionsConfig(), max_turns=1)  # so that the turn ends with what its tools gave
    bench.model.script = [tool_reply("mcp__a__x")]
    bench.model.gate.clear()
    feed = await bench.send("one")
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    bench.model.gate.set()
    await bounded(toolbox.called.wait())
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    toolbox.gate.set()
    await until_idle()

    cut(bench)

    assert (await end_of(feed)).state == "interrupted"
    assert b"mcp__a__x said so" in bench.store.messages[feed.turn_id][-1]
    await bench.sessions.close()


async def test_a_message_that_is_sent_again_is_cut_like_any_turn(bench: Bench) -> None:
    await bench.talk()
    feed = await running(bench, "/retry")
    begin(bench)

    sealed = bench.sessions.seal(Seal(request=1))
    cut(bench)

    assert sealed.cut == [CutTurn(KEY, feed.turn_id, resident(bench).session.session_id)]
    assert (await end_of(feed)).state == "interrupted"
    assert state(bench, feed) == "interrupted"


async def test_a_message_that_is_sent_again_is_cut_while_it_is_being_stored(bench: Bench) -> None:
    await bench.talk()
    answer = bench.store.gates["admit"] = asyncio.Event()
    feed = await bench.send("/retry")
    await until(lambda: ("admit running", feed.turn_id) in bench.store.journal)
    begin(bench)

    sealed = bench.sessions.seal(Seal(request=1))
    cut(bench)
    answer.set()

    assert sealed.cut == [CutTurn(KEY, feed.turn_id, resident(bench).session.session_id)]
    assert (await end_of(feed)).state == "interrupted"
    assert len(bench.model.requests) == 1


async def test_a_turn_that_waits_for_the_restart_of_its_actor_is_cut_without_it(spare: Bench) -> None:
    spare.model.script = [DOWN]
    await spare.talk("one")
    await until(lambda: bool(spare.fell_back))
    feed = await spare.send("two")
    begin(spare)

    sealed = spare.sessions.seal(Seal(request=1))
    cut(spare)

    assert sealed.cut == [CutTurn(KEY, feed.turn_id, resident(spare).session.session_id)]
    assert (await end_of(feed)).state == "interrupted"
    assert len(spare.model.requests) == 1


async def test_a_seal_without_a_cut_gives_way_and_a_success_clears_what_may_be_marked(
    bench: Bench,
) -> None:
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    bench.model.gate.set()

    assert (await end_of(feed)).state == "completed"
    assert bench.registry.successes == [(KEY, feed.turn_id)]
    cut(bench)
    assert not resident(bench).session.marks


async def test_a_turn_that_is_sealed_twice_is_cut_once(bench: Bench) -> None:
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    bench.model.gate.set()
    await until_idle()

    assert bench.sessions.seal(Seal(request=2)).cut == [CutTurn(KEY, feed.turn_id, resident(bench).session.session_id)]
    cut(bench)

    assert (await end_of(feed)).state == "interrupted"
    assert resident(bench).session.marks.resume == Interrupted(reason="restart_timeout", at=AT)


async def test_a_cancelled_drain_leaves_nothing_sealed(bench: Bench) -> None:
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    bench.sessions.draining.over()
    bench.model.gate.set()

    assert (await end_of(feed)).state == "completed"
    assert not resident(bench).session.marks


async def test_at_the_cut_the_callers_of_what_waits_are_sent_away_and_it_runs_once_later(bench: Bench) -> None:
    await running(bench, "one")
    waiting = await bench.send("two", idempotency_key="k")
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    caller = asyncio.ensure_future(end_of(waiting))
    await until_idle()
    cut(bench)

    told = await caller
    assert told.error is not None
    assert "It is kept and runs once" in told.error["text"]
    assert state(bench, waiting) == "queued"
    bench.model.gate.set()
    await until_idle()
    assert asked(bench) == ["one"]

    bench.sessions.draining.over()

    again = await bench.send("two", idempotency_key="k")
    assert (await end_of(again)).text == "re: two"
    assert asked(bench)[1:] == ["two"]


async def test_who_asks_again_for_what_waits_after_the_cut_is_told_that_it_is_kept(bench: Bench) -> None:
    await running(bench, "one")
    submission = bench.message("two", idempotency_key="k")
    waiting = await bench.send(submission)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    cut(bench)

    for again, sent in ((False, bench.message("two", idempotency_key="k")), (True, submission)):
        with pytest.raises(Refusal) as refusal:
            await bench.send(sent, again=again)
        assert refusal.value.code == "gateway_draining"
        assert "This message is kept, and runs once" in refusal.value.why
        assert refusal.value.retry_after_s
    assert (await parked(bench, "two", idempotency_key="k")).turn_id == waiting.turn_id
    assert state(bench, waiting) == "queued"


async def test_who_asks_after_the_deadline_for_what_waits_is_told_that_it_is_kept(bench: Bench) -> None:
    left = bench.message("left", idempotency_key="k")
    await bench.store.admit(left, "ses_0", "queued")
    await bench.left()
    begin(bench, left_s=-1.0)  # as a worker is told that starts while the gateway is held

    with pytest.raises(Refusal, match="is kept"):
        await bench.send("left", idempotency_key="k")

    bench.sessions.draining.over()
    assert (await bench.talk("left", idempotency_key="k")).text == "re: left"


async def test_a_command_that_waits_at_the_cut_is_not_done_and_may_be_sent_again(bench: Bench) -> None:
    await running(bench)
    waiting = await bench.send("/reset", idempotency_key="k")
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    cut(bench)

    ended = await end_of(waiting)
    assert ended.error is not None
    assert "send it again" in ended.error["text"]
    bench.model.gate.set()
    bench.sessions.draining.over()
    await until_idle()
    assert bench.registry.renamed == 0

    assert (await bench.talk("/reset", idempotency_key="k")).state == "completed"
    assert bench.registry.renamed == 1


async def test_a_waiting_stateless_turn_whose_caller_was_sent_away_does_not_run(bench: Bench) -> None:
    first = await running(bench, "one", key=CONVERSATION, stateless=True)
    first.listen(lambda _: None, stream=False)
    second = await bench.send("two", key=CONVERSATION, stateless=True)
    second.listen(lambda _: None, stream=False)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    cut(bench)
    bench.model.gate.set()

    bench.sessions.draining.over()

    await until(lambda: bench.sessions.pending == 0)
    assert state(bench, second) == "cancelled"
    assert asked(bench) == ["one"]


async def test_a_stop_after_the_cut_leaves_what_waited_on_disk(bench: Bench) -> None:
    feed = await running(bench)
    waiting = await bench.send("wait")
    begin(bench)
    kept = await parked(bench, key=OTHER)
    bench.sessions.seal(Seal(request=1))
    cut(bench)

    await bounded(bench.sessions.stop("shutdown_timeout"))

    assert state(bench, feed) == "interrupted"
    assert state(bench, waiting) == bench.store.rows[kept.turn_id].state == "queued"
    assert bench.sessions.pending == 0
    assert asked(bench) == ["run"]


async def test_a_worker_that_loses_its_supervisor_after_the_seal_waits_for_no_cut(bench: Bench) -> None:
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))
    bench.model.gate.set()
    await until_idle()

    await bounded(bench.sessions.stop("crash"))

    ended = await end_of(feed)
    assert ended.state == "interrupted"
    assert ended.error is not None
    assert "died" in ended.error["text"]
    assert state(bench, feed) == "running"  # whether it was marked is not known here: the next owner tells of it


async def test_a_stop_without_a_drain_leaves_a_turn_that_had_not_begun(bench: Bench) -> None:
    answer = bench.store.gates["admit"] = asyncio.Event()
    first = asyncio.ensure_future(bench.send("one"))
    await until(lambda: bench.sessions.pending == 1)
    second = asyncio.ensure_future(bench.send("two"))
    await until(lambda: bench.sessions.pending == 2)
    bench.store.broken = {"admit running"}
    stopping = asyncio.ensure_future(bench.sessions.stop("shutdown_timeout"))
    await until_idle()
    answer.set()

    await bounded(stopping)

    await first
    assert state(bench, await second) == "queued"
    assert [request[-1]["content"] for request in bench.model.requests] == ["one"]


# -- what callers hear --------------------------------------------------------------------------------------------


def listening(feed: TurnFeed, *, stream: bool = True) -> ListeningTurn:
    turn = ListeningTurn(feed.turn_id)
    feed.listen(turn.hear, stream=stream)
    return turn


async def heard(turn: ListeningTurn) -> list[TurnEvent]:
    async with asyncio.timeout(BOUND_S):
        return [event async for event in turn]


async def test_who_streams_a_running_turn_hears_of_the_drain_early_or_late(bench: Bench) -> None:
    feed = await running(bench)
    early = listening(feed)
    begin(bench, left_s=30.0)
    late, plain = listening(feed), listening(feed, stream=False)
    bench.model.gate.set()

    for turn in (early, late):
        told, _, end = await heard(turn)
        assert isinstance(told, GatewayDraining)
        assert told.reason == "restart_timeout"
        assert 0 < told.deadline - time.time() <= 30.0
        assert "restarts" in told.text
        assert "starts a fresh conversation" in told.text
        assert isinstance(end, Ended)
    assert [type(event) for event in await heard(plain)] == [Ended]


async def test_the_caller_whose_session_asked_for_the_drain_is_told_that_nobody_waits(bench: Bench) -> None:
    feed = await running(bench)
    turn = listening(feed)
    begin(bench, asker=KEY)
    bench.model.gate.set()

    told = (await heard(turn))[0]

    assert isinstance(told, GatewayDraining)
    assert "until no other turn runs" in told.text


async def test_a_stateless_caller_is_promised_no_session(bench: Bench) -> None:
    feed = await running(bench, key=CONVERSATION, stateless=True)
    turn = listening(feed)
    begin(bench)
    bench.model.gate.set()

    told = (await heard(turn))[0]

    assert isinstance(told, GatewayDraining)
    assert "send your request again" in told.text


async def test_who_waits_hears_nothing_of_the_drain_and_nobody_after_its_end(bench: Bench) -> None:
    feed = await running(bench, "one")
    waiting = listening(await bench.send("two"))
    begin(bench)
    bench.sessions.draining.over()
    late = listening(feed)
    bench.model.gate.set()

    for turn in (waiting, late):
        assert not any(isinstance(event, GatewayDraining) for event in await heard(turn))


# -- parked messages ----------------------------------------------------------------------------------------------


async def test_a_parked_message_is_on_disk_and_runs_once_after_the_drain(bench: Bench) -> None:
    begin(bench, left_s=20.0)

    first = await parked(bench, "later")
    second = await parked(bench, "later")
    await until_idle()

    assert first.turn_id == second.turn_id
    assert 20.0 < first.retry_after_s <= 25.0
    assert bench.store.journal == [("admit queued", first.turn_id)]
    assert bench.model.requests == []
    bench.sessions.draining.over()
    assert (await bench.talk("later", park=True, idempotency_key="later")).text == "re: later"
    assert asked(bench) == ["later"]


async def test_the_result_of_a_parked_message_can_be_waited_for_in_the_drain(bench: Bench) -> None:
    begin(bench)
    kept = await parked(bench, "later")

    waiting = await bench.send("later", idempotency_key="later")

    assert waiting.turn_id == kept.turn_id
    bench.sessions.draining.over()
    assert (await end_of(waiting)).text == "re: later"


async def test_a_parked_message_handed_over_again_is_parked_once(bench: Bench) -> None:
    begin(bench)
    submission = bench.message("later", park=True, idempotency_key="k")

    for again in (False, True):
        with pytest.raises(Parked) as kept:
            await bench.send(submission, again=again)
        assert kept.value.turn_id == submission.turn_id
    assert len(bench.store.rows) == 1


async def test_a_full_mailbox_parks_no_more(bench: Bench) -> None:
    begin(bench)
    for number in range(3):
        await parked(bench, f"later {number}")

    with pytest.raises(Refusal) as refusal:
        await bench.send("one more", park=True, idempotency_key="k")

    assert refusal.value.code == "mailbox_full"
    assert len(bench.store.rows) == 3


async def test_without_a_drain_nothing_is_parked(bench: Bench) -> None:
    bench.model.gate.clear()
    first = await bench.send("one", park=True, idempotency_key="1")
    second = await bench.send("two", park=True, idempotency_key="2")
    bench.model.gate.set()

    assert [(await end_of(feed)).text for feed in (first, second)] == ["re: one", "re: two"]


async def test_a_running_turn_is_waited_for_by_who_would_have_parked_it(bench: Bench) -> None:
    feed = await running(bench, "now", idempotency_key="k")
    begin(bench)

    again = await bench.send("now", idempotency_key="k", park=True)

    assert again is feed


async def test_a_command_is_not_parked_and_its_sender_is_not_told_to_try(bench: Bench) -> None:
    begin(bench)

    with pytest.raises(Refusal) as refusal:
        await bench.send("/reset", park=True, idempotency_key="k")

    assert refusal.value.code == "gateway_draining"
    assert "park" not in refusal.value.why


async def test_nothing_is_parked_once_the_worker_stops(bench: Bench) -> None:
    begin(bench)
    await bounded(bench.sessions.stop("shutdown_timeout"))

    with pytest.raises(Refusal) as refusal:
        await bench.send("later", park=True, idempotency_key="k")

    assert refusal.value.code == "gateway_draining"
    assert bench.store.rows == {}


# -- /restart, and questions of operators -------------------------------------------------------------------------


async def test_an_administrator_restarts_the_gateway_with_a_message_that_is_answered_at_once(bench: Bench) -> None:
    await running(bench)

    ended = await bench.talk("/restart")

    assert ended.state == "completed"
    assert "going to restart" in ended.text
    assert bench.restarts_wanted == [KEY]
    assert "/restart" in (await bench.talk("/help")).text


async def test_a_restart_that_is_sent_again_is_asked_for_once_also_after_the_restart(bench: Bench) -> None:
    named = bench.message("/restart", idempotency_key="k")
    unnamed = bench.message("/restart")

    first = [await bench.talk(message) for message in (named, unnamed)]
    again = [await end_of(await bench.send(message, again=True)) for message in (named, unnamed)]
    repeated = await bench.talk("/restart", idempotency_key="k")

    assert {ended.text for ended in (*first, *again, repeated)} == {first[0].text}
    assert bench.restarts_wanted == [KEY, KEY]

    after = Bench(SessionsConfig(), registry=bench.registry)
    after.shard = OwnedShard(number=0, fence=2, store=bench.store.reopened())
    await recover(after.shard, after.sessions.backlog, after.registry)
    replayed = await after.talk("/restart", idempotency_key="k")
    fresh = await after.talk("/restart", idempotency_key="another")

    assert (replayed.text, replayed.replayed) == (first[0].text, True)
    assert fresh.text == first[0].text
    assert after.restarts_wanted == [KEY]
    assert bench.store.messages == {}, "it stands in no transcript"
    await after.sessions.close()


async def test_a_restart_that_the_disk_cannot_remember_is_refused_and_not_asked_for(bench: Bench) -> None:
    bench.store.broken = {"admit running"}

    with pytest.raises(Refusal) as refused:
        await bench.send("/restart", idempotency_key="k")
    without_name = await bench.talk("/restart")

    assert refused.value.code == "store_failed"
    assert without_name.state == "completed"
    assert bench.restarts_wanted == [KEY]


async def test_others_may_not_restart_the_gateway(bench: Bench) -> None:
    ended = await bench.talk("/restart", principal="bob")

    assert ended.state == "completed"
    assert "api_server.admins" in ended.text
    assert bench.restarts_wanted == []


async def test_a_drain_that_goes_on_is_not_asked_for_again(bench: Bench) -> None:
    begin(bench)

    assert "already drains" in (await bench.talk("/restart")).text
    assert bench.restarts_wanted == []


async def test_an_operator_sees_what_runs_since_when_and_how_long_it_usually_takes(bench: Bench) -> None:
    before = time.time()
    first = await running(bench, "one")
    await time_passes(1.0)
    second = await running(bench, key=CONVERSATION, stateless=True)
    await bench.send("waits")
    bench.sessions.backlog.take_over(bench.shard.number, [])
    bench.store.took = {KEY: [3.0, 1.0, 20.0]}

    told = await running_turns(bench.sessions)

    assert [(turn["key"], turn["turn_id"], turn["stateless"], turn["usual_s"]) for turn in told] == [
        (KEY, first.turn_id, False, 3.0),
        (CONVERSATION, second.turn_id, True, None),
    ]
    assert before <= told[0]["started_at"] <= told[1]["started_at"] <= time.time()
    assert bench.sessions.waiting == 1


async def test_what_runs_is_told_though_the_disk_does_not_tell_how_long_it_takes(bench: Bench) -> None:
    feed = await running(bench)
    bench.store.broken = {"durations"}

    (told,) = await running_turns(bench.sessions)

    assert (told["turn_id"], told["usual_s"]) == (feed.turn_id, None)


async def test_an_operator_who_stops_a_turn_hears_whether_one_ran(bench: Bench) -> None:
    feed = await running(bench)
    session = resident(bench)

    assert await stop_turn(session)
    assert not await stop_turn(session)

    ended = await end_of(feed)
    assert ended.error is not None
    assert "by the operator" in ended.error["text"]


async def test_who_is_evicted_by_an_operator_is_told_so_and_reads_its_state_anew(bench: Bench) -> None:
    feed = await running(bench)
    command = await bench.send("/reset")

    await bounded(bench.sessions.evict(KEY))
    bench.model.gate.set()

    for one in (feed, command):
        ended = await end_of(one)
        assert ended.state == "cancelled"
        assert ended.error is not None
        assert "The operator suspended, resumed or reset this session" in ended.error["text"]
    await until_idle()
    assert bench.registry.activations == [KEY]
    await bench.talk("again")
    assert bench.registry.activations == [KEY, KEY]


async def test_what_waits_when_an_operator_suspends_its_session_begins_at_once_in_a_fresh_one(bench: Bench) -> None:
    bench.sessions.backlog.take_over(bench.shard.number, [])
    await running(bench, "one")
    waiting = [await bench.send(text, idempotency_key=text) for text in ("two", "three")]
    bench.registry.suspended(KEY, reason="operator")

    await bounded(bench.sessions.evict(KEY))
    bench.model.gate.set()

    for feed in waiting:
        told = await end_of(feed)
        assert told.error is not None
        assert told.error["code"] == "turn_interrupted"
        assert "The message is kept and runs once" in told.error["text"]
    again = await bench.talk("three", idempotency_key="three")
    assert again.text.endswith("re: three")
    assert asked(bench) == ["one", "two", "three"]
    assert "one" not in str(bench.model.requests[-1])
    assert bench.sessions.waiting == bench.sessions.pending == 0


async def test_what_is_parked_in_a_session_that_an_operator_changes_begins_after_the_drain(bench: Bench) -> None:
    bench.sessions.backlog.take_over(bench.shard.number, [])
    begin(bench)
    kept = await parked(bench)

    await bounded(bench.sessions.evict(KEY))
    await until_idle()

    assert bench.sessions.waiting == 1
    assert bench.sessions.resident == 0
    assert bench.sessions.seal(Seal(request=1)).busy == [KEY]
    bench.sessions.draining.over()
    await bounded(bench.sessions.resume(bench.shard))
    await until(lambda: bench.store.rows[kept.turn_id].state == "completed")


async def test_a_message_that_could_not_be_stored_is_not_begun_after_an_operator_changed_its_session(
    bench: Bench,
) -> None:
    bench.sessions.backlog.take_over(bench.shard.number, [])
    await running(bench, "one")
    bench.store.broken = {"admit queued"}
    answer = bench.store.gates["admit"] = asyncio.Event()
    sent = asyncio.ensure_future(bench.send("two"))
    await until(lambda: bench.sessions.pending == 2)
    evicting = asyncio.ensure_future(bench.sessions.evict(KEY))
    await until_idle()

    answer.set()
    await bounded(evicting)

    with pytest.raises(Refusal):
        await sent
    assert bench.sessions.waiting == bench.sessions.pending == 0


async def test_what_waits_in_a_shard_that_is_let_go_is_left_to_its_next_owner(bench: Bench) -> None:
    bench.sessions.backlog.take_over(bench.shard.number, [])
    await running(bench, "one")
    waiting = await bench.send("two")
    evicting = asyncio.ensure_future(bench.sessions.evict(KEY))
    await bounded(bench.sessions.release(bench.shard))
    await bounded(evicting)
    bench.model.gate.set()
    await until_idle()

    assert bench.sessions.waiting == bench.sessions.resident == 0
    assert state(bench, waiting) == "queued"
    assert asked(bench) == ["one"]


async def test_what_waits_behind_a_turn_that_does_not_react_is_begun_and_found_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, complete = asyncio.Event(), bench.model.complete

    async def deaf(*_: object) -> object:
        try:
            await release.wait()
        except asyncio.CancelledError:
            await release.wait()
        return None

    bench.sessions.backlog.take_over(bench.shard.number, [])
    monkeypatch.setattr(bench.model, "complete", deaf)
    stuck = await bench.send("stuck")
    await until_idle()
    await bench.send("two", idempotency_key="k")
    monkeypatch.setattr(bench.model, "complete", complete)
    bench.model.gate.clear()

    await bounded(bench.sessions.evict(KEY))
    await bench.model.until_asked(1)
    release.set()
    await end_of(stuck)
    await until_idle()

    again = await bench.send("two", idempotency_key="k")
    bench.model.gate.set()
    assert (await end_of(again)).text == "re: two"


@pytest.mark.parametrize(("then", "aborted"), [("hold", 1), ("restart", 0)])
async def test_a_cut_ends_what_tools_still_do_where_the_worker_stays(bench: Bench, then: str, aborted: int) -> None:
    bench.model.script = [tool_reply("x")]
    feed = await bench.send("run")
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    await bounded(toolbox.called.wait())

    begin(bench, then=then)
    bench.sessions.seal(Seal(request=1))
    cut(bench, "restart_timeout" if then == "restart" else "shutdown_timeout")

    assert (await end_of(feed)).state == "interrupted"
    await bounded(resident(bench).quiet.wait())
    assert toolbox.aborted == aborted
    assert state(bench, feed) == "interrupted"


async def test_a_sealed_turn_whose_actor_dies_waits_for_the_cut_too(bench: Bench) -> None:
    bench.model.script = [SystemExit()]
    feed = await running(bench)
    begin(bench)
    bench.sessions.seal(Seal(request=1))

    bench.model.gate.set()
    await until_idle()
    assert state(bench, feed) == "running"
    cut(bench)

    ended = await end_of(feed)
    assert ended.error is not None
    assert "restarted" in ended.error["text"]
