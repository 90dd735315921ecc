"""What a turn promises whatever runtime runs it: the built-in agent and a pydantic-ai agent keep the same promises."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fakes.model_failures import failed
from fakes.sessions import Bench, FakeToolbox, bounded, end_of, events_of, text_reply, tool_reply, until
from runtimes.conftest import TOOLS

from hermes_actors.wire.messages import Cut, Drain, Seal
from workers.models.cause import Cause
from workers.runtimes.transcript import OUTCOME_UNKNOWN
from workers.tools.toolbox import Prompted
from workers.turns import Delta, ToolProgress

READ, WRITE = TOOLS


def transcript(bench: Bench, turn_id: str) -> list[tuple[str, Any]]:
    """The messages of a turn on disk: role, and its text or the names of the tools that it calls."""
    rows = [orjson.loads(row) for row in bench.store.messages[turn_id]]
    return [(row["role"], _called(row) if "tool_calls" in row else row["content"]) for row in rows]


def _called(row: dict[str, Any]) -> list[str]:
    return [call["function"]["name"] for call in row["tool_calls"]]


def held_tools(bench: Bench) -> None:
    """The tools of the sessions to come answer once a test lets them."""

    def made(key: str) -> FakeToolbox:
        toolbox = offering(key)
        toolbox.gate.clear()
        return toolbox

    offering, bench.toolbox_class = bench.toolbox_class, made  # type: ignore[assignment]  # makes one all the same


async def test_the_answer_is_on_disk_before_the_caller_has_it(bench: Bench) -> None:
    feed = await bench.send("hello")
    events = await events_of(feed)

    assert [event.text for event in events if isinstance(event, Delta)] == ["re: hello"]
    assert transcript(bench, feed.turn_id) == [("user", "hello"), ("assistant", "re: hello")]
    assert bench.store.journal == [("admit running", feed.turn_id), ("finish completed", feed.turn_id)]
    assert feed.ended is not None
    assert (feed.ended.state, feed.ended.text, feed.ended.usage) == ("completed", "re: hello", {"total_tokens": 1})


async def test_a_tool_runs_once_its_call_is_on_disk_and_the_model_is_asked_once_its_result_is(bench: Bench) -> None:
    bench.model.script = [tool_reply(READ), text_reply("done")]
    appended = bench.store.gates["append"] = asyncio.Event()
    feed = await bench.send("read it")
    await until(lambda: ("append", feed.turn_id) in bench.store.journal)

    assert bench.toolboxes[0].calls == []
    appended.set()
    events = await events_of(feed)

    assert [(e.tool, e.status) for e in events if isinstance(e, ToolProgress)] == [
        (READ, "running"),
        (READ, "completed"),
    ]
    assert transcript(bench, feed.turn_id) == [
        ("user", "read it"),
        ("assistant", [READ]),
        ("tool", f"{READ} said so"),
        ("assistant", "done"),
    ]
    assert [what for what, _ in bench.store.journal[1:]] == ["append", "append", "finish completed"]


async def test_the_tools_of_one_answer_run_together(bench: Bench) -> None:
    held_tools(bench)
    bench.model.script = [tool_reply(READ, WRITE), text_reply("done")]
    feed = await bench.send("both")
    await until(lambda: bool(bench.toolboxes) and bench.toolboxes[0].calls == [READ, WRITE])
    bench.toolboxes[0].gate.set()

    assert (await end_of(feed)).text == "done"
    assert transcript(bench, feed.turn_id)[1:4] == [
        ("assistant", [READ, WRITE]),
        ("tool", f"{READ} said so"),
        ("tool", f"{WRITE} said so"),
    ]


async def test_the_next_message_goes_on_in_the_same_conversation(bench: Bench) -> None:
    bench.model.script = [tool_reply(READ), text_reply("done")]
    await bench.talk("first")

    await bench.talk("second")

    roles = [message["role"] for message in bench.model.requests[-1]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


async def test_a_tool_that_does_not_exist_is_a_result_that_the_model_may_mend(bench: Bench) -> None:
    bench.model.script = [tool_reply("mcp__none__such"), text_reply("sorry")]

    assert (await bench.talk("hi")).text == "sorry"
    assert [message["role"] for message in bench.model.requests[-1]] == ["user", "assistant", "tool"]


async def test_a_model_that_fails_ends_the_turn_with_an_error_and_the_message_stays(bench: Bench) -> None:
    bench.model.script = [failed(status=500, text="oops")]
    bench.fallback.script = [failed(status=500, text="oops too")]

    ended = await bench.talk("hi")

    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error["code"], ended.error["http_status"]) == ("provider_error", 502)
    assert transcript(bench, ended.turn_id) == [("user", "hi")]
    await bench.talk("again")
    assert [message["content"] for message in bench.model.requests[-1]] == ["hi", "again"]


async def test_a_message_that_was_refused_for_itself_is_left_out_later(bench: Bench) -> None:
    bench.model.script = [failed(cause=Cause.CONTENT, status=400)]
    bench.fallback.script = [failed(cause=Cause.CONTENT, status=400)]

    assert (await bench.talk("bad")).state == "failed"
    await bench.talk("good")

    assert [message["content"] for message in bench.model.requests[-1]] == ["good"]


async def test_a_turn_that_calls_tools_for_too_long_fails_with_a_valid_transcript(bench: Bench) -> None:
    bench.model.script = [tool_reply(READ) for _ in range(6)]

    ended = await bench.talk("hi")

    assert ended.error is not None
    assert ended.error["code"] == "max_turns"
    assert len(bench.model.requests) == 5
    assert transcript(bench, ended.turn_id)[1:] == [("assistant", [READ]), ("tool", f"{READ} said so")] * 5


async def test_a_success_on_a_fallback_is_reported_once(bench: Bench) -> None:
    bench.model.script = [failed(status=500, text="oops")]

    ended = await bench.talk("hi")

    assert (ended.state, ended.model) == ("completed", "fake-1")
    assert bench.fell_back == [(ended.turn_id, "spare", "fake-2")]


async def test_a_stopped_turn_closes_the_call_that_runs_and_the_model_hears_of_it(bench: Bench) -> None:
    held_tools(bench)
    bench.model.script = [tool_reply(WRITE)]
    feed = await bench.send("write")
    await until(lambda: bool(bench.toolboxes) and bench.toolboxes[0].calls == [WRITE])

    await bench.talk("/stop")

    assert (await end_of(feed)).state == "cancelled"
    assert transcript(bench, feed.turn_id)[1:] == [("assistant", [WRITE]), ("tool", OUTCOME_UNKNOWN)]
    await bench.talk("what now?")
    assert [message["content"] for message in bench.model.requests[-1]][2:] == [OUTCOME_UNKNOWN, "what now?"]


async def test_a_turn_that_a_drain_cuts_while_a_tool_runs_is_interrupted_and_the_next_goes_on(bench: Bench) -> None:
    held_tools(bench)
    bench.model.script = [tool_reply(WRITE)]
    feed = await bench.send("write")
    await until(lambda: bool(bench.toolboxes) and bench.toolboxes[0].calls == [WRITE])

    begin_drain(bench)
    assert [turn.turn_id for turn in bench.sessions.seal(Seal(request=1)).cut] == [feed.turn_id]
    bench.sessions.draining.cut(Cut(reason="restart_timeout", at=1.0))
    ended = await end_of(feed)

    assert ended.state == "interrupted"
    assert transcript(bench, feed.turn_id)[1:] == [("assistant", [WRITE]), ("tool", OUTCOME_UNKNOWN)]
    bench.sessions.draining.over()
    await bench.talk("go on")
    note, *conversation = (message["content"] for message in bench.model.requests[-1])
    assert "restarted while it ran" in note
    assert conversation[2:] == ["outcome unknown", "go on"]


async def test_a_sealed_turn_that_comes_to_its_end_is_cut_and_what_its_tools_gave_is_kept(bench: Bench) -> None:
    held_tools(bench)
    bench.model.script = [tool_reply(READ), text_reply("done")]
    feed = await bench.send("read")
    await until(lambda: bool(bench.toolboxes) and bench.toolboxes[0].calls == [READ])

    begin_drain(bench)
    bench.sessions.seal(Seal(request=1))
    bench.toolboxes[0].gate.set()
    await bench.model.until_asked(2)
    assert feed.ended is None
    bench.sessions.draining.cut(Cut(reason="restart_timeout", at=1.0))

    assert (await end_of(feed)).state == "interrupted"
    assert ("tool", f"{READ} said so") in transcript(bench, feed.turn_id)


def begin_drain(bench: Bench) -> None:
    bench.sessions.draining.begin(Drain(number=1, deadline=2.0, reason="restart_timeout", then="hold", asker=None))


async def test_no_tool_runs_whose_call_cannot_be_stored(bench: Bench) -> None:
    bench.model.script = [tool_reply(WRITE), text_reply("done")]
    bench.store.broken = {"append"}

    ended = await bench.talk("write")

    assert ended.error is not None
    assert ended.error["code"] == "store_failed"
    assert bench.toolboxes[0].calls == []


async def test_a_caller_who_leaves_a_stateless_turn_ends_it(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hi", key="api:default:stateless:x", stateless=True)
    await bench.model.until_asked(1)

    feed.leave(lambda _: None)

    assert (await end_of(feed)).state == "cancelled"


async def test_a_message_that_asks_for_a_prompt_brings_the_prompts_messages(bench: Bench) -> None:
    await bench.talk("hi")
    bench.toolboxes[0].prompted = Prompted(messages=(b'{"role":"user","content":"from the server"}',))

    ended = await bench.talk("/mcp__files__greet")

    assert ended.text == "re: from the server"
    assert transcript(bench, ended.turn_id)[1:] == [("user", "from the server"), ("assistant", "re: from the server")]


async def test_a_bug_below_the_runtime_costs_its_turn_only(bench: Bench) -> None:
    bench.model.script = [ValueError("a bug")]

    ended = await bench.talk("hi")

    assert ended.error is not None
    assert ended.error["code"] == "internal_error"
    assert (await bounded(bench.talk("again"))).state == "completed"
