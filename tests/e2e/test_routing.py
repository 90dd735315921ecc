"""Whichever worker a request lands on, the session's owner answers it."""

from __future__ import annotations

import asyncio
import itertools

from fakes.model_server import ModelServer, say
from fakes.running_gateway import RunningGateway

INDEXED_S = 0.2  # the worker that keeps the index hears of an agent a moment after its caller has the reply


async def landings(gateway: RunningGateway, session: str, times: int = 16) -> set[str]:
    """The workers that requests of one session landed on, each on a connection of its own."""
    answers = [await gateway.chat("hi", session, Connection="close") for _ in range(times)]
    assert {status for status, _, _ in answers} == {200}
    return {headers["X-Hermes-Worker"] for _, _, headers in answers}


async def test_a_request_that_lands_on_the_wrong_worker_reaches_the_one_session(
    gateway: RunningGateway, model: ModelServer
) -> None:
    assert await landings(gateway, "a") == {"0", "1"}

    assert len(model.last.body["messages"]) == 31  # one transcript, wherever each message landed


async def test_a_stream_through_the_wrong_worker_comes_in_pieces(gateway: RunningGateway, model: ModelServer) -> None:
    seen = set()
    for _ in range(16):
        gate = asyncio.Event()
        model.script(say("one two three", gate=gate))
        async with gateway.openai() as client:
            stream = await client.chat.completions.with_raw_response.create(
                model="x",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                extra_headers={"X-Hermes-Session-Id": "streamed"},
            )
            seen.add(stream.headers["X-Hermes-Worker"])
            text = ""
            async for chunk in stream.parse():
                text += chunk.choices[0].delta.content or ""
                if text:
                    gate.set()  # the end is held back until the beginning has arrived
        assert text == "one two three"
    assert seen == {"0", "1"}


async def test_one_session_has_one_turn_at_a_time_over_all_workers(gateway: RunningGateway, model: ModelServer) -> None:
    answers = await asyncio.gather(*(gateway.chat(f"[[slow:50]] {n}", "a", Connection="close") for n in range(3)))

    assert {status for status, _, _ in answers} == {200}
    lengths = sorted(len(request.body["messages"]) for request in model.requests)
    assert lengths == [1, 3, 5]


async def test_a_session_that_hangs_delays_no_other(gateway: RunningGateway, model: ModelServer) -> None:
    hung = [asyncio.ensure_future(gateway.chat("[[hang]]", f"hung{n}", Connection="close")) for n in range(4)]
    await model.until(lambda: model.in_flight == 4)

    for n in range(8):
        assert await gateway.say("hi", f"quick{n}") == "pong"

    assert not any(waiting.done() for waiting in hung)
    for n in range(4):
        await gateway.say("/stop", f"hung{n}")
    assert {status for status, _, _ in await asyncio.gather(*hung)} == {400}


async def test_a_mailbox_that_overflows_answers_429_and_loses_nothing(
    gateway: RunningGateway, model: ModelServer
) -> None:
    gate = asyncio.Event()
    model.script(say("first", gate=gate))
    first = asyncio.ensure_future(gateway.chat("one", "a"))
    await model.until(lambda: model.count == 1)

    others = [asyncio.ensure_future(gateway.chat(f"more {n}", "a", Connection="close")) for n in range(5)]
    refused = [await answer for answer in itertools.islice(asyncio.as_completed(others), 3)]
    gate.set()

    assert {body["error"]["code"] for _, body, _ in refused} == {"mailbox_full"}
    assert all(int(headers["Retry-After"]) > 0 for _, _, headers in refused)
    answers = await asyncio.gather(first, *others)
    assert sorted(status for status, _, _ in answers) == [200, 200, 200, 429, 429, 429]


async def test_a_stateless_follow_up_finds_the_agent_of_its_conversation(
    gateway: RunningGateway, model: ModelServer
) -> None:
    conversation = [{"role": "user", "content": "[[tool:pid:{}]] who are you?"}]
    for _ in range(4):
        status, body, _ = await gateway.chat(conversation, Connection="close")
        assert status == 200
        conversation += [body["choices"][0]["message"], {"role": "user", "content": "[[tool:pid:{}]] and now?"}]
        await asyncio.sleep(INDEXED_S)

    replies = {message["content"] for message in conversation if message["role"] == "assistant"}
    assert len(replies) == 1, "each turn reached the same tool process, so the same agent"


async def test_two_people_who_say_the_same_never_share_an_agent(gateway: RunningGateway, model: ModelServer) -> None:
    hello = [{"role": "user", "content": "[[tool:pid:{}]]"}]

    answers = [await gateway.chat(hello) for _ in range(2)]

    assert len({body["choices"][0]["message"]["content"] for _, body, _ in answers}) == 2
