"""What happens at the same moment: callers, activation, the disk, sleep, deletion and stop."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from fakes.model_failures import failed
from fakes.sessions import BOUND_S, Bench, FakeToolbox, bounded, end_of, text_reply, tool_reply, until
from fakes.virtual_time import step, until_idle

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.refusals import RefusalCode
from workers.models.offer import NO_TOOLS, Offer
from workers.models.provider import ModelRequest, ToolCall
from workers.sessions.owned_shard import OwnedShard
from workers.sessions.reading import page
from workers.sessions.recovery import recover
from workers.store.shard import TurnRow
from workers.tools.toolbox import ToolResult
from workers.turn_errors import cancelled_error
from workers.turns import Refusal

KEY = "api:default:a"
DOWN = failed(status=401, text="")


async def until_journal_has(bench: Bench, entry: tuple[str, str]) -> None:
    await until(lambda: entry in bench.store.journal)


def held(bench: Bench, method: str) -> asyncio.Event:
    """From now on the store answers this method once the event is set."""
    gate = bench.store.gates[method] = asyncio.Event()
    return gate


def roles_are_valid(messages: list[dict[str, Any]]) -> bool:
    """Whether each tool call of a model request has its result right after it."""
    waiting: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            waiting.remove(message["tool_call_id"])
        else:
            assert not waiting, messages
        waiting += [call["id"] for call in message.get("tool_calls") or ()]
    return not waiting


# -- admission ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["running", "queued"])
async def test_a_store_that_fails_under_an_idempotency_key_refuses_all_who_sent_it(bench: Bench, state: str) -> None:
    bench.store.broken = {f"admit {state}"}
    if state == "queued":
        bench.model.gate.clear()
        await bench.send()

    sent = [bench.send("pay", idempotency_key="k") for _ in range(3)]
    refused = await bounded(asyncio.gather(*sent, return_exceptions=True))

    assert [getattr(error, "code", error) for error in refused] == ["store_failed"] * 3
    bench.store.broken = set()
    bench.model.gate.set()
    assert (await bench.talk("pay", idempotency_key="k")).state == "completed"


async def test_a_caller_cancelled_during_the_commit_leaves_a_turn_that_runs(bench: Bench) -> None:
    answer = held(bench, "admit")
    submission = bench.message("pay", idempotency_key="k")
    first = asyncio.ensure_future(bench.send(submission))
    await until_journal_has(bench, ("admit running", submission.turn_id))
    second = asyncio.ensure_future(bench.send("pay", idempotency_key="k"))
    await until_idle()

    first.cancel()
    answer.set()

    feed = await second
    assert feed.turn_id == submission.turn_id
    assert (await end_of(feed)).text == "re: pay"
    assert bench.sessions.pending == 0


async def test_a_stateless_turn_whose_caller_is_cancelled_during_the_commit_is_cancelled(bench: Bench) -> None:
    answer = held(bench, "admit")
    submission = bench.message(key="conv:default:1", stateless=True)
    sent = asyncio.ensure_future(bench.send(submission))
    await until_journal_has(bench, ("admit running", submission.turn_id))

    sent.cancel()
    answer.set()

    await until_journal_has(bench, ("finish cancelled", submission.turn_id))


async def test_a_caller_cancelled_during_a_commit_that_fails_leaves_nothing(bench: Bench) -> None:
    answer = held(bench, "admit")
    bench.store.broken = {"admit running"}
    sent = asyncio.ensure_future(bench.send())
    await until(lambda: bench.sessions.pending > 0)

    sent.cancel()
    answer.set()
    bench.store.broken = set()

    assert (await bench.talk("next")).state == "completed"
    assert bench.sessions.pending == 0


async def test_the_model_is_asked_while_the_message_is_on_its_way_to_disk_and_the_end_waits_for_that(
    bench: Bench,
) -> None:
    answer = held(bench, "admit")
    sent = asyncio.ensure_future(bench.send("one"))
    await until_idle()

    assert len(bench.model.requests) == 1
    assert not sent.done()
    assert [operation for operation, _ in bench.store.journal] == ["admit running"]
    answer.set()

    assert (await end_of(await sent)).text == "re: one"


async def test_a_turn_that_began_and_could_not_be_stored_is_refused_and_leaves_nothing(bench: Bench) -> None:
    answer = held(bench, "admit")
    bench.store.broken = {"admit running"}
    sent = asyncio.ensure_future(bench.send("one"))
    await until_idle()
    assert len(bench.model.requests) == 1

    answer.set()
    with pytest.raises(Refusal) as refused:
        await sent
    await until(lambda: bench.sessions.pending == 0)
    bench.store.broken = set()

    assert refused.value.code == RefusalCode.STORE_FAILED
    await bench.talk("two")
    assert [message["content"] for message in bench.model.requests[-1]] == ["two"]
    assert {operation for operation, _ in bench.store.journal} == {"admit running", "finish completed"}
    assert len(bench.store.rows) == 1


async def test_no_tool_is_called_for_a_message_that_could_not_be_stored(bench: Bench) -> None:
    answer = held(bench, "admit")
    bench.store.broken = {"admit running"}
    bench.model.script = [tool_reply("clock")]
    sent = asyncio.ensure_future(bench.send("what time is it?"))
    await until_idle()

    answer.set()
    with pytest.raises(Refusal):
        await sent
    await until(lambda: bench.sessions.pending == 0)

    assert len(bench.model.requests) == 1
    assert bench.toolboxes[0].calls == []


async def test_a_turn_handed_over_again_while_it_is_being_admitted_runs_once(bench: Bench) -> None:
    answer = held(bench, "transcript")
    submission = bench.message("once")
    both = asyncio.gather(bench.send(submission), bench.send(submission, again=True))
    await until_idle()
    answer.set()

    feeds = await both

    assert {(await end_of(feed)).text for feed in feeds} == {"re: once"}
    assert len(bench.model.requests) == 1
    assert bench.sessions.pending == 0


async def test_a_queued_turn_whose_session_cannot_be_activated_now_is_not_called_interrupted(bench: Bench) -> None:
    submission = bench.message("pay", idempotency_key="k")
    await bench.store.admit(submission, "ses_0", "queued")
    await bench.left()
    bench.registry.down = True

    with pytest.raises(Refusal) as refused:
        await bench.send("pay", idempotency_key="k")
    assert refused.value.code == "shard_unavailable"
    bench.registry.down = False

    assert (await bench.talk("pay", idempotency_key="k")).text == "re: pay"
    assert len(bench.model.requests) == 1


# -- sleep --------------------------------------------------------------------------------------------------------


async def test_a_session_is_not_put_to_sleep_between_its_activation_and_its_first_turn() -> None:
    bench = Bench(SessionsConfig(max_resident_per_worker=1))
    answer = held(bench, "transcript")
    sent = [asyncio.ensure_future(bench.send(f"hi {n}", key=f"api:default:{n}")) for n in range(8)]
    await step()
    answer.set()
    async with asyncio.timeout(BOUND_S):
        while not bench.sessions.pending:  # as soon as one is active, others come
            await step()
            bench.sessions.passivate()

    feeds = await bounded(asyncio.gather(*sent))

    assert {(await end_of(feed)).state for feed in feeds} == {"completed"}
    await bench.sessions.close()


# -- an actor that dies -------------------------------------------------------------------------------------------


async def test_a_message_whose_commit_goes_on_while_the_actor_dies_runs_once(bench: Bench) -> None:
    bench.model.gate.clear()
    bench.model.script = [SystemExit(1), text_reply("second")]
    first = await bench.send("one")
    await bench.model.until_asked(1)
    answer = held(bench, "admit")
    submission = bench.message("two")
    second = asyncio.ensure_future(bench.send(submission))
    await until_journal_has(bench, ("admit queued", submission.turn_id))
    bench.model.gate.set()
    assert (await end_of(first)).state == "interrupted"
    await until_idle()
    answer.set()

    feed = await second

    assert (await end_of(feed)).text == "second"
    await bench.talk("three")
    assert bench.sessions.turns_ended == 3
    assert len(bench.model.requests) == 3


async def test_a_turn_that_an_actor_died_of_stays_in_the_conversation(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__x"), SystemExit(1)]
    assert (await bench.talk("one")).state == "interrupted"

    await bench.talk("two")

    assert [message["role"] for message in bench.model.requests[-1]] == ["user", "assistant", "tool", "user"]
    assert roles_are_valid(bench.model.requests[-1])


async def test_a_dead_actors_turn_is_ended_whatever_messages_its_caller_brought(bench: Bench) -> None:
    bench.model.script = [SystemExit(1)]
    strange = [b'{"role": "assistant", "tool_calls": [{}]}', b'{"role": "tool"}', b'{"role": "user", "content": "hi"}']

    feed = await bench.send("one", key="conv:default:1", stateless=True, messages=strange)

    assert (await end_of(feed)).state == "interrupted"


async def test_what_goes_wrong_after_a_stateless_turn_spoils_neither_its_end_nor_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.sessions, "_on_stateless_end", broken)

    first = await bench.talk("one", key="conv:default:1", stateless=True)
    second = await bench.talk("two", key="conv:default:1", stateless=True)

    assert (first.state, second.state) == ("completed", "completed")


# -- turns that are cut, and bugs ---------------------------------------------------------------------------------


class BuggyToolbox(FakeToolbox):
    """One tool has a bug, the others are slow."""

    async def call(self, call: ToolCall) -> ToolResult:
        if call.name == "mcp__a__bug":
            raise ZeroDivisionError("ours")
        return await super().call(call)


async def test_a_bug_while_tools_run_leaves_a_transcript_that_the_model_takes(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__bug", "mcp__a__x")]
    bench.toolbox_class = BuggyToolbox
    failed = await bench.talk("one")
    assert failed.state == "failed"
    assert roles_are_valid([orjson.loads(row) for row in bench.store.messages[failed.turn_id]])

    await bench.talk("two")
    assert roles_are_valid(bench.model.requests[-1])
    await bench.sessions.evict(KEY)
    await bench.talk("three")

    assert roles_are_valid(bench.model.requests[-1])


async def test_no_tool_call_goes_on_after_its_turn_ended_by_a_bug(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__bug", "mcp__a__slow")]
    bench.toolbox_class = BuggyToolbox
    feed = await bench.send("one")
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    await bounded(toolbox.called.wait())
    await until_idle()
    assert feed.ended is None
    toolbox.gate.set()

    assert (await end_of(feed)).state == "failed"


async def test_a_turn_cut_while_its_tool_calls_are_committed_leaves_a_transcript_that_the_model_takes(
    bench: Bench,
) -> None:
    bench.model.script = [tool_reply("mcp__a__x")]
    answer = held(bench, "append")
    feed = await bench.send("one")
    await until_journal_has(bench, ("append", feed.turn_id))

    bench.sessions._resident[KEY].cancel(feed.turn_id, cancelled_error())
    answer.set()
    assert (await end_of(feed)).state == "cancelled"

    await bench.talk("two")
    assert roles_are_valid(bench.model.requests[-1])
    assert [message["role"] for message in bench.model.requests[-1]] == ["user", "assistant", "tool", "user"]


async def test_a_transcript_that_a_failing_disk_left_open_is_closed_for_the_model(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__x")]
    bench.model.gate.clear()
    feed = await bench.send("one")
    await bench.model.until_asked(1)
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    bench.model.gate.set()
    await bounded(toolbox.called.wait())
    bench.store.broken = {"append"}
    toolbox.gate.set()
    assert (await end_of(feed)).state == "failed"
    bench.store.broken = set()
    await bench.sessions.evict(KEY)

    await bench.talk("two")

    assert roles_are_valid(bench.model.requests[-1])


class HangingToolbox(FakeToolbox):
    """Its servers do not come up."""

    async def definitions(self) -> Offer:
        self.called.set()
        await self.gate.wait()
        return NO_TOOLS


async def test_a_turn_can_be_cut_while_its_tools_are_still_connecting(bench: Bench) -> None:
    bench.toolbox_class = HangingToolbox
    feed = await bench.send("hi", key="conv:default:1", stateless=True)
    bench.toolboxes[0].gate.clear()
    heard: list[object] = []
    feed.listen(heard.append, stream=False)
    await bounded(bench.toolboxes[0].called.wait())

    feed.leave(heard.append)

    assert (await end_of(feed)).state == "cancelled"


async def test_a_turn_that_begins_after_a_reset_is_closed_in_the_transcript_it_ran_in(bench: Bench) -> None:
    bench.model.gate.clear()
    first = await bench.send("one")
    await bench.model.until_asked(1)
    reset, second = await bench.send("/reset"), await bench.send("two")
    bench.model.gate.set()
    await end_of(first)
    bench.model.gate.clear()
    await end_of(reset)
    await bench.model.until_asked(2)

    next_owner = OwnedShard(number=0, fence=2, store=bench.store.reopened())
    await recover(next_owner, bench.sessions.backlog, bench.registry)

    fresh = await next_owner.store.transcript(bench.registry.sessions[KEY])
    assert [(past.turn_id, past.state) for past in fresh] == [(second.turn_id, "interrupted")]
    assert orjson.loads(fresh[0].rows[0])["content"] == "two"
    assert bench.registry.cut_in == {second.turn_id: bench.registry.sessions[KEY]}


# -- stop, deletion, and shards that move ------------------------------------------------------------------------


async def test_what_an_earlier_owner_left_queued_does_not_begin_during_a_stop(bench: Bench) -> None:
    submission = bench.message("left")
    await bench.store.admit(submission, "ses_0", "queued")
    await bench.left()
    answer = held(bench, "transcript")
    resuming = asyncio.ensure_future(bench.sessions.resume(bench.shard))
    await until(lambda: bool(bench.registry.activations))

    await bounded(bench.sessions.stop("shutdown_timeout"))
    await bounded(bench.sessions.close())
    answer.set()
    await bounded(resuming)
    await until_idle()

    assert bench.store.rows[submission.turn_id].state == "queued"
    assert bench.toolboxes == []
    assert bench.sessions.resident == bench.sessions.pending == 0


async def test_a_message_that_comes_during_the_deletion_of_its_session_begins_a_new_one(bench: Bench) -> None:
    await bench.talk("one")
    bench.model.gate.clear()
    running = await bench.send("two")
    await bench.model.until_asked(2)
    answer = held(bench, "delete")
    deleting = asyncio.ensure_future(bench.sessions.delete(KEY, bench.shard))
    await until_idle()
    bench.model.gate.set()
    sent = asyncio.ensure_future(bench.send("fresh"))
    assert (await end_of(running)).state == "cancelled"
    await until_idle()
    answer.set()
    await bounded(deleting)

    ended = await end_of(await sent)

    assert ended.state == "completed"
    assert [message["content"] for message in bench.model.requests[-1]] == ["fresh"]
    assert {row.state for row in bench.store.rows.values()} == {"completed"}


async def test_a_deletion_does_not_wait_for_ever_for_a_turn_that_does_not_react(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = asyncio.Event()

    async def deaf(_request: ModelRequest, _on_text: object) -> object:
        try:
            await release.wait()
        except asyncio.CancelledError:
            await release.wait()
        return text_reply("too late")

    monkeypatch.setattr(bench.model, "complete", deaf)
    feed = await bench.send("one")
    await until_idle()

    await bounded(bench.sessions.delete(KEY, bench.shard))

    assert bench.store.rows == {}
    release.set()
    assert (await end_of(feed)).state == "failed"


async def test_a_page_of_large_messages_ends_early(bench: Bench) -> None:
    large = "x" * 3_000_000
    for n in range(2):
        await bench.talk(f"{n} {large}")

    first = await page(bench.sessions, KEY, bench.shard, 0, 10)
    assert first["next"] is not None
    rest = await page(bench.sessions, KEY, bench.shard, first["next"], 10)

    assert len(first["messages"]) == 1
    assert sum(len(orjson.dumps(row)) for row in rest["messages"]) < 8_000_000


def rows_in_state(bench: Bench, state: str) -> list[TurnRow]:
    return [row for row in bench.store.rows.values() if row.state == state]


async def test_a_shard_that_is_let_go_takes_its_sessions_along(bench: Bench) -> None:
    await bench.talk("one", key="api:default:b")
    bench.model.gate.clear()
    running, waiting = await bench.send("one"), await bench.send("two")
    await bench.model.until_asked(2)

    await bounded(bench.sessions.release(bench.shard))

    assert (await end_of(running)).state == "interrupted"
    assert (await end_of(waiting)).state == "interrupted"
    assert len(rows_in_state(bench, "interrupted")) == len(rows_in_state(bench, "queued")) == 1
    assert bench.sessions.resident == bench.sessions.pending == 0
    for toolbox in bench.toolboxes:
        await bounded(toolbox.closed.wait())


# -- order, and sessions that wait for their restart --------------------------------------------------------------


async def test_turns_run_in_the_order_of_their_admission_though_a_caller_left(bench: Bench) -> None:
    answer = held(bench, "admit")
    sent = [asyncio.ensure_future(bench.send(text)) for text in ("one", "two")]
    await until(lambda: bench.sessions.pending == 2)
    read = held(bench, "turn")
    sent[0].cancel()
    answer.set()
    second = await sent[1]
    await until_idle()
    assert [request[-1]["content"] for request in bench.model.requests] == ["one"]
    read.set()

    await end_of(second)

    assert [request[-1]["content"] for request in bench.model.requests] == ["one", "two"]


async def test_a_session_that_waits_for_its_restart_can_be_deleted_at_once() -> None:
    bench = Bench(SessionsConfig(), with_fallback=True)
    bench.model.script = [DOWN]
    await bench.talk("one")
    await until(lambda: bool(bench.fell_back))
    waiting = await bench.send("two")

    await bounded(bench.sessions.delete(KEY, bench.shard))

    assert waiting.ended is not None
    assert bench.sessions.pending == 0
    await bench.sessions.close()
