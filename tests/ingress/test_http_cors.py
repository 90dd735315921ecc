"""Web pages whose origin the configuration names may call from a browser, and no others."""

from __future__ import annotations

import pytest
from fakes.gateway import FakeGateway, completed
from fakes.served_ingress import CHAT, HI, serving

from hermes_actors.config.rules import Unfit, web_origin

PAGE = "https://chat.example.com"
ALLOWED, READABLE = "Access-Control-Allow-Origin", "Access-Control-Expose-Headers"


async def test_a_browser_learns_without_a_key_what_a_named_page_may_send() -> None:
    async with serving(cors_origins=(PAGE,)) as served:
        reply = await served.ask(
            "OPTIONS",
            CHAT,
            key=None,
            Origin=PAGE,
            Access_Control_Request_Method="POST",
            Access_Control_Request_Headers="authorization,content-type,x-stainless-lang",
        )

    assert (reply.status, reply.headers[ALLOWED], reply.headers["Vary"]) == (204, PAGE, "Origin")
    assert reply.headers["Access-Control-Allow-Headers"] == "authorization,content-type,x-stainless-lang"
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_named_page_reads_answers_streams_and_errors(stream: bool) -> None:
    async with serving(FakeGateway(completed("hello")), cors_origins=(PAGE,)) as served:
        answer = await served.chat({**HI, "stream": stream}, Origin=PAGE)
        refused = await served.ask("POST", CHAT, b"{}", key="a wrong key", Origin=PAGE)

    assert (answer.status, refused.status) == (200, 401)
    for reply in (answer, refused):
        assert reply.headers[ALLOWED] == PAGE
        assert "X-Hermes-Turn-Id" in reply.headers[READABLE]
        assert "Access-Control-Allow-Credentials" not in reply.headers


@pytest.mark.parametrize("origin", ["https://chat.example.com.evil.example", "https://chat.example.com:444", "null"])
async def test_another_page_reads_nothing(origin: str) -> None:
    async with serving(cors_origins=(PAGE,)) as served:
        asked = await served.ask("OPTIONS", CHAT, key=None, Origin=origin, Access_Control_Request_Method="POST")
        answer = await served.chat(Origin=origin)

    assert ALLOWED not in asked.headers
    assert ALLOWED not in answer.headers
    assert answer.headers["Vary"] == "Origin"


async def test_without_named_pages_no_browser_is_answered() -> None:
    async with serving() as served:
        asked = await served.ask("OPTIONS", CHAT, key=None, Origin=PAGE, Access_Control_Request_Method="POST")

    assert asked.status == 401
    assert ALLOWED not in asked.headers


@pytest.mark.parametrize("text", ["*", "chat.example.com", "https://chat.example.com/", "https://CHAT.example.com", ""])
def test_what_is_no_origin_is_no_setting(text: str) -> None:
    with pytest.raises(Unfit):
        web_origin(text)


@pytest.mark.parametrize("text", [PAGE, "http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080"])
def test_an_origin_is_as_browsers_send_it(text: str) -> None:
    assert web_origin(text) == text


async def test_sampling_parameters_are_left_to_the_model_where_the_configuration_says_so() -> None:
    asked = {**HI, "temperature": 0.1, "seed": 7, "max_tokens": 5}
    async with serving(sampling_parameters="drop") as dropping, serving() as passing:
        await dropping.chat(asked)
        await passing.chat(asked)

    assert dropping.gateway.submission.parameters == {"max_tokens": 5}
    assert passing.gateway.submission.parameters == {"temperature": 0.1, "seed": 7, "max_tokens": 5}
