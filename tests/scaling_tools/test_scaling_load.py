from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from scaling.http1 import Connection, ConnectionClosed
from scaling.load import Load, Plan, Unexpected


class Sessions:
    """Answers turns and counts, for each session, how many it had and how many at a time."""

    def __init__(self) -> None:
        self.turns: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.most_running = 0

    async def turn(self, request: web.Request) -> web.Response:
        session = request.headers["X-Hermes-Session-Id"]
        self.running[session] += 1
        self.most_running = max(self.most_running, self.running[session])
        await asyncio.sleep(0)
        self.running[session] -= 1
        self.turns[session] += 1
        assert request.headers["Authorization"] == "Bearer key"
        return web.json_response({"messages": (await request.json())["messages"]})


@pytest.fixture
async def served() -> AsyncIterator[tuple[Sessions, str]]:
    sessions, application = Sessions(), web.Application()
    application.router.add_post("/v1/chat/completions", sessions.turn)
    async with TestServer(application) as server:
        yield sessions, str(server.make_url("/v1/chat/completions"))


async def test_each_session_has_its_turns_one_at_a_time(served: tuple[Sessions, str]) -> None:
    sessions, url = served

    outcome = await Load(
        Plan(url=url, token="key", stateful=True, concurrency=4, sessions=9, turns_per_session=3)
    ).run()

    assert outcome.turns == 27
    assert set(sessions.turns.values()) == {3}
    assert len(sessions.turns) == 9
    assert sessions.most_running == 1


async def test_a_timed_phase_counts_no_turn_of_its_warm_up(served: tuple[Sessions, str]) -> None:
    sessions, url = served

    outcome = await Load(Plan(url=url, token="key", stateful=True, warm_up_s=0.3, seconds=0.05)).run()

    assert 0 < outcome.turns < sum(sessions.turns.values()) / 2
    assert outcome.cpu_s["load generator"] > 0


async def test_a_name_leads_to_the_same_sessions_again(served: tuple[Sessions, str]) -> None:
    sessions, url = served
    plan = Plan(url=url, token="key", stateful=True, concurrency=2, sessions=2, turns_per_session=1, named="known")

    await Load(plan).run()
    await Load(plan).run()

    assert sessions.turns == {"known-0": 2, "known-1": 2}


async def test_paced_turns_wait_for_their_time(served: tuple[Sessions, str]) -> None:
    _, url = served
    plan = Plan(url=url, token="key", stateful=True, sessions=1, turns_per_session=3, pace_s=0.05)

    outcome = await Load(plan).run()

    assert outcome.turns == 3
    assert outcome.seconds >= 3 * plan.pace_s  # a lower bound: no noise makes time shorter


async def test_tool_servers_are_accounted_apart(served: tuple[Sessions, str]) -> None:
    _, url = served
    plan = Plan(url=url, token="key", stateful=True, sessions=1, watch={"served": [os.getpid()]}, tool_servers="guest")

    outcome = await Load(plan).run()

    assert outcome.cpu_s.keys() == {"served", "load generator", "tool servers"}
    assert outcome.cpu_s["served"] > 0


async def test_an_answer_that_was_not_expected_ends_the_phase(model_url: str) -> None:
    plan = Plan(url=f"{model_url}/chat/completions", message="[[http:503]]", sessions=1)

    with pytest.raises(Unexpected, match=r"HTTP 503 where 200 was expected: .*status 503 was asked for"):
        await Load(plan).run()


async def test_an_error_that_is_expected_counts_as_a_turn(model_url: str) -> None:
    plan = Plan(url=f"{model_url}/chat/completions", message="[[http:400]]", expect_status=400, sessions=1)

    assert (await Load(plan).run()).turns == 10


async def test_the_first_token_of_a_stream_is_timed_before_its_end(model_url: str) -> None:
    plan = Plan(url=f"{model_url}/chat/completions", message="[[tokens:5:2]]", stream=True, sessions=1)

    outcome = await Load(plan).run()

    assert len(outcome.first_token_ms) == outcome.turns == 10
    assert all(first < whole for first, whole in zip(outcome.first_token_ms, outcome.latencies_ms, strict=True))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
WHOLE = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\nhello!"


@given(st.sampled_from([(CHUNKED, 200), (WHOLE, 502)]), st.lists(st.integers(1, 80), max_size=6))
def test_a_response_is_read_however_it_is_cut(response: tuple[bytes, int], cuts: list[int]) -> None:
    raw, status = response

    async def read() -> None:
        connection = Connection(marker=b"hell")
        connection.connection_made(Deaf())
        answer = connection.ask(b"request")
        edges = [0, *sorted({cut for cut in cuts if cut < len(raw)}), len(raw)]
        for start, end in pairwise(edges):
            assert not answer.done()
            connection.data_received(raw[start:end])
        assert ((await answer).status, (await answer).body) == (status, b"hello!")
        assert (await answer).marked_at is not None

    asyncio.run(read())


async def test_a_connection_that_the_server_closes_fails_the_answer() -> None:
    connection = Connection()
    connection.connection_made(Deaf())
    answer = connection.ask(b"request")

    connection.connection_lost(None)

    with pytest.raises(ConnectionClosed, match="server closed"):
        await answer


class Deaf(asyncio.Transport):
    """A transport whose other end takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def is_closing(self) -> bool:
        return False
