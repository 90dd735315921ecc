"""The body of an answer decides what it is: framing, junk, lies about its type, and how it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from fakes.model_server import WAIT_S
from hypothesis import given
from hypothesis import strategies as st

from workers.models.error_chunk import BrokenOff, ErrorObject, Malformed
from workers.models.failure import words_of_error
from workers.models.provider import ModelReply
from workers.models.reading import WebPage, read_answer
from workers.models.reply import ReplyBuilder
from workers.models.timeouts import MovingTimeout

BOM = b"\xef\xbb\xbf"


class Pieces:
    """A body that comes in these pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def at_eof(self) -> bool:
        return not self._pieces


def read(*pieces: bytes) -> tuple[ModelReply, str, str]:
    """The reply that a body gives, and the text and the reasoning that were told on the way."""
    builder = ReplyBuilder()
    texts: list[str] = []
    thoughts: list[str] = []

    async def reading() -> None:
        async with MovingTimeout("first token", WAIT_S) as timeout:
            await read_answer(
                Pieces(pieces),
                builder,
                timeout,
                inter_token_s=WAIT_S,
                on_text=texts.append,
                on_reasoning=thoughts.append,
            )

    asyncio.run(reading())
    if not builder.complete:
        raise Cut
    texts.append(builder.finish())
    return builder.reply("asked"), "".join(texts), "".join(thoughts)


class Cut(Exception):
    """The answer has no end."""


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


HEL, LO, STOP = chunk({"content": "hel"}), chunk({"content": "lo"}), chunk({}, "stop")
CHUNKS = (HEL, LO, STOP)
WHOLE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]}


def events(*chunks: bytes, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + one + end for one in chunks)


BODIES = {
    "events": events(*CHUNKS, b"[DONE]"),
    "no end mark": events(*CHUNKS),
    "CR": events(*CHUNKS, b"[DONE]", end=b"\r\r"),
    "CRLF": events(*CHUNKS, b"[DONE]", end=b"\r\n\r\n"),
    "BOM": BOM + events(*CHUNKS),
    "blank lines first": b"\n\n  \n" + events(*CHUNKS),
    "the last event without its blank line": events(*CHUNKS).rstrip(),
    "the end mark without its blank line": events(HEL, LO) + b"data: [DONE]",
    "blanks behind the end mark": events(HEL, LO, b"[DONE] "),
    "an end mark in small letters": events(HEL, LO, b"[done]"),
    "an end mark as JSON": events(HEL, LO, b'"[DONE]"'),
    "comments and control events": b": PROCESSING\n\nretry: 3000\n\nid: 7\n\nevent: ping\ndata:\n\n" + events(*CHUNKS),
    "beats with data": events(b"ping", HEL, b'{"type": "ping"}', b"null", LO, b"[]", STOP),
    "named events": b"event: message\n" + events(HEL) + b"event: message\n" + events(LO, STOP),
    "fields without data": b"event: done\n\n" + events(*CHUNKS),
    "no blank behind the colon": events(*CHUNKS).replace(b"data: ", b"data:"),
    "junk behind the end": events(*CHUNKS, b"stream finished"),
    "junk JSON behind the end": events(*CHUNKS, b"{oops", b"17"),
    "an error behind the end": events(*CHUNKS, b'{"error": {"message": "no usage", "code": 500}}', b"[DONE]"),
    "an error event behind the end": events(*CHUNKS) + b"event: error\ndata: late\n\n",
    "a failure word behind the end": events(*CHUNKS, chunk({}, "error")),
    "a page behind the end": events(*CHUNKS) + b"<html>502</html>",
    "lines of JSON": b"\n".join(CHUNKS) + b"\n",
    "lines of JSON without the last line end": b"\n".join(CHUNKS),
    "lines of JSON and an end mark": b"\n".join((HEL, LO, b"[DONE]")),
    "JSON documents in a row": b"".join(CHUNKS),
    "a JSON array of chunks": b"[" + b",\n".join(CHUNKS) + b"]",
    "a line of JSON among events": events(HEL) + LO + b"\n\n" + events(STOP),
    "one document": json.dumps(WHOLE).encode(),
    "one document and a line end": json.dumps(WHOLE).encode() + b"\n",
    "one document over lines": BOM + json.dumps(WHOLE, indent=2).encode(),
    "blanks before one document": b"  \n\n " + json.dumps(WHOLE).encode(),
    "one document without an end": json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": "hello"}}]}
    ).encode(),
    "one document as an event": events(json.dumps(WHOLE).encode(), b"[DONE]"),
    "a number that is none": events(HEL.replace(b'"index": 0', b'"index": 0, "logprob": -Infinity'), LO, STOP),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_answer_is_read_in_any_framing(body: bytes) -> None:
    reply, text, _ = read(body)

    assert (reply.text, text) == ("hello", "hello")


@given(st.sampled_from(sorted(BODIES)), st.lists(st.integers(0, 600), max_size=12))
def test_an_answer_is_the_same_however_its_body_is_cut(name: str, cuts: list[int]) -> None:
    body = BODIES[name]
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]

    assert read(*[body[one:two] for one, two in pairwise(places)]) == read(body)


def test_each_byte_may_come_by_itself() -> None:
    for body in BODIES.values():
        assert read(*[body[at : at + 1] for at in range(len(body))])[0].text == "hello"


CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "one", "arguments": '{"text": "x"}'}}


@given(st.text(max_size=30), st.text(max_size=20), st.lists(st.integers(0, 2000), max_size=12), st.booleans())
def test_a_reply_with_everything_is_the_same_however_it_is_cut(
    text: str, thought: str, cuts: list[int], lines: bool
) -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"reasoning_content": thought}}]},
        {"choices": [{"index": 0, "delta": {"content": f"({text}"}}]},
        {"choices": [{"index": 0, "delta": {"content": f"{text})"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": {"total_tokens": 7}},
    ]
    written = [json.dumps(one, ensure_ascii=False).encode() for one in chunks]
    body = b"\n".join(written) + b"\n" if lines else events(*written, b"[DONE]")
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]

    reply, told, thoughts = read(*[body[one:two] for one, two in pairwise(places)])

    assert reply.text == told == f"({text}{text})"
    assert reply.reasoning == thoughts == thought
    assert [(call.call_id, call.name, call.arguments) for call in reply.tool_calls] == [("a", "one", '{"text": "x"}')]
    assert reply.usage == {"total_tokens": 7}


def test_half_a_character_costs_that_character_alone() -> None:
    half = b'{"choices": [{"index": 0, "delta": {"content": "a\\ud83d"}}]}'
    bytes_of_no_text = b'{"choices": [{"index": 0, "delta": {"content": "\xc3("}}]}'

    reply, text, _ = read(events(half, bytes_of_no_text, STOP))

    assert reply.text == text
    assert (text[0], text[-1]) == ("a", "(")
    text.encode()


@pytest.mark.parametrize(
    ("body", "words", "status"),
    [
        (b"event: error\ndata: upstream connect error\n\n", "upstream connect error", None),
        (b'event: error\ndata: {"message": "boom", "code": 503, "id": "x"}\n\n', "boom", 503),
        (b'event: error\ndata: {"reason": "boom"}\n\ndata: [DONE]\n\n', "boom", None),
        (b'event: error\ndata: "boom"\n\n', "boom", None),
        (events(HEL, b"the engine died"), "the engine died", None),
        (events(b'{"error": "it said "no""}'), "", None),
        (events(HEL) + b'{"error": {"message": "boom", "code": 500}}\n', "boom", 500),
        (b'{"detail": "boom"}', "boom", None),
        (b'[{"error": {"message": "boom", "code": 400}}]', "boom", 400),
        (b'{"object": "error", "message": "boom", "code": 400}', "boom", 400),
    ],
)
def test_an_error_is_told_in_the_words_of_the_provider(body: bytes, words: str, status: int | None) -> None:
    with pytest.raises((ErrorObject, Malformed)) as raised:
        read(body)

    if isinstance(raised.value, ErrorObject):
        told = words_of_error(raised.value.chunk)
        assert (words in told.text, told.status) == (True, status)
    else:
        assert not words


@pytest.mark.parametrize(
    "body",
    [b"", b"\n\n", b"Service unavailable", b'{"status": "fine"}', b"OK", events(b"[DONE]")],
    ids=["nothing", "blanks", "a text", "other JSON", "a word", "the end mark alone"],
)
def test_a_body_that_is_no_answer_is_malformed_and_names_base_url(body: bytes) -> None:
    with pytest.raises(Malformed, match="base_url"):
        read(body)


@pytest.mark.parametrize(
    "body", [b"<html><title>Login</title></html>", b" \n<!doctype html><p>Hi</p>", b"<?xml version='1.0'?><Error/>"]
)
def test_a_page_is_a_page_whatever_it_is_sent_as(body: bytes) -> None:
    with pytest.raises(WebPage, match="base_url"):
        read(body)


@pytest.mark.parametrize(
    "body",
    [events(HEL), events(HEL, LO), events(HEL) + b'data: {"choices": [{"del', HEL + b"\n" + LO + b"\n", b": wait\n\n"],
    ids=["one chunk", "two chunks", "half a chunk", "lines", "comments"],
)
def test_an_answer_without_its_end_is_cut(body: bytes) -> None:
    with pytest.raises(Cut):
        read(body)


def test_a_failure_word_in_a_whole_body_is_a_failure() -> None:
    with pytest.raises(BrokenOff):
        read(json.dumps({"choices": [{"message": {"content": "half"}, "finish_reason": "abort"}]}).encode())


@given(st.lists(st.binary(max_size=40) | st.sampled_from([HEL, STOP, b"data: ", b"\n\n", b"{", b"["]), max_size=12))
def test_no_bytes_raise_anything_but_what_is_told(pieces: list[bytes]) -> None:
    try:
        reply, text, _ = read(*pieces)
    except (Malformed, ErrorObject, BrokenOff, Cut):
        return
    assert reply.text == text
