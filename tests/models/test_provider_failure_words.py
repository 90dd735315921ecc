from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes.model_failures import failed
from hypothesis import given
from hypothesis import strategies as st

from workers.models.failure import (
    MAX_WORDS_CHARS,
    Words,
    chain_story,
    public_name,
    secrets_of,
    tidy,
    words_of_body,
    words_of_error,
)

OPENAI = {
    "error": {
        "message": "The model `gpt-99` does not exist",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }
}


def test_an_openai_error_gives_its_message_and_code() -> None:
    assert words_of_body(json.dumps(OPENAI).encode()) == Words(
        text="The model `gpt-99` does not exist",
        code="model_not_found",
        status=400,
        codes=frozenset({"model_not_found", "invalid_request_error"}),
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "model not loaded"}, "model not loaded"),
        ({"message": "no such route"}, "no such route"),
        ({"object": "error", "message": "too long", "code": 40303}, "too long"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}, {"msg": "no"}]}, "field required; no"),
        (
            {"detail": [{"loc": ["body", "messages", 1, "assistant", "reasoning_content"], "msg": "Extra inputs"}]},
            "messages.1.assistant.reasoning_content: Extra inputs",
        ),
        ({"errors": [{"message": "a"}, "b"]}, "a; b"),
        ([{"error": {"code": 400, "message": "wrapped", "status": "INVALID_ARGUMENT"}}], "wrapped"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "why"}}}, "Provider returned error: why"),
        ({"reason": {"deep": 1}}, '{"reason": {"deep": 1}}'),
        ("just words", "just words"),
    ],
)
def test_other_json_shapes_give_their_words(body: object, text: str) -> None:
    assert words_of_body(json.dumps(body).encode()).text == text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "no_money", "type": "insufficient_quota"}, "insufficient_quota"),
        ({"code": "insufficient_quota", "type": "billing_error"}, "insufficient_quota"),
        ({"code": "unknown", "type": "model_not_found"}, "model_not_found"),
        ({"code": "some_code", "type": "some_type"}, "some_code"),
        ({"code": 7, "type": "some_type"}, "some_type"),
        ({"code": ["a"], "type": None}, "['a']"),
        ({}, None),
    ],
)
def test_of_code_and_type_the_one_counts_that_decides_something(error: dict[str, object], code: str | None) -> None:
    assert words_of_error({"error": {"message": "x", **error}}).code == code


def test_a_web_page_gives_its_title_else_its_text() -> None:
    page = b"<html>\r\n<head><title>502 Bad Gateway</title></head><body><h1>502</h1><hr>nginx</body></html>"

    assert words_of_body(page).text == "502 Bad Gateway"
    assert words_of_body(b"<p>Not&nbsp;here &amp; not <b>now</b></p>").text == "Not here & not now"


def test_plain_text_and_broken_bytes_are_shown_as_one_printable_line() -> None:
    assert words_of_body(b"up\xffstream\r\n  \x1b[31mgone\x00").text == "up\N{REPLACEMENT CHARACTER}stream [31mgone"
    assert words_of_body(b"").text == ""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"message": "x", "code": 429}, 429),
        ({"message": "x", "code": "503"}, 503),
        ({"message": "x", "type": "overloaded_error"}, 503),
        ({"message": "x", "type": "invalid_request_error", "code": None}, 400),
        ({"message": "x", "code": 7}, None),
        ({"message": "x"}, None),
    ],
)
def test_an_error_in_a_stream_tells_the_status_it_would_have_had(error: object, status: int | None) -> None:
    assert words_of_error({"error": error}).status == status


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-abcdefgh12345. Find yours",
        "sk-a***********xyz1",
        "header Authorization: Bearer abc.def-ghi",
        "GET /v1?key=AIzaSyA1234567890abc",
        "the key hunter2-hunter2",
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    shown = tidy(text, secrets=("hunter2-hunter2",))

    assert "[hidden]" in shown
    assert not any(part in shown for part in ("abcdefgh", "xyz1", "abc.def", "AIza", "hunter2"))


def test_model_names_are_no_secrets() -> None:
    assert tidy("no model risk-averse-7b or hf-tiny") == "no model risk-averse-7b or hf-tiny"


def test_a_key_too_short_to_be_one_leaves_the_words_alone() -> None:
    assert tidy("Unknown model gpt-oss-x, expected another", secrets=("x",)) == (
        "Unknown model gpt-oss-x, expected another"
    )


def test_long_words_are_cut() -> None:
    assert len(tidy("word " * 1000)) <= MAX_WORDS_CHARS


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: json.dumps({"error": text}).encode()))
def test_no_body_breaks_the_reading_of_it(body: bytes) -> None:
    text = words_of_body(body, secrets=("key-1234",)).text

    assert len(text) <= MAX_WORDS_CHARS
    assert "key-1234" not in text


def test_a_deeply_nested_body_is_read_too() -> None:
    assert words_of_body(b'{"error":' * 900 + b"1" + b"}" * 900).text
    assert words_of_body(b"[" * 5000).text


# -- chains -------------------------------------------------------------------------------------------------------

LIMITED = failed(provider="openai", model="gpt-9", status=429, text="Rate limit reached", attempts=4)


def test_the_story_of_a_failed_chain_has_a_line_for_each_provider() -> None:
    last = replace(LIMITED, provider="demo", model="m", kind="connect", status=None, text="refused", attempts=1)

    assert chain_story(replace(last, earlier=(LIMITED,))).splitlines() == [
        "openai, model gpt-9 (HTTP 429 after 4 attempts): Rate limit reached",
        "demo, model m (no connection): refused",
    ]


@pytest.mark.parametrize(("seconds", "told"), [(0.2, "1 s"), (59.5, "60 s"), (120.0, "120 s"), (121.0, "3 min")])
def test_the_story_tells_when_a_provider_is_back(seconds: float, told: str) -> None:
    story = chain_story(replace(LIMITED, retry_after_s=seconds, attempts=1))

    assert story == f"openai, model gpt-9 (HTTP 429, back in {told}): Rate limit reached"


def test_the_story_tells_who_was_not_asked_and_why() -> None:
    story = chain_story(replace(LIMITED, retry_after_s=40.0, attempts=0))

    assert story == "openai, model gpt-9 (not asked, for it said: HTTP 429, back in 40 s): Rate limit reached"


@pytest.mark.parametrize(
    ("provider", "shown"),
    [
        ("openai", "openai"),
        ("custom (https://models.example/tenant-4711/token-abc/v1)", "custom (models.example)"),
        ("custom (http://[::1]:8000/v1)", "custom ([::1]:8000)"),
        ("custom (http://localhost:8000)", "custom (localhost:8000)"),
        ("custom (http://models.example/a)b/v1)", "custom (models.example)"),
    ],
)
def test_callers_are_told_a_providers_host_and_nothing_behind_it(provider: str, shown: str) -> None:
    assert public_name(provider) == shown
    assert f"{shown}, model" in chain_story(replace(LIMITED, provider=provider))


def test_a_path_that_a_provider_says_again_is_hidden() -> None:
    secrets = secrets_of("key-12345678", "https://models.example/tenant-4711/v1")

    assert "4711" not in words_of_body(b"no route /tenant-4711/v1/chat/completions", secrets).text
    assert secrets_of(None, "http://localhost:8000") == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 1m2.5s.", 62.5),
        ("Please retry in 34.07s.", 34.07),
        ("try again in 250ms", 0.25),
        ("try again in a while", None),
    ],
)
def test_when_to_come_back_is_read_from_the_words_too(text: str, seconds: float | None) -> None:
    assert words_of_error({"error": {"message": text}}).retry_after_s == seconds
