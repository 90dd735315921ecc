"""What is odd about an answer is told in the log: once a minute, without what was said."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.offers import offer_of
from structlog.testing import capture_logs

from workers.models.log_throttle import PAUSE_S
from workers.models.oddities import Oddities, is_call_as_text
from workers.models.offer import NO_TOOLS
from workers.models.pieces import MAX_FIELD_BYTES
from workers.models.reply import ReplyBuilder

TOOLS = offer_of([{"type": "function", "function": {"name": "mcp__x__echo", "description": "d"}}])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(oddities: Oddities, text: str, finish: str = "stop", tools: Any = TOOLS, **delta: Any) -> list[Any]:
    builder = ReplyBuilder()
    builder.feed({"choices": [{"delta": {"content": text, **delta}, "finish_reason": finish}]})
    builder.finish()
    with capture_logs() as logs:
        oddities.tell(builder.reply("asked", provider="custom"), builder, tools)
    return logs


CALLS = [
    '<tool_call>{"name": "mcp__x__echo", "arguments": {}}</tool_call>',
    'Let me look.\n<tool_call>\n{"name": "mcp__x__echo"}',
    "<function=mcp__x__echo>{}</function>",
    '<|python_tag|>{"name": "mcp__x__echo"}',
    '[TOOL_CALLS][{"name": "mcp__x__echo"}]',
    "<\uff5ctool\u2581calls\u2581begin\uff5c>",
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.mcp__x__echo:0",
    '<minimax:tool_call><invoke name="mcp__x__echo">',
    '{"name": "mcp__x__echo", "parameters": {"text": "x"}}',
    '{"name": "mcp__x__echo", "arguments": {}}',
]
NO_CALLS = [
    "An ordinary answer.",
    '{"name": "somebody", "arguments": []}',
    '{"name": "mcp__x__echo"}',
    "Models write it so:\n```\n<tool_call>{}</tool_call>\n```\nand servers parse it.",
    '```json\n{"name": "mcp__x__echo", "arguments": {}}\n```',
    "a < b and c > d",
]


@pytest.mark.parametrize("text", CALLS)
def test_a_tool_call_that_arrives_as_text_is_told(text: str) -> None:
    assert is_call_as_text(text, TOOLS)

    (line,) = told(Oddities(Clock()), text)

    assert "tool call as text" in line["event"]
    assert (line["provider"], line["model"]) == ("custom", "asked")


@pytest.mark.parametrize("text", NO_CALLS)
def test_a_text_about_tool_calls_is_a_text(text: str) -> None:
    assert not told(Oddities(Clock()), text)


def test_where_no_tools_are_offered_a_text_is_a_text() -> None:
    assert not told(Oddities(Clock()), CALLS[0], tools=NO_TOOLS)


def test_an_unknown_finish_reason_is_told_once_a_minute() -> None:
    clock = Clock()
    oddities = Oddities(clock)

    first, again, other = (told(oddities, "Hi", word) for word in ("flare", "flare", "storm"))
    clock.now += PAUSE_S
    later = told(oddities, "Hi", "flare")

    assert [[line["finish_reason"] for line in lines] for lines in (first, again, other, later)] == [
        ["flare"],
        [],
        ["storm"],
        ["flare"],
    ]
    assert later[0]["times"] == 2


def test_what_is_dropped_is_named_and_not_shown() -> None:
    (line,) = told(Oddities(Clock()), "Hi", signature="s" * (MAX_FIELD_BYTES + 1))

    assert line["fields"] == ["signature"]
    assert "sss" not in str(line)
