"""Tools that a client runs: their calls end the turn, and their results begin the next one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.offers import offer_of
from fakes.sessions import Bench, FakeToolbox, text_reply, tool_reply
from fakes.valid_request import problems

from workers.models.calls import NO_RESULT
from workers.models.offer import Offer
from workers.turns import Ended

OWN = "mcp__files__read"


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


LOOK: dict[str, Any] = {"tools": [tool("look"), tool("listen")]}


class OwnTools(FakeToolbox):
    async def definitions(self) -> Offer:
        return offer_of([tool(OWN)])


@pytest.fixture(autouse=True)
def own_tools(bench: Bench) -> None:
    bench.toolbox_class = OwnTools


def result(call_id: str, text: str) -> bytes:
    return orjson.dumps({"role": "tool", "tool_call_id": call_id, "content": text})


async def ask(bench: Bench, text: str = "hi", **choice: Any) -> Ended:
    return await bench.talk(text, parameters=LOOK | choice)


def ids(ended: Ended) -> list[str]:
    return [call["id"] for call in ended.tool_calls]


def last_request(bench: Bench) -> list[dict[str, Any]]:
    assert problems(bench.model.requests[-1]) == []
    return bench.model.requests[-1]


async def test_a_call_of_a_clients_tool_completes_the_turn(bench: Bench) -> None:
    bench.model.script = [tool_reply("look", "listen")]

    ended = await ask(bench)

    assert (ended.state, ended.finish_reason, ended.error) == ("completed", "tool_calls", None)
    assert ended.tool_calls == [
        {"id": "call-0", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        {"id": "call-1", "type": "function", "function": {"name": "listen", "arguments": "{}"}},
    ]
    assert bench.toolboxes[0].calls == []


async def test_its_results_go_on_with_the_conversation(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), text_reply("it is blue")]
    await ask(bench)

    ended = await bench.talk(messages=[result("call-0", "blue")], parameters=LOOK)

    assert ended.text == "it is blue"
    assert [message["role"] for message in last_request(bench)] == ["user", "assistant", "tool"]
    assert last_request(bench)[-1]["content"] == "blue"


async def test_the_agents_own_tools_run_before_the_turn_ends(bench: Bench) -> None:
    bench.model.script = [tool_reply("look", OWN), text_reply("done")]

    ended = await ask(bench)
    assert ids(ended) == ["call-0"]
    assert bench.toolboxes[0].calls == [OWN]

    await bench.talk(messages=[result("call-0", "blue")])
    _, asked, *results = last_request(bench)
    assert [call["function"]["name"] for call in asked["tool_calls"]] == ["look", OWN]
    assert [row["content"] for row in results] == ["blue", f"{OWN} said so"]


async def test_plain_words_instead_of_results_close_the_calls(bench: Bench) -> None:
    bench.model.script = [tool_reply("look")]
    await ask(bench)

    await bench.talk("never mind")

    assert [message["content"] for message in last_request(bench)][2:] == [NO_RESULT, "never mind"]


async def test_a_call_whose_result_is_missing_is_closed_beside_the_others(bench: Bench) -> None:
    bench.model.script = [tool_reply("look", "listen")]
    await ask(bench)

    await bench.talk(messages=[result("call-1", "hush")])

    assert [message["content"] for message in last_request(bench)][2:] == [NO_RESULT, "hush"]
