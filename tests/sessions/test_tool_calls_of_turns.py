"""The tool calls of one answer: how many at a time, and in which order their results stand."""

from __future__ import annotations

import pytest
from fakes.sessions import Bench, FakeToolbox, end_of, text_reply, tool_reply, until

from workers.runtimes.transcript import OUTCOME_UNKNOWN
from workers.sessions import host

NAMES = [f"mcp__a__{at}" for at in range(5)]


@pytest.fixture
def toolbox(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> FakeToolbox:
    """Of the session to come; two calls at a time are made, and wait."""
    monkeypatch.setattr(host, "MAX_CALLS_AT_ONCE", 2)
    bench.model.script = [tool_reply(*NAMES), text_reply("done")]
    made = FakeToolbox("a")
    made.gate.clear()
    bench.toolbox_class = lambda _: made  # type: ignore[assignment]  # makes this one
    return made


async def test_a_turn_makes_some_of_its_tool_calls_at_a_time_and_keeps_their_order(
    bench: Bench, toolbox: FakeToolbox
) -> None:
    feed = await bench.send()
    await until(lambda: len(toolbox.calls) >= 2)
    assert toolbox.calls == NAMES[:2]

    toolbox.gate.set()

    assert (await end_of(feed)).state == "completed"
    assert toolbox.calls == NAMES
    asked = bench.model.requests[-1]
    assert [row["content"] for row in asked if row["role"] == "tool"] == [f"{name} said so" for name in NAMES]


async def test_a_turn_that_is_stopped_makes_none_of_the_calls_that_wait(bench: Bench, toolbox: FakeToolbox) -> None:
    feed = await bench.send()
    await until(lambda: len(toolbox.calls) >= 2)

    await bench.talk("/stop")
    toolbox.gate.set()

    assert (await end_of(feed)).state == "cancelled"
    await bench.talk("go on")
    assert toolbox.calls == NAMES[:2]
    told = [row["content"] for row in bench.model.requests[-1] if row["role"] == "tool"]
    assert told == [OUTCOME_UNKNOWN] * len(NAMES)
