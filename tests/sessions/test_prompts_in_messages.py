"""A message that asks for the prompt of an MCP server."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from fakes.sessions import Bench, FakeToolbox
from fakes.virtual_time import until_idle

from workers.sessions.commands import help_text, prompt_asked_for
from workers.tools.toolbox import Prompted

ASKS = "/mcp__s__weather Rome"
GIVEN = tuple(
    orjson.dumps({"role": role, "content": text}) for role, text in (("assistant", "I am."), ("user", "Weather?"))
)


@pytest.fixture
def prompted(bench: Bench) -> list[Prompted]:
    """What the servers answer next."""
    answers: list[Prompted] = []

    class Prompting(FakeToolbox):
        prompts = ("/mcp__s__weather city=…",)
        instructions = "The server says: look first."

        async def prompt(self, text: str) -> Prompted | None:
            assert text == ASKS
            return answers[0] if answers else None

    bench.toolbox_class = Prompting
    return answers


def said(request: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in request]


async def test_the_messages_of_a_prompt_are_those_of_the_turn_now_and_later(
    bench: Bench, prompted: list[Prompted]
) -> None:
    prompted.append(Prompted(messages=GIVEN))

    ended = await bench.talk(ASKS)
    await bench.talk("and now?")

    assert ended.state == "completed"
    first, second = bench.model.requests
    assert said(first) == ["The server says: look first.", ASKS, "I am.", "Weather?"]
    assert said(second) == [*said(first), ended.text, "and now?"]
    await bench.sessions.evict("api:default:a")
    await bench.talk("still?")
    assert said(bench.model.requests[-1])[:5] == said(second)[:5]


async def test_a_prompt_that_is_asked_for_twice_under_one_key_is_one_turn(
    bench: Bench, prompted: list[Prompted]
) -> None:
    prompted.append(Prompted(messages=GIVEN))
    message = bench.message(ASKS, idempotency_key="k")

    one = await bench.talk(message)
    other = await bench.talk(message)

    assert (one.text, one.turn_id) == (other.text, other.turn_id)
    assert len(bench.model.requests) == 1


async def test_how_to_ask_for_a_prompt_is_answered_without_a_model(bench: Bench, prompted: list[Prompted]) -> None:
    prompted.append(Prompted(answer="It needs city."))

    ended = await bench.talk(ASKS)

    assert (ended.state, ended.text, ended.error) == ("completed", "It needs city.", None)
    assert not bench.model.requests


@pytest.mark.parametrize(("may_pass", "status"), [(True, 502), (False, 400)])
async def test_a_prompt_that_fails_fails_its_turn_with_the_reason(
    bench: Bench, prompted: list[Prompted], may_pass: bool, status: int
) -> None:
    prompted.append(Prompted(answer="There is no such city.", failed=True, may_pass=may_pass))

    ended = await bench.talk(ASKS)

    assert ended.state == "failed"
    assert ended.error is not None
    assert (ended.error["code"], ended.error["http_status"]) == ("prompt_failed", status)
    assert ended.error["text"] == "There is no such city."


async def test_a_word_that_is_no_prompt_goes_to_the_model(bench: Bench, prompted: list[Prompted]) -> None:
    await bench.talk(ASKS)

    assert said(bench.model.requests[0])[1:] == [ASKS]


async def test_help_lists_the_prompts_that_are_known(bench: Bench, prompted: list[Prompted]) -> None:
    ended = await bench.talk("/help")

    assert "                 /mcp__s__weather city=…\n" in ended.text
    assert help_text(()).count("mcp__") == 1


async def test_help_does_not_wait_for_a_session_that_is_being_activated(bench: Bench, prompted: list[Prompted]) -> None:
    gate, activate = asyncio.Event(), bench.registry.activate

    async def held(*args: Any, **how: Any) -> Any:
        await gate.wait()
        return await activate(*args, **how)

    bench.registry.activate = held  # type: ignore[method-assign]
    first = asyncio.create_task(bench.talk("hi"))
    await until_idle()

    assert "/mcp__s__weather" in (await bench.talk("/help")).text

    gate.set()
    assert (await first).state == "completed"


async def test_commands_that_are_answered_at_once_leave_no_toolbox_open(bench: Bench, prompted: list[Prompted]) -> None:
    for text in ("/help", "/stop", "/status"):
        await bench.talk(text)
    assert [toolbox.closed.is_set() for toolbox in bench.toolboxes] == [True]

    await bench.talk("hi")
    await bench.talk("/help")
    assert [toolbox.closed.is_set() for toolbox in bench.toolboxes] == [True, False]


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("/mcp__s__p", True),
        ("/mcp__s__p with\nlines " + "x" * 1000, True),
        (" /mcp__s__p", False),
        ("say /mcp__s__p", False),
        ("/mcp_s", False),
        ('"/mcp__s__p"', False),
    ],
)
@pytest.mark.parametrize("in_parts", [False, True])
def test_a_prompt_is_asked_for_by_a_message_that_begins_with_its_command(text: str, asks: bool, in_parts: bool) -> None:
    content = [{"type": "text", "text": text}] if in_parts else text
    message = orjson.dumps({"role": "user", "content": content})

    assert prompt_asked_for([orjson.dumps({"role": "user", "content": "/mcp__s__old"}), message]) == (
        text if asks else None
    )


async def test_instructions_of_a_request_reach_the_model_in_that_turn_alone(bench: Bench) -> None:
    await bench.talk("hi", parameters={"instructions": "be brief", "temperature": 0.5})
    await bench.talk("and now?")

    first, second = bench.model.requests
    assert first[0] == {"role": "system", "content": "be brief"}
    assert "be brief" not in said(second)
    assert bench.model.parameters == [{"temperature": 0.5}, {}]
