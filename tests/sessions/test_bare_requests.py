"""A request to the model alone: no tools and no prompt of the agent, and nothing is left of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fakes.model_failures import failed
from fakes.sessions import Bench, end_of, text_reply, tool_reply
from fakes.virtual_time import until_idle

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.refusals import RefusalCode
from workers.sessions.admission import MAX_BARE
from workers.turns import Ended, Refusal

LOOK = {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]}


async def ask(bench: Bench, text: str = "hi", number: int = 1, **fields: Any) -> Ended:
    return await bench.talk(text, key=f"bare:default:{number}", stateless=True, **fields)


async def test_the_model_gets_the_messages_alone_and_no_tool_server_is_asked(bench: Bench) -> None:
    bench.sessions.agent_config = replace(bench.sessions.agent_config, system_prompt="You are an agent.")

    ended = await ask(bench)

    assert ended.text == "re: hi"
    assert bench.model.requests == [[{"role": "user", "content": "hi"}]]
    assert bench.toolboxes == []


async def test_instructions_and_tools_of_the_client_reach_the_model(bench: Bench) -> None:
    bench.model.script = [tool_reply("look")]

    ended = await ask(bench, parameters=LOOK | {"instructions": "be brief"})

    assert bench.model.requests[0][0] == {"role": "system", "content": "be brief"}
    assert [call["function"]["name"] for call in ended.tool_calls] == ["look"]


async def test_a_command_is_a_message_to_the_model_like_any_other(bench: Bench) -> None:
    assert (await ask(bench, "/help")).text == "re: /help"


async def test_nothing_stays_in_memory_and_no_follow_up_finds_it(bench: Bench) -> None:
    await ask(bench)
    await until_idle()

    assert bench.sessions.resident == 0


async def test_a_fallback_answers_and_no_actor_is_restarted() -> None:
    bench = Bench(SessionsConfig(), with_fallback=True)
    bench.model.script = [failed(status=500)]
    bench.fallback.script = [text_reply("of the fallback")]

    assert (await ask(bench)).text == "of the fallback"
    assert bench.fell_back == []
    await bench.sessions.close()


async def test_too_many_at_once_are_refused_and_leave_room_when_they_end(bench: Bench) -> None:
    bench.model.gate.clear()
    feeds = [await bench.send("hi", key=f"bare:default:{n}", stateless=True) for n in range(MAX_BARE)]

    with pytest.raises(Refusal) as refused:
        await ask(bench, number=MAX_BARE)
    bench.model.gate.set()
    await asyncio.gather(*map(end_of, feeds))
    await until_idle()

    assert refused.value.code is RefusalCode.MAILBOX_FULL
    assert (await ask(bench, number=MAX_BARE)).state == "completed"
