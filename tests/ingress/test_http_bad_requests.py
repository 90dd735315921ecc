from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import uvloop
from fakes.gateway import FakeGateway
from fakes.served_ingress import BOUND_S, CHAT, HI, KEYS, http_request, read_reply, read_to_end, serving
from hypothesis import given
from hypothesis import strategies as st

from workers.ingress.http.connection import MAX_HEADERS, ClientLimits
from workers.ingress.http.principals import Principals

BODY = orjson.dumps(HI)


# -- who calls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", "Basic a2V5", KEYS["alice"], f"Bearer {KEYS['alice']}x", "Bearer \udcff"],
    ids=ascii,
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/api/sessions", "/nowhere"])
async def test_without_a_known_key_there_is_nothing(path: str, authorization: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n"
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(request.encode("utf-8", "surrogateescape"))
        reply = await read_reply(reader)

    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"].startswith("Bearer")


async def test_the_scheme_may_be_written_in_any_case() -> None:
    async with serving() as served:
        assert (await served.ask("GET", "/v1/models", Authorization=f"bearer {KEYS['bob']}", key=None)).status == 200


@pytest.mark.parametrize("path", ["/health", "/readyz"])
async def test_health_and_readiness_need_no_key(path: str) -> None:
    async with serving() as served:
        assert (await served.ask("GET", path, key=None)).status == 200


async def test_readiness_follows_the_gateway_and_health_does_not() -> None:
    async with serving() as served:
        served.gateway.ready = False
        assert (await served.ask("GET", "/readyz", key=None)).status == 503
        assert (await served.ask("GET", "/health", key=None)).status == 200


@pytest.mark.parametrize("name", ["a:b", ""])
def test_a_principal_whose_sessions_could_be_mistaken_for_others_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="principal"):
        Principals({name: "key"})


# -- where to -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/", 404, None),
        ("GET", "/v1/chat/completions/", 404, None),
        ("POST", "/v1/embeddings", 404, None),
        ("GET", "/v1/models/other", 404, None),
        ("GET", "/api/sessions/1/nothing", 404, None),
        ("GET", "/api/sessions/1/messages/2", 404, None),
        ("GET", CHAT, 405, "POST"),
        ("OPTIONS", CHAT, 405, "POST"),
        ("POST", "/v1/models", 405, "GET, HEAD"),
        ("POST", "/health", 405, "GET, HEAD"),
        ("PUT", "/api/sessions/1", 405, "GET, PATCH, DELETE, HEAD"),
    ],
)
async def test_what_is_not_there_says_so(method: str, path: str, status: int, allowed: str | None) -> None:
    async with serving() as served:
        reply = await served.ask(method, path)

    assert (reply.status, reply.headers.get("Allow")) == (status, allowed)
    assert reply.error["code"] == ("unknown_route" if status == 404 else "method_not_allowed")


async def test_head_is_get_without_a_body() -> None:
    async with serving() as served:
        reply = await served.ask("HEAD", "/v1/models")

    assert (reply.status, reply.body) == (200, b"")


async def test_a_target_may_be_a_whole_url() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("GET", "http://elsewhere/v1/models?x=1"))
        reply = await read_reply(reader)

    assert reply.status == 200


# -- headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Hermes-Session-Id", ""),
        ("X-Hermes-Session-Id", "x" * 257),
        ("X-Hermes-Session-Id", "a\tb"),
        ("X-Hermes-Session-Id", "a\udcff"),
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "x" * 256),
        ("Idempotency-Key", "a\tb"),
        ("X-Request-Id", "x" * 129),
    ],
    ids=ascii,
)
async def test_a_name_in_a_header_has_printable_characters_and_not_too_many(name: str, value: str) -> None:
    request = http_request("POST", CHAT, BODY).replace(
        b"\r\n\r\n", f"\r\n{name}: {value}\r\n\r\n".encode("utf-8", "surrogateescape")
    )
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(request)
        reply = await read_reply(reader)

    assert (reply.status, reply.error["param"]) == (400, name)
    assert served.gateway.submissions == []


@pytest.mark.parametrize("session_id", ["x" * 256, "größe 1", "💬"])
async def test_a_session_may_have_any_printable_name(session_id: str) -> None:
    async with serving() as served:
        reply = await served.chat(X_Hermes_Session_Id=session_id)

    assert reply.headers["X-Hermes-Session-Id"] == session_id
    assert served.gateway.submission.key == f"api:alice:{session_id}"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content_Type": "text/plain"}, "unsupported_media_type"),
        ({"Content_Type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"Content_Type": "application/json; charset=latin-1"}, "unsupported_media_type"),
        ({"Content_Type": "application/jsonx"}, "unsupported_media_type"),
        ({"Content_Type": ""}, "unsupported_media_type"),
        ({"Content_Encoding": "gzip"}, "unsupported_encoding"),
    ],
)
async def test_a_body_that_is_not_plain_json_is_415(headers: dict[str, str], code: str) -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, BODY, **headers))
        reply = await read_reply(reader)

    assert (reply.status, reply.error["code"]) == (415, code)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"']
)
async def test_json_may_be_announced_in_other_words(content_type: str) -> None:
    async with serving() as served:
        assert (await served.chat(Content_Type=content_type)).status == 200


# -- bodies -------------------------------------------------------------------------------------------------------


async def test_a_body_that_says_it_is_too_large_is_413_before_it_is_sent() -> None:
    async with serving(max_body_bytes=1000) as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, Content_Length="1001"))
        reply = await read_reply(reader)

    assert (reply.status, reply.error["code"]) == (413, "body_too_large")


async def test_a_body_that_turns_out_too_large_is_413() -> None:
    async def endless() -> Any:
        for _ in range(20):
            yield b" " * 100

    async with (
        serving(max_body_bytes=1000) as served,
        served.session.post(
            served.url + CHAT,
            data=endless(),
            headers={"Authorization": f"Bearer {KEYS['alice']}", "Content-Type": "application/json"},
        ) as response,
    ):
        assert response.status == 413


async def test_a_body_may_be_as_large_as_the_limit_says() -> None:
    async with serving(max_body_bytes=1000) as served:
        assert (await served.chat(BODY.ljust(1000))).status == 200
        assert (await served.chat(BODY.ljust(1001))).status == 413


async def test_a_large_body_arrives_whole() -> None:
    text = "x" * 3_000_000
    body = orjson.dumps({"messages": [{"role": "user", "content": text}]})
    async with serving(max_body_bytes=4_000_000) as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, body))
        assert (await read_reply(reader)).status == 200

    assert len(served.gateway.submission.messages[0]) == len(text) + len('{"content":"","role":"user"}')


async def test_a_body_in_chunks_is_a_body() -> None:
    async def pieces() -> Any:
        yield BODY[:10]
        yield BODY[10:]

    async with (
        serving() as served,
        served.session.post(
            served.url + CHAT,
            data=pieces(),
            headers={"Authorization": f"Bearer {KEYS['alice']}", "Content-Type": "application/json"},
        ) as response,
    ):
        assert response.status == 200


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, Content_Length=str(len(BODY)), Expect="100-continue"))
        async with asyncio.timeout(BOUND_S):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await read_reply(reader)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Expect": "miracles"}, 417), ({"Expect": "100-continue", "Authorization": "Bearer wrong"}, 401)],
)
async def test_a_client_that_asks_first_may_be_told_no(headers: dict[str, str], status: int) -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, Content_Length="1000", **headers))
        assert (await read_reply(reader)).status == status


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"2\r\n{}nonsense\r\n", b"-2\r\n{}\r\n0\r\n\r\n"], ids=ascii)
async def test_a_broken_chunk_is_400(chunks: bytes) -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, Transfer_Encoding="chunked") + chunks)
        reply = await read_reply(reader)

    assert (reply.status, reply.error["code"]) == (400, "bad_http")


async def test_a_body_that_breaks_on_its_way_never_ends_and_runs_into_its_time_limit() -> None:
    async with serving(limits=ClientLimits(body_s=0.1, linger_s=0.05)) as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, Transfer_Encoding="chunked") + b"2\r\n{}")
        await served.reading()
        writer.write(b"nonsense\r\n")
        assert (await read_reply(reader)).status == 408


@pytest.mark.parametrize(
    "body", [b"{", b'{"user": "\\udc00"}', b'{"user": "\xff"}', b'{"seed": NaN}', b"[]", b""], ids=ascii
)
async def test_what_is_no_json_object_is_400(body: bytes) -> None:
    async with serving() as served:
        reply = await served.chat(body)

    assert (reply.status, reply.error["code"]) == (400, "invalid_json")


async def test_an_error_leaves_the_connection_usable() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, b"{"))
        assert (await read_reply(reader)).status == 400
        writer.write(http_request("POST", CHAT, BODY))
        assert (await read_reply(reader)).status == 200


# -- what is no HTTP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"hello\r\n\r\n", 400, "bad_http"),
        (b"G\xffT /health HTTP/1.1\r\nHost: x\r\n\r\n", 400, "bad_http"),
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "bad_http"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "bad_http"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad_http"),
        (b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_http"),
        (
            b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "bad_http",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "bad_http"),
        (b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"a" * 9000), 431, "headers_too_large"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"a" * 9000), 431, "headers_too_large"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n%b\r\n" % (b"X: 1\r\n" * MAX_HEADERS), 400, "bad_http"),
    ],
    ids=lambda value: ascii(value[:40]) if isinstance(value, bytes) else "",
)
async def test_what_is_no_http_is_told_so_and_hung_up_on(request_: bytes, status: int, code: str) -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(request_)
        reply = await read_reply(reader)
        assert await read_to_end(reader) == b""

    assert (reply.status, reply.error["code"]) == (status, code)


async def test_an_upgrade_that_is_not_offered_is_answered_as_usual() -> None:
    async with serving() as served:
        reader, writer = await served.raw()
        writer.write(http_request("POST", CHAT, BODY, Connection="Upgrade", Upgrade="h2c"))
        assert (await read_reply(reader)).status == 200


# -- a bug of ours ------------------------------------------------------------------------------------------------


async def test_a_bug_is_500_in_the_api_s_shape_and_tells_nothing() -> None:
    async def fail() -> None:
        raise LookupError("a secret")

    gateway = FakeGateway()
    gateway.before_accept = fail
    async with serving(gateway) as served:
        reply = await served.chat()

    assert (reply.status, reply.error["code"]) == (500, "internal_error")
    assert b"secret" not in reply.body


# -- anything at all ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of an ingress on a thread of its own."""
    ports: list[int] = []
    up, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving() as served:
            ports.append(served.port)
            up.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    assert up.wait(BOUND_S)
    yield ports[0]
    over.set()
    thread.join(BOUND_S)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "type", "url", "id"]), inner),
    max_leaves=10,
)  # fmt: skip
bodies = st.binary() | st.dictionaries(
    st.sampled_from(["messages", "stream", "stream_options", "user", "n", "tools", "stop", "response_format", "model"]),
    json_values | st.just(HI["messages"]),
).map(orjson.dumps)


@given(body=bodies)
def test_no_body_whatsoever_makes_a_500(port: int, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND_S)
    try:
        connection.request(
            "POST", CHAT, body, {"Authorization": f"Bearer {KEYS['alice']}", "Content-Type": "application/json"}
        )
        reply = connection.getresponse()
        answer = reply.read()
    finally:
        connection.close()

    assert reply.status in (200, 400)
    if reply.status == 400:
        assert orjson.loads(answer)["error"]["type"] == "invalid_request_error"
