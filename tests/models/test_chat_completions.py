"""The client against a real HTTP server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from fakes.model_server import (
    WAIT_S,
    Answer,
    ModelServer,
    call_tools,
    chunk,
    drop,
    hang,
    refuse,
    say,
    sse,
    stream,
    usage,
    whole,
)
from fakes.offers import offer_of
from fakes.virtual_time import in_virtual_time
from structlog.testing import capture_logs

from workers.models import exchange, limits, reading, retry
from workers.models.cause import Cause
from workers.models.chat import ChatCompletions, request_body
from workers.models.exchange import Timeouts
from workers.models.failure import MAX_WORDS_CHARS
from workers.models.provider import ModelFailure, ModelReply, ModelRequest, ToolCall
from workers.models.target import ModelTarget

KEY = "hunter2-0123456789"
LONG = Timeouts(connect=WAIT_S, first_token=WAIT_S, inter_token=WAIT_S)
SHORT_S = 2.0
HELLO = ModelRequest(messages=[b'{"role":"user","content":"Hello"}'])


class Client:
    """The provider under test, what it delivered, and how long it slept between retries."""

    def __init__(self, base_url: str, *, key: str = KEY, timeouts: Timeouts = LONG, max_retries: int = 0) -> None:
        self.texts: list[str] = []
        self.slept: list[float] = []
        self.provider = ChatCompletions(
            name="openai",
            model="gpt-test",
            base_url=base_url,
            key=key,
            timeouts=timeouts,
            max_retries=max_retries,
            sleep=self._sleep,
            draw=lambda: 1.0,
            clock=asyncio.get_running_loop().time,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def ask(self, request: ModelRequest = HELLO) -> ModelReply | ModelFailure:
        async with asyncio.timeout(10 * WAIT_S):
            before = len(self.texts)
            request = replace(request, take_back=lambda: len(self.texts) == before)
            return await self.provider.complete(request, self.texts.append)

    async def reply(self, request: ModelRequest = HELLO) -> ModelReply:
        outcome = await self.ask(request)
        assert isinstance(outcome, ModelReply), outcome
        return outcome

    async def failure(self, request: ModelRequest = HELLO) -> ModelFailure:
        outcome = await self.ask(request)
        assert isinstance(outcome, ModelFailure), outcome
        return outcome


Connect = Callable[..., Client]


@pytest.fixture
async def connect(server: ModelServer) -> AsyncIterator[Connect]:
    clients: list[Client] = []

    def make(base_url: str = "", **how: Any) -> Client:
        clients.append(Client(base_url or server.base_url, **how))
        return clients[-1]

    yield make
    for client in clients:
        await client.provider.close()


# -- what goes out ------------------------------------------------------------------------------------------------


async def test_the_request_is_a_streamed_chat_completion_with_the_key(server: ModelServer, connect: Connect) -> None:
    tools = [{"type": "function", "function": {"name": "one", "parameters": {}}}]
    messages = [b'{"role":"system","content":"Be kind"}', b'{"role":"user","content":"H\xc3\xa9"}']
    parameters = {"temperature": 0.5, "stop": ["x"]}
    await connect().reply(ModelRequest(messages=messages, tools=offer_of(tools), parameters=parameters))

    assert server.last.body == {
        "model": "gpt-test",
        "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hé"}],
        "tools": tools,
        "temperature": 0.5,
        "stop": ["x"],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert server.last.headers["Authorization"] == f"Bearer {KEY}"
    assert server.last.headers["Content-Type"] == "application/json"


def test_parameters_do_not_overrule_what_is_ours_to_say() -> None:
    parameters = {"model": "other", "stream": False, "n": 5, "messages": [], "tools": [], "top_p": 1}
    body = request_body(ModelRequest(messages=[], parameters=parameters), ModelTarget(provider="p", model="mine"))

    assert body.count(b'"stream":') == 1
    assert json.loads(body) == {
        "model": "mine",
        "messages": [],
        "top_p": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_a_request_may_name_another_model(server: ModelServer, connect: Connect) -> None:
    server.script(stream({"choices": [{"delta": {"content": "x"}}]}))

    reply = await connect().reply(ModelRequest(messages=HELLO.messages, model="gpt-other"))

    assert server.last.body["model"] == reply.model == "gpt-other"


async def test_a_body_larger_than_a_mebibyte_goes_out_whole(server: ModelServer, connect: Connect) -> None:
    message = json.dumps({"role": "user", "content": "x" * 3_000_000}).encode()

    await connect().reply(ModelRequest(messages=[message]))

    assert len(server.last.body["messages"][0]["content"]) == 3_000_000


async def test_a_base_url_may_end_with_a_slash(server: ModelServer, connect: Connect) -> None:
    await connect(f"{server.base_url}/").reply()

    assert server.count == 1


async def test_calls_one_after_another_use_one_connection(server: ModelServer, connect: Connect) -> None:
    client = connect()
    server.script(say("a"), refuse(400), whole({"choices": [{"message": {"content": "b"}}]}))
    for _ in range(4):
        await client.ask()

    assert (server.count, len(server.connections)) == (4, 1)


async def test_many_calls_at_once_share_the_client(server: ModelServer, connect: Connect) -> None:
    client = connect()

    replies = await asyncio.gather(*(client.reply() for _ in range(50)))

    assert [reply.text for reply in replies] == ["pong"] * 50


# -- what comes back ----------------------------------------------------------------------------------------------


async def test_text_is_delivered_as_it_comes(server: ModelServer, connect: Connect) -> None:
    gate = asyncio.Event()
    answer = stream(chunk({"content": "Hel"}), chunk({"content": "lo"}, "stop"), gate=gate, done=False)
    server.script(answer)
    client = connect()
    came = asyncio.Event()

    def on_text(text: str) -> None:
        client.texts.append(text)
        came.set()

    async with asyncio.timeout(WAIT_S):
        asked = asyncio.create_task(client.provider.complete(HELLO, on_text))
        await came.wait()
        assert client.texts == ["Hel"]
        gate.set()
        reply = await asked

    assert isinstance(reply, ModelReply)
    assert (reply.text, client.texts) == ("Hello", ["Hel", "lo"])


async def test_a_reply_carries_usage_finish_reason_and_model(server: ModelServer, connect: Connect) -> None:
    server.script(stream(chunk({"content": "Hi"}), chunk({}, "length"), usage(7, 2)))

    assert await connect().reply() == ModelReply(
        text="Hi",
        tool_calls=(),
        finish_reason="length",
        usage={"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
        model="fake-1",
        provider="openai",
        asked="gpt-test",
    )


async def test_parallel_tool_calls_arrive_whole_and_are_no_text(server: ModelServer, connect: Connect) -> None:
    server.script(call_tools(("one", '{"x": 1}'), ("two", "{}")))
    client = connect()

    reply = await client.reply()

    assert reply.tool_calls == (
        ToolCall(call_id="call_1_0", name="one", arguments='{"x": 1}'),
        ToolCall(call_id="call_1_1", name="two", arguments="{}"),
    )
    assert (reply.finish_reason, client.texts) == ("tool_calls", [])


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_a_stream_may_arrive_in_any_pieces_with_comments_and_crlf(
    server: ModelServer, connect: Connect, size: int
) -> None:
    raw = b": hello\r\n\r\n" + b"".join(sse(chunk({"content": "Grüße"}), b": ping\n\n", chunk({}, "stop")))
    raw = raw.replace(b"\n\n", b"\r\n\r\n")
    server.script(Answer(pieces=tuple(raw[at : at + size] for at in range(0, len(raw), size))))

    assert (await connect().reply()).text == "Grüße"


async def test_a_body_that_is_not_streamed_is_taken(server: ModelServer, connect: Connect) -> None:
    message = {"role": "assistant", "content": "All at once"}
    server.script(whole({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], "usage": None}))
    client = connect()

    reply = await client.reply()

    assert (reply.text, reply.model, client.texts) == ("All at once", "m", ["All at once"])


@pytest.mark.parametrize(
    "answer",
    [
        stream(chunk({"content": "Hi"}), chunk({}, "stop"), done=False),
        stream(chunk({"content": "Hi"}), done=True),
        stream(chunk({"content": "Hi"}), b"data: [DONE]", done=False),
        stream(chunk({"content": "Hi"}), chunk({}, "stop"), done=False, end="cut"),
    ],
    ids=["no [DONE]", "no finish_reason", "no blank line at the end", "cut after the finish_reason"],
)
async def test_either_finish_reason_or_end_mark_makes_an_answer_whole(
    server: ModelServer, connect: Connect, answer: Answer
) -> None:
    server.script(answer)

    reply = await connect().reply()

    assert (reply.text, reply.finish_reason) == ("Hi", "stop")


@in_virtual_time
async def test_a_server_that_keeps_the_answer_open_after_its_end_does_not_hold_it_back(
    server: ModelServer, connect: Connect
) -> None:
    open_after_done = stream(chunk({"content": "Hi"}, "stop"), end="hang")
    open_after_reason = stream(chunk({"content": "Hi"}, "stop"), done=False, end="hang")
    server.script(open_after_done, open_after_reason)
    client = connect()

    assert [(await client.reply()).text for _ in range(2)] == ["Hi", "Hi"]


@in_virtual_time
async def test_what_follows_the_end_mark_is_not_part_of_the_answer(server: ModelServer, connect: Connect) -> None:
    gate = asyncio.Event()
    whole_answer = b"".join(sse(chunk({"content": "Hi"}, "stop")))
    server.script(Answer(pieces=(whole_answer, b"data: {oops\n\n"), gate=gate))
    client = connect()

    def on_text(_: str) -> None:
        asyncio.get_running_loop().call_later(SHORT_S, gate.set)

    reply = await client.provider.complete(HELLO, on_text)

    assert isinstance(reply, ModelReply), reply
    assert reply.text == "Hi"


# -- how it fails -------------------------------------------------------------------------------------------------


async def test_an_error_status_carries_the_providers_words_and_code(server: ModelServer, connect: Connect) -> None:
    error = {"message": "The model `gpt-test` does not exist", "code": "model_not_found"}
    server.script(refuse(404, {"error": error}))

    assert await connect(max_retries=3).failure() == ModelFailure(
        cause=Cause.MODEL,
        kind="status",
        provider="openai",
        model="gpt-test",
        status=404,
        text="The model `gpt-test` does not exist",
        code="model_not_found",
        retry_after_s=None,
        attempts=1,
    )


async def test_no_error_shows_the_key(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(401, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}}))

    failure = await connect().failure()

    assert failure.status == 401
    assert KEY not in repr(failure)


@pytest.mark.parametrize("key", ["x", "gpt-test"], ids=["short", "part of the model's name"])
async def test_a_failure_is_about_the_model_whatever_the_key_is(
    server: ModelServer, connect: Connect, key: str
) -> None:
    server.script(refuse(400, {"error": {"message": "x" * MAX_WORDS_CHARS + ": unknown model gpt-test"}}))

    failure = await connect(key=key).failure()

    assert failure.cause is Cause.MODEL


async def test_a_failure_that_names_another_model_is_about_the_request(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(400, {"error": {"message": "not found: gpt-test-mini"}}))

    assert (await connect().failure()).cause is Cause.REQUEST


async def test_a_web_page_as_error_gives_its_title(server: ModelServer, connect: Connect) -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head></html>"
    server.script(refuse(502, page, {"Content-Type": "text/html"}))

    assert (await connect().failure()).text == "502 Bad Gateway"


async def test_an_empty_error_body_gives_the_reason_of_the_status_line(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(503, b""))

    assert (await connect().failure()).text == "Service Unavailable"


@in_virtual_time
async def test_an_endless_error_body_is_not_read_to_its_end(server: ModelServer, connect: Connect) -> None:
    server.script(Answer(pieces=(b"x" * exchange.MAX_ERROR_BYTES, b"y"), status=500, end="hang"))

    began = asyncio.get_running_loop().time()

    failure = await connect().failure()

    assert (failure.status, failure.text[:3]) == (500, "xxx")
    assert asyncio.get_running_loop().time() - began < exchange.ERROR_BODY_S
    await server.until(lambda: server.aborted == 1)


@in_virtual_time
async def test_an_error_body_that_hangs_does_not_hide_the_status(server: ModelServer, connect: Connect) -> None:
    server.script(Answer(pieces=(b"so far",), status=500, end="hang"))

    failure = await connect().failure()

    assert (failure.kind, failure.status, failure.text) == ("status", 500, "so far")


async def test_a_redirect_is_not_followed_and_the_key_stays_here(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(307, b"", {"Location": f"{server.base_url}/elsewhere"}))

    failure = await connect(max_retries=3).failure()

    assert (failure.status, server.count) == (307, 1)
    assert "redirects to" in failure.text
    assert "base_url" in failure.text


@pytest.mark.parametrize(
    ("error", "status", "attempts"),
    [
        ({"message": "busy", "type": "server_error"}, 500, 2),
        ({"message": "bad", "type": "invalid_request_error"}, 400, 1),
        ({"message": "limited", "code": 429}, 429, 2),
        ("fell over", None, 2),
    ],
)
async def test_an_error_object_in_the_stream_is_a_failure(
    server: ModelServer, connect: Connect, error: Any, status: int | None, attempts: int
) -> None:
    server.script(*[stream(chunk({"role": "assistant"}), {"error": error}, done=False)] * 2)

    failure = await connect(max_retries=1).failure()

    assert (failure.kind, failure.status, failure.attempts) == ("status", status, attempts)
    assert failure.text == (error if isinstance(error, str) else error["message"])


async def test_an_error_object_as_a_whole_body_is_a_failure(server: ModelServer, connect: Connect) -> None:
    server.script(whole({"error": {"message": "no credit", "code": 402}}))

    failure = await connect().failure()

    assert (failure.kind, failure.status, failure.text) == ("status", 402, "no credit")


@pytest.mark.parametrize(
    "answer",
    [
        say("so far", end="cut"),
        stream(chunk({"content": "so far"}), done=False),
        stream(chunk({"content": "so far"}), b'data: {"choices": [{"del', done=False),
        stream(b": wait\n\n", done=False),
        drop(),
    ],
    ids=["connection", "no end", "half an event", "comments only", "no answer"],
)
async def test_a_stream_that_ends_too_early_is_cut(server: ModelServer, connect: Connect, answer: Answer) -> None:
    server.script(answer)

    assert (await connect().failure()).kind == "cut"


@pytest.mark.parametrize(
    "answer",
    [
        stream(chunk({"content": "so"}), "{not json"),
        stream("[1]"),
        stream({"choices": [{"delta": "text"}]}),
        stream(),
        stream(done=False),
        stream(chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"arguments": "{}"}}]}, "tool_calls")),
        whole(b"<html>Welcome</html>", "text/html"),
        whole(b"{not json"),
        whole({"choices": []}),
    ],
    ids=[
        "json",
        "no object",
        "no delta",
        "no choice",
        "nothing",
        "no tool name",
        "web page",
        "body json",
        "body choice",
    ],
)
async def test_an_answer_that_is_no_chat_completion_is_malformed(
    server: ModelServer, connect: Connect, answer: Answer
) -> None:
    server.script(answer)

    assert (await connect().failure()).kind == "malformed"


async def test_a_base_url_that_leads_to_a_web_page_is_asked_once(server: ModelServer, connect: Connect) -> None:
    server.script(whole(b"<html>Welcome</html>", "text/html"), say("Hi"))

    failure = await connect().failure()

    assert (failure.kind, failure.attempts, len(server.requests)) == ("malformed", 1, 1)
    assert "base_url" in failure.text


async def test_an_answer_without_end_is_not_read_for_ever(
    server: ModelServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MAX_STREAM_BYTES", 100_000)
    server.script(stream(*[b": ping\n\n"] * 20_000, done=False, end="hang"))

    failure = await connect().failure()

    assert (failure.kind, "longer than" in failure.text) == ("malformed", True)


async def test_a_port_where_nobody_listens_is_a_connect_failure(connect: Connect) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        failure = await connect(f"http://127.0.0.1:{port}/v1").failure()

    assert (failure.kind, failure.status) == ("connect", None)
    assert f"127.0.0.1:{port}" in failure.text


async def test_a_server_that_speaks_no_http_is_malformed(connect: Connect) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        failure = await connect(f"http://127.0.0.1:{port}/v1").failure()

    assert (failure.kind, "not HTTP" in failure.text) == ("malformed", True)


# -- time-outs ----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_no_connection_in_time_names_itself(connect: Connect) -> None:
    with socket.socket() as deaf:  # its backlog is full: further connections get no answer
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        with socket.socket() as first, socket.socket() as second:
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            timeouts = Timeouts(connect=SHORT_S, first_token=WAIT_S, inter_token=WAIT_S)
            failure = await connect(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", timeouts=timeouts).failure()

    assert (failure.kind, failure.text) == ("timeout", f"no connection within {SHORT_S:g} s")


@in_virtual_time
async def test_no_free_connection_in_time_is_a_connect_timeout_too(
    server: ModelServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_CONNECTIONS", 1)
    server.script(hang())
    client = connect(timeouts=Timeouts(connect=SHORT_S, first_token=WAIT_S, inter_token=WAIT_S))
    first = asyncio.create_task(client.ask())
    await server.until(lambda: server.in_flight == 1)

    failure = await client.failure()

    assert (failure.kind, failure.text) == ("timeout", f"no connection within {SHORT_S:g} s")
    first.cancel()
    await asyncio.wait([first])


@in_virtual_time
@pytest.mark.parametrize(
    "answer",
    [hang(), Answer(end="hang"), Answer(pieces=(b": ping\n\n",), end="hang")],
    ids=["no answer", "headers only", "comments only"],
)
async def test_no_first_token_in_time_names_itself(server: ModelServer, connect: Connect, answer: Answer) -> None:
    server.script(answer)
    client = connect(timeouts=Timeouts(connect=WAIT_S, first_token=SHORT_S, inter_token=WAIT_S))

    failure = await client.failure()

    assert (failure.kind, failure.text) == ("timeout", f"no first token within {SHORT_S:g} s")
    await server.until(lambda: server.in_flight == 0)


@in_virtual_time
async def test_no_next_token_in_time_names_itself(server: ModelServer, connect: Connect) -> None:
    server.script(say("so far", end="hang"))
    client = connect(timeouts=Timeouts(connect=WAIT_S, first_token=WAIT_S, inter_token=SHORT_S))

    failure = await client.failure()

    assert (failure.kind, failure.text) == ("timeout", f"no next token within {SHORT_S:g} s")
    assert "".join(client.texts) == "so far"


EMPTY_CHUNKS = pytest.mark.parametrize(
    "beat",
    [
        chunk(),
        chunk({}),
        chunk({"role": "assistant", "content": "", "tool_calls": None}),
        chunk({"content": ""}, usage={"prompt_tokens": 7}),
    ],
    ids=["no choice", "no delta", "role alone", "usage that stays the same"],
)


@in_virtual_time
@EMPTY_CHUNKS
async def test_chunks_that_bring_nothing_are_no_first_token(
    server: ModelServer, connect: Connect, beat: dict[str, Any]
) -> None:
    server.script(stream(beat, done=False, end="beat"))
    client = connect(timeouts=Timeouts(connect=WAIT_S, first_token=SHORT_S, inter_token=SHORT_S))

    failure = await client.failure()

    assert failure.kind == "timeout"


@in_virtual_time
@EMPTY_CHUNKS
async def test_chunks_that_bring_nothing_are_no_next_token(
    server: ModelServer, connect: Connect, beat: dict[str, Any]
) -> None:
    server.script(stream(chunk({"content": "so far"}), beat, done=False, end="beat"))
    client = connect(timeouts=Timeouts(connect=WAIT_S, first_token=WAIT_S, inter_token=SHORT_S))

    failure = await client.failure()

    assert (failure.kind, failure.text) == ("timeout", f"no next token within {SHORT_S:g} s")


@in_virtual_time
async def test_chunks_that_bring_nothing_do_not_hold_back_a_whole_answer(server: ModelServer, connect: Connect) -> None:
    server.script(stream(chunk({"content": "Hi"}), chunk({}, "stop"), done=False, end="beat"))

    assert (await connect().reply()).text == "Hi"


@in_virtual_time
async def test_blanks_before_a_body_that_is_not_streamed_are_no_piece_of_it(
    server: ModelServer, connect: Connect
) -> None:
    server.script(replace(whole(b"\n"), end="beat"))
    client = connect(timeouts=Timeouts(connect=WAIT_S, first_token=SHORT_S, inter_token=WAIT_S))

    failure = await client.failure()

    assert (failure.kind, failure.text) == ("timeout", f"no first token within {SHORT_S:g} s")


@pytest.mark.parametrize("answer", [hang(), say("so far", end="hang")], ids=["before", "within"])
async def test_cancelling_the_call_closes_the_request_at_once(
    server: ModelServer, connect: Connect, answer: Answer
) -> None:
    server.script(answer)
    call = asyncio.create_task(connect().ask())
    await server.until(lambda: server.count == 1)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await server.until(lambda: server.aborted == 1)


# -- retries ------------------------------------------------------------------------------------------------------


async def test_a_passing_failure_is_retried_with_growing_delays(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(503), drop(), say("Hi"))
    client = connect(max_retries=3)

    assert (await client.reply()).text == "Hi"
    assert client.slept == [0.5, 1.0]


async def test_retries_end_and_the_last_failure_tells_their_number(server: ModelServer, connect: Connect) -> None:
    server.script(*[refuse(503)] * 5)

    failure = await connect(max_retries=2).failure()

    assert (failure.status, failure.attempts, server.count) == (503, 3, 3)


async def test_a_provider_that_says_the_same_twice_is_not_asked_a_third_time(
    server: ModelServer, connect: Connect
) -> None:
    server.script(*[refuse(500, {"error": {"message": "failed to parse, request 4711"}})] * 5)

    assert (await connect(max_retries=4).failure()).attempts == server.count == 2


@in_virtual_time
async def test_what_takes_too_long_to_fail_is_not_asked_again(server: ModelServer, connect: Connect) -> None:
    slow_to_break = replace(refuse(502), delay_s=retry.RETRIES_S)
    server.script(slow_to_break, slow_to_break)

    assert (await connect(max_retries=3).failure()).attempts == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_a_permanent_failure_is_asked_once(server: ModelServer, connect: Connect, status: int) -> None:
    server.script(refuse(status))

    assert (await connect(max_retries=3).failure()).attempts == server.count == 1


async def test_a_retry_after_header_is_honoured(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(429, headers={"Retry-After": "7"}), refuse(429, headers={"retry-after-ms": "20"}), say("Hi"))
    client = connect(max_retries=3)

    await client.reply()

    assert client.slept == [7.5, 0.52]


async def test_a_retry_after_beyond_the_cap_fails_and_says_when(server: ModelServer, connect: Connect) -> None:
    server.script(refuse(429, headers={"Retry-After": "3600"}))

    failure = await connect(max_retries=3).failure()

    assert (failure.retry_after_s, failure.attempts) == (3600.0, 1)


async def test_a_break_after_delivered_text_is_not_retried(server: ModelServer, connect: Connect) -> None:
    server.script(say("so far", end="cut"))
    client = connect(max_retries=3)

    failure = await client.failure()

    assert (failure.kind, failure.attempts, "".join(client.texts)) == ("cut", 1, "so far")
    assert failure.delivered


async def test_a_break_after_text_that_nobody_heard_is_retried(server: ModelServer, connect: Connect) -> None:
    server.script(say("so far", end="cut"), say("Hi"))
    client = connect(max_retries=1)
    taken_back: list[list[str]] = []

    def take_back() -> bool:
        taken_back.append(client.texts[:])
        client.texts.clear()
        return True

    reply = await client.provider.complete(replace(HELLO, take_back=take_back), client.texts.append)

    assert isinstance(reply, ModelReply)
    assert (reply.text, client.texts) == ("Hi", ["Hi"])
    assert taken_back == [["so", " far"]]


async def test_a_break_after_pieces_of_a_tool_call_is_retried_without_them(
    server: ModelServer, connect: Connect
) -> None:
    half = {"index": 0, "id": "a", "function": {"name": "one", "arguments": '{"x"'}}
    server.script(stream(chunk({"tool_calls": [half]}), done=False, end="cut"), call_tools(("one", "{}")))

    reply = await connect(max_retries=1).reply()

    assert [call.arguments for call in reply.tool_calls] == ["{}"]


async def test_a_reset_of_the_rate_limit_says_when_to_come_back(server: ModelServer, connect: Connect) -> None:
    window = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
    server.script(refuse(429, headers=window))

    failure = await connect(max_retries=3).failure()

    assert (failure.retry_after_s, failure.attempts) == (360.0, 1)


# -- where another provider stands ready --------------------------------------------------------------------------

WITH_NEXT = replace(HELLO, has_next=True)


@in_virtual_time
async def test_a_silent_provider_is_asked_once(server: ModelServer, connect: Connect) -> None:
    server.script(hang(), hang(), hang())
    client = connect(timeouts=Timeouts(connect=WAIT_S, first_token=SHORT_S, inter_token=WAIT_S), max_retries=3)

    failure = await client.failure()

    assert (failure.cause, failure.attempts, server.count) == (Cause.TIMEOUT, 1, 1)


async def test_a_retry_after_of_more_than_seconds_is_left_to_the_next_provider(
    server: ModelServer, connect: Connect
) -> None:
    server.script(refuse(429, headers={"Retry-After": "1"}), refuse(429, headers={"Retry-After": "20"}))
    client = connect(max_retries=3)

    failure = await client.failure(WITH_NEXT)

    assert (failure.retry_after_s, failure.attempts, client.slept) == (20.0, 2, [1.5])


# -- what is learned of a model -----------------------------------------------------------------------------------

SEEN = ModelRequest(
    messages=[b'{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}']
)
BLIND = refuse(500, {"error": {"message": "image input is not supported - hint: see mmproj", "type": "server_error"}})


async def test_a_refused_picture_is_left_out_once_more_and_from_then_on_and_said_once(
    server: ModelServer, connect: Connect
) -> None:
    server.script(BLIND, say("I see nothing"), say("still nothing"))
    client = connect(max_retries=3)

    with capture_logs() as logged:
        first, second = await client.reply(SEEN), await client.reply(SEEN)

    assert (first.text, second.text, server.count) == ("I see nothing", "still nothing", 3)
    sent = [str(got.body["messages"]) for got in server.requests]
    assert ["image_url" in body for body in sent] == [True, False, False]
    assert [line["event"] for line in logged] == ["limit of a model learned"]


async def test_sessions_that_are_refused_at_once_are_both_answered(server: ModelServer, connect: Connect) -> None:
    gate = asyncio.Event()
    refusal = {"error": {"message": "this is not a multimodal model"}}
    server.script(refuse(400, refusal, gate=gate), refuse(400, refusal, gate=gate), say("fine"), say("fine"))
    client = connect()
    asked = [asyncio.create_task(client.ask(SEEN)) for _ in range(2)]
    await server.until(lambda: server.count == 2)
    gate.set()

    assert [type(await one) for one in asked] == [ModelReply, ModelReply]


@pytest.mark.parametrize(
    "words", ["Corrupted thought signature.", "messages.1.content.0: Invalid `signature` in `thinking` block"]
)
async def test_signatures_that_are_refused_are_left_out_of_this_conversation_alone(
    server: ModelServer, connect: Connect, words: str
) -> None:
    signed = (
        b'{"role":"assistant","content":null,"tool_calls":[{"id":"a","function":{"name":"b"},"note":"sealed"}]}',
        b'{"role":"tool","tool_call_id":"a","content":"done"}',
    )
    request = replace(HELLO, messages=[*HELLO.messages, *signed])
    missing = refuse(400, {"error": {"message": "Function call is missing a thought_signature"}})
    server.script(refuse(400, {"error": {"message": words}}), missing, say("fine"), say("fine"))
    client = connect()

    for _ in range(2):
        assert (await client.reply(request)).text == "fine"

    sent = [str(got.body["messages"]) for got in server.requests]
    assert [("sealed" in body, "tool_calls" in body) for body in sent] == [
        (True, True),
        (False, True),
        (False, False),
        (True, True),
    ]


async def test_a_provider_that_refuses_stream_options_is_asked_without(server: ModelServer, connect: Connect) -> None:
    refusal = {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}
    server.script(refuse(422, refusal), say("fine"), say("fine"))
    client = connect()

    for _ in range(2):
        assert (await client.reply()).text == "fine"

    assert ["stream_options" in got.body for got in server.requests] == [True, False, False]
    assert server.last.body["stream"] is True


async def test_a_tool_that_is_refused_is_left_out_of_the_next_requests(server: ModelServer, connect: Connect) -> None:
    refusal = {
        "error": {"message": "no", "param": "tools[1].function.parameters", "code": "invalid_function_parameters"}
    }
    server.script(refuse(400, refusal), say("fine"), say("fine"))
    tools = offer_of([{"type": "function", "function": {"name": name}} for name in ("a", "b", "c")])
    client = connect()

    for _ in range(2):
        await client.reply(replace(HELLO, tools=tools))

    names = [[tool["function"]["name"] for tool in got.body["tools"]] for got in server.requests]
    assert names == [["a", "b", "c"], ["a", "c"], ["a", "c"]]


async def test_what_was_learned_of_one_model_does_not_hold_for_another(server: ModelServer, connect: Connect) -> None:
    server.script(BLIND, say("blind"), say("seen"))
    client = connect()

    await client.reply(SEEN)
    await client.reply(replace(SEEN, model="another"))

    assert "image_url" in str(server.last.body["messages"])


async def test_a_provider_that_refuses_whatever_it_is_sent_is_asked_a_bounded_number_of_times(
    server: ModelServer, connect: Connect
) -> None:
    server.script(*[refuse(400, {"error": {"message": "odd", "param": "tools[0]"}})] * 20)
    tools = offer_of([{"type": "function", "function": {"name": f"t{n}"}} for n in range(30)])

    failure = await connect().failure(replace(HELLO, tools=tools))

    assert (failure.cause, server.count) == (Cause.TOOLS, limits.MAX_LESSONS + 1)
    assert "mcp_servers.s.tools.exclude" in failure.advice


async def test_words_where_a_chunk_belongs_are_the_providers_words(server: ModelServer, connect: Connect) -> None:
    server.script(Answer(pieces=(b"event: error\ndata: upstream connect error or disconnect\n\n",)))

    failure = await connect().failure()

    assert (failure.cause, failure.text) == (Cause.DOWN, "upstream connect error or disconnect")
