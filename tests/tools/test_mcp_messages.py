from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import (
    HEADER_MISMATCH,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from workers.tools.messages import MAX_SEARCHES, NO_RESULT, UNREADABLE, OutputLine, mended, read
from workers.tools.outcomes import ANSWERED, CONNECTION_CLOSED, OWN_CODES, UNUSABLE

ANSWER = {"jsonrpc": "2.0", "id": 3, "result": {"content": []}}
READ = JSONRPCResponse(jsonrpc="2.0", id=3, result={"content": []})


def line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def failure(error: Any, number: Any = 3) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": error}


def only_error(found: tuple[JSONRPCMessage, ...]) -> JSONRPCError:
    (message,) = found
    assert isinstance(message, JSONRPCError)
    return message


# -- errors -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [*sorted(OWN_CODES), HEADER_MISMATCH, "E_QUOTA", 1.5, None, str(CONNECTION_CLOSED)])
def test_an_error_of_a_server_keeps_no_number_that_means_something_here(code: Any) -> None:
    said = failure({"code": code, "message": "quota exceeded", "data": {"left": 0}})

    one = only_error(read(line(said)).messages)
    other = JSONRPCError.model_validate_json(mended(line(said), rejected=False) or b"")

    for error in (one.error, other.error):
        assert (error.code, error.message, error.data) == (ANSWERED, "quota exceeded", {"left": 0})
    assert one.id == other.id == 3


@given(st.integers())
def test_every_other_number_stays(code: int) -> None:
    kept = only_error(read(line(failure({"code": code, "message": "no"}))).messages).error.code

    assert kept == (ANSWERED if code in OWN_CODES | {HEADER_MISMATCH} else code)


def test_a_refusal_over_http_keeps_the_number_that_the_specification_gives_it() -> None:
    refused = line(failure({"code": HEADER_MISMATCH, "message": "no"}))

    assert b"-32020" in (mended(refused, rejected=True) or b"")
    assert b"-32020" not in (mended(refused, rejected=False) or b"")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("out of luck", "out of luck"),
        ({"code": 7, "message": None}, '"code": 7'),
        ({"code": 7, "message": {"reason": "luck"}}, "luck"),
        ({"code": 7}, '"code": 7'),
        (["a", 1], '["a", 1]'),
    ],
)
def test_an_error_of_another_form_is_told_in_its_words(error: Any, words: str) -> None:
    assert words in only_error(read(line(failure(error))).messages).error.message


# -- lines --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer",
    [
        ANSWER | {"id": 3.0},
        ANSWER | {"jsonrpc": 2.0},
        ANSWER | {"error": None},
        [ANSWER],
    ],
)
def test_an_answer_of_another_form_is_read_as_it_is_meant(answer: Any) -> None:
    assert read(line(answer)) == OutputLine((READ,))


@pytest.mark.parametrize(
    ("written", "noise"),
    [
        (b"Starting server... %s\n", "Starting server..."),
        (b"[INFO] ready {x} %s\n", "[INFO] ready {x}"),
        (b'{"level":"info","id":3}%s\n', '{"level": "info", "id": 3}'),
        (b"%s 100%% done\n", "100% done"),
        (b"\xef\xbb\xbf%s\r\n", "\ufeff"),
        (b"\xff%s\n", "\ufffd"),
    ],
)
def test_a_message_is_found_beside_what_is_printed(written: bytes, noise: str) -> None:
    assert read(written % orjson.dumps(ANSWER)) == OutputLine((READ,), noise)


def test_several_messages_may_share_a_line() -> None:
    notice = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}

    assert read(line(notice)[:-1] + line(ANSWER)) == OutputLine((JSONRPCNotification(**notice), READ))


@pytest.mark.parametrize(
    "printed",
    [
        b"\n",
        b"ready\n",
        b"[1,2]\n",
        b'{"level":"info","msg":"call","id":3}\n',
        b'{"level":"debug","sent":{"jsonrpc":"2.0","id":3},"id":3}\n',
        b'"jsonrpc" is the protocol\n',
        b'received {"jsonrpc":"2.0","id":3,"method":"tools/call"}\n',
        b'{"jsonrpc" ' * MAX_SEARCHES * 2 + b"\n",
    ],
)
def test_what_is_only_printed_answers_nothing(printed: bytes) -> None:
    found = read(printed)

    assert found.messages == ()
    assert bool(found.noise) == bool(printed.strip())


def test_an_answer_that_cannot_be_read_fails_its_request() -> None:
    broken = only_error(read(b'{"jsonrpc":"2.0","id":3,"result":{"content":\n').messages)
    empty = only_error(read(line(ANSWER | {"result": None})).messages)

    assert (broken.id, broken.error.code, broken.error.message) == (3, UNUSABLE, UNREADABLE)
    assert (empty.id, empty.error.code, empty.error.message) == (3, UNUSABLE, NO_RESULT)


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (rb"cut \ud83d", "cut \ufffd"),
        (rb"\ude00 cut", "\ufffd cut"),
        (rb"whole \ud83d\ude00", "whole \N{GRINNING FACE}"),
        (rb"spelled \\ud83d and \ud83d", "spelled \\ud83d and \ufffd"),
        (b"latin \xe9", "latin \ufffd"),
    ],
)
def test_half_an_emoji_costs_no_answer(written: bytes, text: str) -> None:
    answer = b'{"jsonrpc":"2.0","id":3,"result":{"text":"%s"}}' % written
    told = JSONRPCResponse(jsonrpc="2.0", id=3, result={"text": text})

    assert read(answer + b"\n").messages == (told,)
    assert JSONRPCResponse.model_validate_json(mended(answer, rejected=False) or b"") == told


def test_a_tab_that_stands_in_a_text_as_it_is_is_read() -> None:
    (found,) = read(b'{"jsonrpc":"2.0","id":3,"result":{"name":"a\tb"}}\n').messages

    assert isinstance(found, JSONRPCResponse)
    assert found.result == {"name": "a\tb"}
    assert mended(b'{"jsonrpc":"2.0","id":3,"result":{"name":"a\tb"}}', rejected=False) is not None


def test_what_is_no_number_in_json_is_read() -> None:
    (found,) = read(b'{"jsonrpc":"2.0","id":3,"result":{"mean":NaN}}\n').messages

    assert isinstance(found, JSONRPCResponse)
    assert str(found.result["mean"]) == "nan"


@given(st.binary(max_size=200))
def test_no_output_of_a_server_breaks_the_reader(written: bytes) -> None:
    assert isinstance(read(written), OutputLine)
    assert isinstance(mended(written, rejected=False), bytes | None)


def test_a_request_of_the_server_is_read_where_it_stands_alone() -> None:
    asked = {"jsonrpc": 2.0, "id": 3, "method": "roots/list", "params": None}

    assert read(line(asked)).messages == (JSONRPCRequest(jsonrpc="2.0", id=3, method="roots/list"),)


# -- over HTTP ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("body", [b"<html>", b"[1]", b'{"id":3,"result":{}}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_message_is_none(body: bytes) -> None:
    assert mended(body, rejected=True) is None


def test_a_message_that_the_sdk_reads_goes_on_as_it_came() -> None:
    body = orjson.dumps(ANSWER)

    assert mended(body, rejected=False) is body
