"""The streaming client of the gateway's API, against a small real HTTP server."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest
from fakes.chat_api import DONE, KEY, TALK, FakeApi, chunk, progress, served, sse
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.cli import chat
from hermes_actors.cli.chat import ChatFailed, Endpoint, Event, Finished, Piece, ServerSentEvents, Tool


async def told(api: FakeApi, message: str = "What time is it?") -> tuple[str, list[Event]]:
    events: list[Event] = []
    async with served(api) as url:
        return await chat.tell(Endpoint(url=url, key=KEY, session="work"), message, events.append), events


async def test_text_and_tool_progress_come_in_the_order_they_were_sent() -> None:
    text, events = await told(FakeApi())

    assert text == "It is noon."
    assert events == [
        Piece(text="It is "),
        Tool(name="mcp__time__now", status="running"),
        Tool(name="mcp__time__now", status="completed"),
        Piece(text="noon."),
        Finished(reason="stop"),
    ]


async def test_the_reason_of_the_end_is_the_models() -> None:
    _, events = await told(FakeApi([chunk("It is"), chunk(None, "length"), DONE]))

    assert events[-1] == Finished(reason="length")


async def test_a_message_is_sent_alone_with_the_key_and_the_sessions_name() -> None:
    api = FakeApi()

    await told(api, "hi")

    ((headers, body),) = api.asked
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["X-Hermes-Session-Id"] == "work"
    assert body == {"model": "hermes-actors", "stream": True, "messages": [{"role": "user", "content": "hi"}]}


async def test_a_refusal_is_told_in_the_words_of_the_api() -> None:
    error = {"error": {"message": "the mailbox is full", "type": "rate_limit_error", "code": "mailbox_full"}}

    with pytest.raises(ChatFailed, match=r"^the mailbox is full$") as caught:
        await told(FakeApi(status=429, error=error))
    assert caught.value.code == "mailbox_full"


async def test_a_refusal_without_words_tells_the_status() -> None:
    with pytest.raises(ChatFailed, match="HTTP 500"):
        await told(FakeApi(status=500, error=["?"]))


async def test_a_turn_that_fails_in_the_middle_fails_the_reply() -> None:
    broken = sse({"error": {"message": "custom: model qwen3 answered 500", "code": "provider_error"}})

    with pytest.raises(ChatFailed, match="qwen3 answered 500") as caught:
        await told(FakeApi([chunk("It is "), broken, DONE]))
    assert caught.value.code == "provider_error"


async def test_a_stream_that_ends_without_its_mark_is_no_whole_reply() -> None:
    with pytest.raises(ChatFailed, match="in the middle of the reply"):
        await told(FakeApi(TALK[:-1]))


async def test_a_connection_that_breaks_in_the_middle_is_no_whole_reply() -> None:
    with pytest.raises(ChatFailed, match="in the middle of the reply"):
        await told(FakeApi(TALK[:1], cut=True))


async def test_an_event_that_is_no_json_is_passed_over() -> None:
    text, _ = await told(FakeApi(["data: [1]\n\n", "data: {\n\n", progress("x", "running"), chunk("yes"), DONE]))

    assert text == "yes"


async def test_nobody_at_the_address_is_a_clear_failure() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ChatFailed, match=url) as caught:
            await chat.tell(Endpoint(url=url, key=KEY, session="cli"), "hi", lambda event: None)

    assert caught.value.code == "connection"


async def test_silence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "SILENCE_S", 0.05)

    with pytest.raises(ChatFailed, match="is silent"):
        await told(FakeApi([chunk("It is ")], hang=True))


async def test_the_gateway_sees_a_client_that_lets_go_in_the_middle() -> None:
    api = FakeApi([chunk("It is ")], hang=True)

    class Enough(Exception):
        pass

    def enough(event: Event) -> None:
        raise Enough

    async with served(api) as url:
        with pytest.raises(Enough):
            await chat.tell(Endpoint(url=url, key=KEY, session="s"), "hi", enough)
        await api.gone.wait()


def test_a_key_is_not_in_the_words_of_an_endpoint() -> None:
    assert KEY not in repr(Endpoint(url="http://h", key=KEY, session="s"))


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "MAX_EVENT_BYTES", 10)

    with pytest.raises(ChatFailed, match="more than 10 bytes"):
        list(ServerSentEvents().feed(b"data: 0123456789"))


@given(cuts=st.lists(st.integers(0, 60), max_size=8), newline=st.sampled_from(["\n", "\r\n"]))
def test_events_are_the_same_wherever_the_bytes_are_cut(cuts: list[int], newline: str) -> None:
    stream = newline.join([": hello", "event: a", "data: 1é", "data:2", "", "data: 3", "", "", "id: 7", ""]).encode()
    places = [0, *sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]
    parser = ServerSentEvents()

    found = [event for start, end in pairwise(places) for event in parser.feed(stream[start:end])]

    assert found == [("a", "1é\n2"), ("", "3")]
