from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.gateway import FakeGateway, completed, failed
from fakes.served_ingress import HI, KEYS, NOW, serving

from hermes_actors.wire.refusals import RefusalCode
from workers.conversations import history_hash
from workers.ingress.http.request import parse_chat
from workers.turns import Refusal

TALK: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "what time is it?"},
        {"role": "assistant", "content": "noon"},
        {"role": "user", "content": "and now?"},
    ],
    "user": "eve",
}


async def test_an_answer_has_the_shape_of_the_openai_api() -> None:
    async with serving(FakeGateway(completed("hello"))) as served:
        reply = await served.chat()

    turn_id = served.gateway.submission.turn_id
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.data == {
        "id": f"chatcmpl-{turn_id}",
        "object": "chat.completion",
        "created": int(NOW),
        "model": "hermes-actors",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


async def test_the_answer_tells_turn_worker_and_the_model_that_answered() -> None:
    async with serving() as served:
        reply = await served.chat(X_Request_Id="mine")

    assert reply.headers["X-Hermes-Turn-Id"] == served.gateway.submission.turn_id
    assert reply.headers["X-Hermes-Worker"] == "3"
    assert reply.headers["X-Hermes-Model"] == "gpt-5-mini"
    assert reply.headers["X-Request-Id"] == "mine"
    assert served.gateway.submission.origin.request_id == "mine"


@pytest.mark.parametrize("model", ["", "evil\r\nSet-Cookie: x", "x" * 1000], ids=ascii)
async def test_a_model_name_that_is_no_header_is_left_out(model: str) -> None:
    async with serving(FakeGateway(completed(model=model))) as served:
        reply = await served.chat()

    assert reply.status == 200
    assert "X-Hermes-Model" not in reply.headers


async def test_usage_that_the_provider_did_not_tell_is_zero() -> None:
    async with serving(FakeGateway(completed(usage={}))) as served:
        reply = await served.chat()

    assert reply.data["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(
    ("said", "told"), [("length", "length"), ("tool_calls", "stop"), ("eos", "stop"), ("", "stop")]
)
async def test_a_finish_reason_is_one_the_api_knows(said: str, told: str) -> None:
    async with serving(FakeGateway(completed(finish_reason=said))) as served:
        reply = await served.chat()

    assert reply.data["choices"][0]["finish_reason"] == told


async def test_a_session_takes_only_the_last_message() -> None:
    async with serving() as served:
        reply = await served.chat(TALK, X_Hermes_Session_Id="my chat")

    submission = served.gateway.submission
    assert reply.headers["X-Hermes-Session-Id"] == "my chat"
    assert (submission.key, submission.principal, submission.stateless) == ("api:alice:my chat", "alice", False)
    assert [orjson.loads(message) for message in submission.messages] == [{"role": "user", "content": "and now?"}]
    assert served.gateway.conversations == []


async def test_without_a_session_the_messages_are_the_conversation() -> None:
    async with serving() as served:
        reply = await served.chat(TALK)

    submission = served.gateway.submission
    (conversation,) = served.gateway.conversations
    assert "X-Hermes-Session-Id" not in reply.headers
    assert (submission.key, submission.stateless) == ("conv:alice:1", True)
    assert [orjson.loads(message) for message in submission.messages] == TALK["messages"]
    assert (conversation.principal, conversation.user) == ("alice", "eve")
    assert conversation.history == history_hash(parse_chat(orjson.dumps(TALK)).messages[:-1])
    assert submission.origin.user == "eve"


async def test_two_keys_are_two_principals() -> None:
    async with serving() as served:
        await served.ask(
            "POST", "/v1/chat/completions", orjson.dumps(HI), key=KEYS["bob"],
            Content_Type="application/json", X_Hermes_Session_Id="1",
        )  # fmt: skip

    assert served.gateway.submission.key == "api:bob:1"


async def test_an_idempotency_key_goes_with_a_fingerprint_of_what_is_asked() -> None:
    async with serving() as served:
        for request, key in ((HI, "k"), ({**HI, "stream": False}, "k"), ({**HI, "seed": 1}, "k")):
            await served.chat(request, Idempotency_Key=key)
        await served.chat(HI)

    one, same, other, none = served.gateway.submissions
    assert one.idempotency_key == "k"
    assert one.fingerprint
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert (none.idempotency_key, none.fingerprint) == (None, b"")
    assert [asked.idempotency_key for asked in served.gateway.conversations] == ["k", "k", "k", None]


async def test_the_result_of_an_earlier_turn_says_so() -> None:
    gateway = FakeGateway(completed(replayed=True))
    gateway.earlier_turn = "turn_earlier"
    async with serving(gateway) as served:
        replayed = await served.chat(Idempotency_Key="k")
        gateway.earlier_turn = None
        fresh = await served.chat(Idempotency_Key="k")

    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert replayed.data["id"] == "chatcmpl-turn_earlier"
    assert "Idempotency-Replayed" not in fresh.headers


@pytest.mark.parametrize(
    ("code", "status", "retry_after"),
    [
        (RefusalCode.MAILBOX_FULL, 429, "1"),
        (RefusalCode.SHARD_UNAVAILABLE, 503, "1"),
        (RefusalCode.GATEWAY_DRAINING, 503, "5"),
        (RefusalCode.IDEMPOTENCY_CONFLICT, 409, None),
        (RefusalCode.SESSION_NOT_FOUND, 404, None),
        (RefusalCode.STORE_FAILED, 500, None),
        (RefusalCode.MESSAGE_TOO_LARGE, 413, None),
    ],
)
async def test_a_refusal_has_its_status(code: RefusalCode, status: int, retry_after: str | None) -> None:
    gateway = FakeGateway()
    gateway.refusal = Refusal(code, "in words")
    async with serving(gateway) as served:
        for request in (HI, {**HI, "stream": True}):
            reply = await served.chat(request)

            assert (reply.status, reply.error["code"], reply.error["message"]) == (status, code, "in words")
            assert reply.headers.get("Retry-After") == retry_after
            assert reply.headers.get("x-should-retry") == ("false" if status == 409 else None)


async def test_a_message_that_may_have_been_taken_is_not_called_refused() -> None:
    gateway = FakeGateway()
    gateway.silent = True
    async with serving(gateway) as served:
        for request in (HI, {**HI, "stream": True}):
            reply = await served.chat(request, X_Hermes_Session_Id="1")

            assert (reply.status, reply.error["code"], reply.error["type"]) == (503, "turn_unknown", "server_error")
            assert "transcript" in reply.error["message"]
            assert "Idempotency-Key" in reply.error["message"]
            assert reply.headers["x-should-retry"] == "false"
            assert "Retry-After" not in reply.headers
            assert reply.headers["X-Hermes-Turn-Id"] == gateway.submission.turn_id
        named = await served.chat(Idempotency_Key="k")

    assert named.error["code"] == "turn_unknown"
    assert "X-Hermes-Turn-Id" not in named.headers, "the key may name an earlier turn"


async def test_a_refusal_says_when_to_come_back() -> None:
    gateway = FakeGateway()
    gateway.refusal = Refusal(RefusalCode.MAILBOX_FULL, "32 messages wait", 2.1)
    async with serving(gateway) as served:
        assert (await served.chat()).headers["Retry-After"] == "3"


@pytest.mark.parametrize(("status", "kind"), [(502, "server_error"), (504, "server_error"), (429, "rate_limit_error")])
async def test_a_failed_turn_has_the_status_and_words_of_its_error(status: int, kind: str) -> None:
    async with serving(FakeGateway(failed(status, code="some_code", text="what to do"))) as served:
        reply = await served.chat(X_Hermes_Session_Id="1")

    assert reply.status == status
    assert reply.error == {"message": "what to do", "type": kind, "param": None, "code": "some_code"}
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["X-Hermes-Session-Id"] == "1"
    assert reply.headers["X-Hermes-Turn-Id"] == served.gateway.submission.turn_id
    assert "Retry-After" not in reply.headers


@pytest.mark.parametrize(
    ("said", "told"), [(7.2, "8"), (0, "0"), (-1, "0"), (1e300, "3600"), (float("inf"), None), (float("nan"), None)]
)
async def test_a_provider_that_says_when_is_quoted_within_reason(said: float, told: str | None) -> None:
    async with serving(FakeGateway(failed(429, retry_after_s=said))) as served:
        assert (await served.chat()).headers.get("Retry-After") == told


@pytest.mark.parametrize(
    ("state", "status", "code"), [("interrupted", 503, "turn_interrupted"), ("cancelled", 400, "turn_cancelled")]
)
async def test_a_cut_turn_says_what_happened(state: str, status: int, code: str) -> None:
    async with serving(FakeGateway(completed("", state=state))) as served:
        reply = await served.chat()

    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["x-should-retry"] == "false"
    assert "turn" in reply.error["message"]


async def test_a_cut_turn_is_told_in_its_own_words_where_it_has_some() -> None:
    ended = failed(500, text="the worker was killed")
    async with serving(FakeGateway(completed("", state="interrupted", error=ended.error))) as served:
        reply = await served.chat()

    assert (reply.status, reply.error["message"]) == (503, "the worker was killed")
