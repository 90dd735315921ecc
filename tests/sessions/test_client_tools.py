"""Tools that a client runs: their calls end the turn, and their results begin the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pykka
import pytest
from fakes.model_failures import failed
from fakes.offers import offer_of
from fakes.sessions import Bench, FakeToolbox, end_of, text_reply, tool_reply
from fakes.valid_request import problems
from fakes.virtual_time import LOOP_FACTORIES
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import assistant_message
from workers.models.calls import NO_RESULT
from workers.models.cause import Cause
from workers.models.offer import Offer
from workers.models.provider import ModelFailure, ModelReply, ToolCall
from workers.runtimes.chat.machine import PICTURES_LEFT_OUT
from workers.runtimes.transcript import RESULTS_CAME
from workers.sessions.agent import AgentActor
from workers.sessions.client_tools import offered
from workers.sessions.hidden_work import MAX_BYTES, HiddenWork
from workers.tools.toolbox import ToolResult
from workers.turns import Ended, Refusal

OWN = "mcp__files__read"


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


LOOK: dict[str, Any] = {"tools": [tool("look"), tool("listen")]}


class OwnTools(FakeToolbox):
    async def definitions(self) -> Offer:
        return offer_of([tool(OWN)])


class ShowingTools(OwnTools):
    async def call(self, call: ToolCall) -> ToolResult:
        return ToolResult(text="seen", images=("data:image/png;base64,AA==",))


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


@pytest.mark.parametrize("choice", ["none", "auto", "required"])
async def test_no_choice_hides_the_agents_own_tools(bench: Bench, choice: str) -> None:
    bench.model.script = [tool_reply(OWN), text_reply("done")]

    assert (await ask(bench, tool_choice=choice)).text == "done"


# -- the offer ----------------------------------------------------------------------------------------------------
OWN_OFFER = offer_of([tool(OWN)])


def offer(**choice: Any) -> tuple[list[str], frozenset[str], dict[str, Any]]:
    both = offered(OWN_OFFER, {**LOOK, "temperature": 0, **choice})
    names = [each["function"]["name"] for each in orjson.loads(both.tools.joined)]
    return names, both.of_client, dict(both.parameters)


def test_the_clients_tools_stand_behind_the_agents_own() -> None:
    assert offer() == ([OWN, "look", "listen"], frozenset({"look", "listen"}), {"temperature": 0})


def test_a_client_that_wants_none_of_its_tools_called_has_none_offered() -> None:
    assert offer(tool_choice="none") == ([OWN], frozenset(), {"temperature": 0})


def test_a_choice_of_some_tools_offers_these_alone_of_the_clients() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "listen"}}]}

    names, of_client, parameters = offer(tool_choice={"type": "allowed_tools", "allowed_tools": allowed})

    assert (names, of_client) == ([OWN, "listen"], frozenset({"listen"}))
    assert parameters["tool_choice"] == "required"


def test_a_choice_of_one_tool_reaches_the_model_as_it_came() -> None:
    choice = {"type": "function", "function": {"name": "look"}}

    assert offer(tool_choice=choice, parallel_tool_calls=False)[2] == {
        "temperature": 0,
        "tool_choice": choice,
        "parallel_tool_calls": False,
    }


async def test_a_tool_by_the_name_of_one_of_the_agents_own_is_refused_and_forgotten(bench: Bench) -> None:
    ended = await bench.talk(parameters={"tools": [tool(OWN)]})

    assert ended.error is not None
    assert (ended.error["code"], ended.error["http_status"]) == ("tool_name_taken", 400)
    assert OWN in ended.error["text"]
    await bench.talk("again")
    assert [message["content"] for message in last_request(bench)] == ["again"]


# -- results ------------------------------------------------------------------------------------------------------
async def test_a_result_of_no_call_that_waits_is_refused_and_not_kept(bench: Bench) -> None:
    bench.model.script = [tool_reply("look")]
    await ask(bench)

    with pytest.raises(Refusal, match="call-7") as refused:
        await bench.send(messages=[result("call-7", "blue")])

    assert refused.value.code is RefusalCode.NO_SUCH_CALL
    assert len(bench.store.rows) == 1


async def test_a_result_that_comes_after_other_words_reaches_the_model_all_the_same(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), text_reply("A title"), text_reply("it is blue")]
    await ask(bench)
    await bench.talk("write a title")

    assert (await bench.talk(messages=[result("call-0", "blue")])).text == "it is blue"

    contents = [message["content"] for message in last_request(bench)]
    assert contents[2:5] == ["blue", "write a title", "A title"]
    assert last_request(bench)[-1] == orjson.loads(RESULTS_CAME)
    await bench.talk("thanks")
    assert [message["content"] for message in last_request(bench)][5:] == ["it is blue", "thanks"]


async def test_results_that_are_sent_twice_get_the_same_answer(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), text_reply("it is blue")]
    await ask(bench)
    first = await bench.talk(messages=[result("call-0", "blue")])

    again = await bench.talk(messages=[result("call-0", "blue")])

    assert (again.turn_id, again.text, again.replayed) == (first.turn_id, "it is blue", True)
    assert len(bench.model.requests) == 2


async def test_results_that_are_sent_twice_at_once_make_one_turn(bench: Bench) -> None:
    bench.model.script = [tool_reply("look")]
    await ask(bench)
    bench.model.gate.clear()
    first = await bench.send(messages=[result("call-0", "blue")])
    again = await bench.send(messages=[result("call-0", "blue")])
    bench.model.gate.set()

    assert (await end_of(first)).turn_id == (await end_of(again)).turn_id
    assert len(bench.model.requests) == 2


async def test_results_that_wait_behind_others_of_the_same_calls_fail_and_are_left_out(bench: Bench) -> None:
    bench.model.script = [tool_reply("look")]
    await ask(bench)
    bench.model.gate.clear()
    first = await bench.send(messages=[result("call-0", "blue")])
    other = await bench.send(messages=[result("call-0", "red")])
    bench.model.gate.set()

    assert (await end_of(first)).text == "re: blue"
    late = await end_of(other)
    assert late.error is not None
    assert late.error["code"] == "no_such_call"
    await bench.talk("go on")
    assert "red" not in str(last_request(bench))


async def test_results_may_come_again_after_a_turn_that_failed_with_them(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), failed(cause=Cause.DOWN), text_reply("it is blue")]
    await ask(bench)
    assert (await bench.talk(messages=[result("call-0", "blue")])).state == "failed"

    assert (await bench.talk(messages=[result("call-0", "blue")])).text == "it is blue"
    assert [message["content"] for message in last_request(bench)][2:] == ["blue"]


async def test_a_result_that_the_provider_refuses_is_left_out_and_its_call_closed(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), failed(cause=Cause.CONTENT)]
    await ask(bench)
    await bench.talk(messages=[result("call-0", "something terrible")])

    await bench.talk("go on")

    assert [message["content"] for message in last_request(bench)][2:] == [NO_RESULT, "go on"]


async def test_a_command_in_a_result_is_none(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), text_reply("done")]
    await ask(bench)

    assert (await bench.talk(messages=[result("call-0", "/status")])).text == "done"


async def test_retry_sends_the_results_again_with_what_was_said_beside_them(bench: Bench) -> None:
    bench.model.script = [tool_reply("look", "listen"), text_reply("blue"), text_reply("blue and quiet")]
    await ask(bench)
    note = orjson.dumps({"role": "system", "content": "be brief"})
    words = orjson.dumps({"role": "user", "content": "well?"})
    await bench.talk(messages=[result("call-0", "blue"), result("call-1", "hush"), words, note])

    assert (await bench.talk("/retry")).text == "blue and quiet"

    assert last_request(bench) == bench.model.requests[-2]


async def test_one_call_at_a_time_is_kept_to_where_the_provider_does_not(bench: Bench) -> None:
    bench.model.script = [tool_reply("look", "listen")]

    assert ids(await ask(bench, parallel_tool_calls=False)) == ["call-0"]
    await bench.talk(messages=[result("call-0", "blue")])
    assert len(last_request(bench)) == 3


async def test_what_its_own_tool_shows_is_left_out_beside_a_call_of_the_clients(bench: Bench) -> None:
    bench.model.script = [tool_reply("look", OWN)]
    bench.toolbox_class = ShowingTools
    await ask(bench)

    await bench.talk(messages=[result("call-0", "blue")])
    assert last_request(bench)[-1]["content"] == f"seen\n{PICTURES_LEFT_OUT}"


async def test_a_fallback_in_mid_turn_may_leave_calls_to_the_client() -> None:
    bench = Bench(SessionsConfig(), with_fallback=True)
    bench.toolbox_class = OwnTools
    bench.model.script = [tool_reply(OWN), failed(cause=Cause.DOWN)]
    bench.fallback.script = [tool_reply("look"), text_reply("it is blue")]
    try:
        ended = await ask(bench)
        assert (ended.state, ids(ended), len(bench.fell_back)) == ("completed", ["call-0"], 1)

        assert (await bench.talk(messages=[result("call-0", "blue")])).state == "completed"
    finally:
        await bench.sessions.close()

    for request in (*bench.model.requests, *bench.fallback.requests):
        assert problems(request) == []


async def test_a_turn_of_too_many_rounds_ends_as_one_without_a_client(bench: Bench) -> None:
    bench.model.script = [tool_reply(OWN)] * 10

    ended = await ask(bench)

    assert ended.error is not None
    assert ended.error["code"] == "max_turns"
    assert ended.tool_calls == []


# -- without a session ----------------------------------------------------------------------------------------------
async def test_a_client_without_a_session_does_not_make_the_agent_do_its_own_work_again(bench: Bench) -> None:
    bench.model.script = [tool_reply(OWN), tool_reply("look", OWN), tool_reply("listen"), text_reply("done")]
    alone: dict[str, Any] = {"stateless": True, "key": "conv:default:1", "parameters": LOOK}
    sent = [orjson.dumps({"role": "user", "content": "hi"})]

    for text in ("blue", "hush"):
        ended = await bench.talk(messages=sent, **alone)
        (call,) = ended.tool_calls
        sent += [assistant_message("", [call]), result(call["id"], text)]
    assert (await bench.talk(messages=sent, **alone)).text == "done"

    assert bench.toolboxes[0].calls == [OWN, OWN]
    told = [message["content"] for message in last_request(bench) if message["role"] == "tool"]
    assert told == [f"{OWN} said so", "blue", f"{OWN} said so", "hush"]
    sent += [assistant_message("done"), orjson.dumps({"role": "user", "content": "thanks"})]
    await bench.talk(messages=sent, **alone)
    assert [message["role"] for message in last_request(bench)] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


def test_of_much_hidden_work_the_newest_is_kept() -> None:
    work = HiddenWork()
    rows = [b"x" * (MAX_BYTES // 2 + 1)]
    for call_id in ("a", "b"):
        work.add([{"id": call_id}], rows)

    asked = [assistant_message("", [{"id": call_id}]) for call_id in ("a", "b")]
    assert work.restored(asked) == [asked[0], *rows]


# -- whatever the client does next ----------------------------------------------------------------------------------
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["words", "results", "both", "some", "none of these", "again", "/retry", "/stop"]),
        st.sampled_from(["text", "look", "look, listen", "look, own", "own", "down", "content"]),
    ),
    min_size=1,
    max_size=7,
)
ANSWERS: dict[str, ModelReply | ModelFailure] = {
    "text": text_reply("well"),
    "look": tool_reply("look"),
    "look, listen": tool_reply("look", "listen"),
    "look, own": tool_reply("look", OWN),
    "own": tool_reply(OWN),
    "down": failed(cause=Cause.DOWN),
    "content": failed(cause=Cause.CONTENT),
}


async def any_course(steps: Sequence[tuple[str, str]]) -> None:
    bench = Bench(SessionsConfig())
    bench.toolbox_class = OwnTools
    waiting: list[str] = []
    last: list[bytes] = []
    try:
        for said, answer in steps:
            messages = [orjson.dumps({"role": "user", "content": f"{said} {answer}"})]
            results = [result(call_id, f"of {call_id}") for call_id in waiting]
            match said:
                case "results" if results:
                    messages = results
                case "both":
                    messages = [*results, *messages]
                case "some" if results:
                    messages = results[-1:]
                case "none of these":
                    messages = [result("call-9", "x")]
                case "again" if last:
                    messages = last
                case "/retry" | "/stop":
                    messages = [orjson.dumps({"role": "user", "content": said})]
            bench.model.script = [ANSWERS[answer], text_reply("so it is")]
            asked = len(bench.model.requests)
            try:
                ended = await bench.talk(messages=messages, parameters=LOOK)
            except Refusal as refusal:
                if refusal.code is not RefusalCode.NO_SUCH_CALL:
                    raise
                continue
            for request in bench.model.requests[asked:]:
                assert problems(request) == []
                assert request[-1]["role"] in ("user", "tool")
            if said not in ("/retry", "/stop"):
                last = messages
            if ended.state == "completed" and not ended.replayed and said != "/stop":
                waiting = [call["id"] for call in ended.tool_calls]
    finally:
        await bench.sessions.close()
        for ref in pykka.ActorRegistry.get_by_class(AgentActor):
            pykka.ActorRegistry.unregister(ref)


@given(STEPS)
def test_whatever_a_client_does_next_the_request_is_valid(steps: list[tuple[str, str]]) -> None:
    with asyncio.Runner(loop_factory=LOOP_FACTORIES["virtual"]) as runner:
        runner.run(any_course(steps))
