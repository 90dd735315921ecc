"""Sessions of a worker: what is on disk when, who waits for whom, who sleeps, what a stop leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pykka
import pytest
from fakes.model_failures import failed
from fakes.sessions import BOUND_S, Bench, end_of, events_of, text_reply, tool_reply, until
from fakes.virtual_time import time_passes, until_idle
from structlog.testing import capture_logs

from hermes_actors.config.model import SessionsConfig
from workers.sessions.agent import AgentActor
from workers.sessions.reading import describe, page
from workers.turns import Delta, Ended, Refusal, ToolProgress


async def bounded(wait: Awaitable[object]) -> None:
    async with asyncio.timeout(BOUND_S):
        await wait


def contents(messages: list[dict[str, object]]) -> list[object]:
    return [message["content"] for message in messages]


async def test_a_message_is_on_disk_before_it_is_accepted_and_its_end_before_it_is_told(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send()
    assert bench.store.journal == [("admit running", feed.turn_id)]
    bench.model.gate.set()

    ended = await end_of(feed)

    assert ended.text == "re: hi"
    assert bench.store.journal[-1] == ("finish completed", feed.turn_id)


async def test_the_next_turn_carries_the_conversation(bench: Bench) -> None:
    await bench.talk("one")
    await bench.talk("two")

    assert contents(bench.model.requests[-1]) == ["one", "re: one", "two"]


async def test_a_session_is_activated_once_not_per_turn(bench: Bench) -> None:
    for _ in range(3):
        await bench.talk()

    assert bench.registry.activations == ["api:default:a"]


async def test_turns_of_one_session_run_one_at_a_time_and_the_waiting_are_queued_on_disk(bench: Bench) -> None:
    bench.model.gate.clear()
    first, second = await bench.send("one"), await bench.send("two")
    await bench.model.until_asked(1)
    assert ("admit queued", second.turn_id) in bench.store.journal
    assert len(bench.model.requests) == 1
    bench.model.gate.set()

    await end_of(first)
    await end_of(second)

    assert bench.store.journal.index(("begin", second.turn_id)) > bench.store.journal.index(
        ("finish completed", first.turn_id)
    )


async def test_a_slow_session_delays_no_other(bench: Bench) -> None:
    bench.model.gate.clear()
    slow = await bench.send("slow")
    await bench.model.until_asked(1)
    gate, bench.model.gate = bench.model.gate, asyncio.Event()
    bench.model.gate.set()

    assert (await bench.talk("quick", key="api:default:b")).state == "completed"
    assert slow.ended is None
    gate.set()
    await end_of(slow)


async def test_a_full_mailbox_refuses_and_keeps_nothing(bench: Bench) -> None:
    bench.model.gate.clear()
    feeds = [await bench.send() for _ in range(3)]  # one runs, two wait

    with pytest.raises(Refusal) as refused:
        await bench.send()

    assert refused.value.code == "mailbox_full"
    assert refused.value.retry_after_s
    assert len(bench.store.rows) == 3
    bench.model.gate.set()
    assert {(await end_of(feed)).state for feed in feeds} == {"completed"}


async def test_tools_are_called_together_and_their_progress_is_told(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__a__x", "mcp__a__y"), text_reply("done")]

    events = await events_of(await bench.send())

    told = [(event.tool, event.status) for event in events if isinstance(event, ToolProgress)]
    assert told == [
        ("mcp__a__x", "running"),
        ("mcp__a__y", "running"),
        ("mcp__a__x", "completed"),
        ("mcp__a__y", "completed"),
    ]
    assert [event.text for event in events if isinstance(event, Delta)] == ["done"]
    operations = [operation for operation, _ in bench.store.journal]
    assert operations == ["admit running", "append", "append", "finish completed"]


async def test_a_failed_run_keeps_the_actor_and_its_tools(bench: Bench) -> None:
    await bench.talk("one")
    actor = bench.sessions._resident["api:default:a"].actor
    bench.model.script = [failed(text="down")]

    refused = await bench.talk("two")
    ended = await bench.talk("three")

    assert refused.state == "failed"
    assert refused.error is not None
    assert "down" in refused.error["text"]
    assert ended.state == "completed"
    assert bench.sessions._resident["api:default:a"].actor is actor
    assert len(bench.toolboxes) == 1


async def test_a_bug_in_a_turn_fails_that_turn_and_spares_the_actor(bench: Bench) -> None:
    bench.model.script = [ZeroDivisionError("with a private argument")]

    with capture_logs() as logged:
        ended = await bench.talk("one")

    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "internal_error"
    (line,) = [entry for entry in logged if entry["event"] == "turn failed by a bug"]
    assert line["exc_info"], "where it is, without its words: see test_logs"
    assert "private" not in str({**line, "exc_info": None})
    assert (await bench.talk("two")).state == "completed"


async def test_an_actor_that_dies_ends_its_turn_durably_and_a_new_one_takes_the_waiting_mail(bench: Bench) -> None:
    bench.model.gate.clear()
    bench.model.script = [SystemExit(1), text_reply("second")]
    first, second = await bench.send("one"), await bench.send("two")
    bench.model.gate.set()

    assert (await end_of(first)).state == "interrupted"
    assert (await end_of(second)).text == "second"
    assert ("finish interrupted", first.turn_id) in bench.store.journal


async def test_a_store_that_fails_at_admission_refuses_the_message(bench: Bench) -> None:
    bench.store.broken = {"admit running"}
    with pytest.raises(Refusal) as refused:
        await bench.send()
    assert refused.value.code == "store_failed"

    bench.store.broken = set()
    assert (await bench.talk()).state == "completed"


async def test_no_success_is_told_over_a_lost_end(bench: Bench) -> None:
    bench.store.broken = {"finish completed"}

    ended = await bench.talk()

    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "store_failed"


# -- idempotency --------------------------------------------------------------------------------------------------


async def test_the_same_key_and_body_share_one_turn_while_it_runs_and_after(bench: Bench) -> None:
    bench.model.gate.clear()
    first = await bench.send("pay", idempotency_key="k")
    second = await bench.send("pay", idempotency_key="k")
    assert second is first
    bench.model.gate.set()
    await end_of(first)

    replay = await end_of(await bench.send("pay", idempotency_key="k"))

    assert replay.text == "re: pay"
    assert replay.replayed
    assert len(bench.model.requests) == 1


async def test_two_at_the_same_moment_share_one_turn(bench: Bench) -> None:
    feeds = await asyncio.gather(*(bench.send("pay", idempotency_key="k") for _ in range(5)))

    assert len({feed.turn_id for feed in feeds}) == 1
    assert {(await end_of(feed)).text for feed in feeds} == {"re: pay"}
    assert len(bench.model.requests) == 1


async def test_the_same_key_with_another_body_is_a_conflict(bench: Bench) -> None:
    await bench.talk("pay 1", idempotency_key="k")

    with pytest.raises(Refusal) as refused:
        await bench.send("pay 2", idempotency_key="k")
    assert refused.value.code == "idempotency_conflict"


async def test_who_comes_late_to_a_stream_first_hears_the_text_so_far(bench: Bench) -> None:
    bench.model.script = [replace(tool_reply("mcp__a__x"), text="let me look. "), text_reply("done")]
    feed = await bench.send("go", idempotency_key="k")
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    await bench.model.until_asked(1)
    await bounded(toolbox.called.wait())

    late = asyncio.ensure_future(events_of(await bench.send("go", idempotency_key="k")))
    await until_idle()
    toolbox.gate.set()

    events = await late
    assert events[0] == Delta(text="let me look. ")
    assert [event.text for event in events if isinstance(event, Delta)] == ["let me look. ", "done"]
    assert feed.ended is not None


async def test_a_turn_that_is_handed_over_again_is_not_run_again(bench: Bench) -> None:
    submission = bench.message("once")
    await bench.talk(submission)

    ended = await end_of(await bench.send(submission, again=True))

    assert ended.text == "re: once"
    assert len(bench.model.requests) == 1


# -- callers that leave -------------------------------------------------------------------------------------------


async def test_a_stateless_turn_ends_when_its_caller_leaves(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hi", key="conv:default:1", stateless=True)
    heard: list[object] = []
    feed.listen(heard.append, stream=True)
    await bench.model.until_asked(1)

    feed.leave(heard.append)

    assert (await end_of(feed)).state == "cancelled"
    assert heard == []


async def test_a_stateful_turn_goes_on_when_its_caller_leaves(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hi")
    heard: list[object] = []
    feed.listen(heard.append, stream=True)
    await bench.model.until_asked(1)
    feed.leave(heard.append)
    bench.model.gate.set()

    assert (await end_of(feed)).state == "completed"


async def test_a_stateless_conversation_brings_its_past_itself(bench: Bench) -> None:
    await bench.talk("one", key="conv:default:1", stateless=True)
    await bench.talk("two", key="conv:default:1", stateless=True)

    assert contents(bench.model.requests[-1]) == ["two"]
    assert bench.registry.activations == []
    assert bench.stateless_ends == ["conv:default:1"] * 2


# -- passivation --------------------------------------------------------------------------------------------------


async def test_above_the_limit_the_longest_idle_session_sleeps_and_comes_back_with_its_past(bench: Bench) -> None:
    for name in "abcd":
        await bench.talk(f"I am {name}", key=f"api:default:{name}")
    assert bench.sessions.resident == 3
    await bounded(bench.toolboxes[0].closed.wait())

    await bench.talk("who am I?", key="api:default:a")

    assert contents(bench.model.requests[-1]) == ["I am a", "re: I am a", "who am I?"]
    assert bench.registry.activations.count("api:default:a") == 2


async def test_an_idle_session_sleeps_after_its_time_but_never_while_a_turn_runs() -> None:
    bench = Bench(SessionsConfig(idle_ttl_seconds=60.0))
    bench.model.gate.clear()
    feed = await bench.send("busy")
    await bench.model.until_asked(1)
    await time_passes(61.0)
    bench.sessions.passivate()
    assert bench.sessions.resident == 1
    bench.model.gate.set()
    await end_of(feed)
    await time_passes(61.0)

    bench.sessions.passivate()

    assert bench.sessions.resident == 0
    await bench.sessions.close()
    assert bench.toolboxes[0].closed.is_set()


async def test_a_sleeping_sessions_actor_is_gone(bench: Bench) -> None:
    await bench.talk()
    (ref,) = pykka.ActorRegistry.get_by_class(AgentActor)

    await bench.sessions.evict("api:default:a")

    await bounded(asyncio.to_thread(ref.actor_stopped.wait, BOUND_S))
    assert pykka.ActorRegistry.get_by_class(AgentActor) == []


async def test_a_supervisor_that_does_not_answer_refuses_the_message_and_the_next_try_works(bench: Bench) -> None:
    bench.registry.down = True
    with pytest.raises(Refusal) as refused:
        await bench.send()
    assert refused.value.code == "shard_unavailable"
    bench.registry.down = False

    assert (await bench.talk()).state == "completed"


# -- stop ---------------------------------------------------------------------------------------------------------


async def test_a_stop_keeps_waiting_turns_queued_and_admits_no_more(bench: Bench) -> None:
    bench.model.gate.clear()
    _, waiting = await bench.send("one"), await bench.send("two")
    await bench.model.until_asked(1)
    stopping = asyncio.ensure_future(bench.sessions.stop("shutdown_timeout"))
    await until_idle()
    with pytest.raises(Refusal) as refused:
        await bench.send("three")
    assert refused.value.code == "gateway_draining"
    async with asyncio.timeout(BOUND_S):
        await stopping

    assert (await end_of(waiting)).error is not None
    assert bench.store.rows[waiting.turn_id].state == "queued"


async def test_a_turn_that_runs_at_a_stop_is_cut_and_stays_as_it_is_on_disk_for_its_next_owner(
    bench: Bench,
) -> None:
    bench.model.gate.clear()
    feed = await bench.send()
    await bench.model.until_asked(1)

    async with asyncio.timeout(BOUND_S):
        await bench.sessions.stop("shutdown_timeout")

    ended = await end_of(feed)
    assert ended.state == "interrupted"
    assert ended.error is not None
    assert ended.error["code"] == "turn_interrupted"
    assert bench.store.rows[feed.turn_id].state == "running"


async def test_a_deleted_session_is_gone_with_its_running_turn(bench: Bench) -> None:
    await bench.talk("one")
    bench.model.gate.clear()
    feed = await bench.send("two")
    await bench.model.until_asked(2)

    async with asyncio.timeout(BOUND_S):
        await bench.sessions.delete("api:default:a", bench.shard)

    assert (await end_of(feed)).state == "cancelled"
    assert bench.store.rows == {}
    assert bench.registry.sessions == {}
    with pytest.raises(Refusal):
        await bench.sessions.delete("api:default:a", bench.shard)


@pytest.mark.parametrize("resumes", ["after", "during"])
async def test_a_deleted_session_does_not_come_back_for_what_an_earlier_owner_left_it(
    bench: Bench, resumes: str
) -> None:
    left = [bench.message("one", key="api:default:b"), bench.message("two")]
    for submission in left:
        bench.registry.sessions[submission.key] = f"ses_{submission.key}"
        await bench.store.admit(submission, f"ses_{submission.key}", "queued")
    await bench.left()
    answer = bench.store.gates["delete"] = asyncio.Event()

    deleting = asyncio.ensure_future(bench.sessions.delete("api:default:a", bench.shard))
    await until_idle()
    resuming = asyncio.ensure_future(bench.sessions.resume(bench.shard)) if resumes == "during" else None
    await until(lambda: left[1].turn_id not in bench.store.rows)
    answer.set()
    await bounded(deleting)
    await bounded(resuming if resuming is not None else bench.sessions.resume(bench.shard))

    await until(lambda: bench.store.rows[left[0].turn_id].state == "completed")
    assert list(bench.registry.sessions) == ["api:default:b"]
    assert not bench.sessions.backlog


async def test_a_session_in_which_only_commands_were_used_is_described_while_it_sleeps(bench: Bench) -> None:
    await bench.talk("/model big")
    await bench.sessions.evict("api:default:a")

    described = await describe(bench.sessions, "api:default:a", bench.shard)

    assert described["state"] == "passivated"
    with pytest.raises(Refusal) as refused:
        await describe(bench.sessions, "api:default:b", bench.shard)
    assert refused.value.code == "session_not_found"


async def test_a_page_of_the_transcript_tells_where_the_next_begins(bench: Bench) -> None:
    await bench.talk("one")
    await bench.talk("two")

    first = await page(bench.sessions, "api:default:a", bench.shard, 0, 3)
    assert first["next"] is not None
    rest = await page(bench.sessions, "api:default:a", bench.shard, first["next"], 3)

    texts = [row["message"]["content"] for row in [*first["messages"], *rest["messages"]]]
    assert texts == ["one", "re: one", "two", "re: two"]
    assert rest["next"] is None


async def test_a_line_takes_the_place_of_an_empty_answer_for_who_streams_too(bench: Bench) -> None:
    bench.model.script = [text_reply("")]
    events = await events_of(await bench.send("hi"))

    (line,) = [event.text for event in events if isinstance(event, Delta)]
    assert isinstance(events[-1], Ended)
    assert (events[-1].state, events[-1].text) == ("completed", line)
    assert "empty answer" in line


async def test_a_session_names_the_turn_that_runs_in_it(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("one")
    await bench.model.until_asked(1)

    running = await describe(bench.sessions, "api:default:a", bench.shard)
    bench.model.gate.set()
    await end_of(feed)
    await until_idle()
    idle = await describe(bench.sessions, "api:default:a", bench.shard)

    assert (running["running"], running["state"]) == (feed.turn_id, "busy")
    assert (idle["running"], idle["state"]) == (None, "idle")
