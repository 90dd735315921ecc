"""Reads the body of an answer that came with a success status, and tells what is said as it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from workers.models.body import BodyParser, parsed
from workers.models.error_chunk import BrokenOff, ErrorObject, Malformed, error_of
from workers.models.failure import words_of_body
from workers.models.reply import ReplyBuilder
from workers.models.sse import ErrorData
from workers.models.timeouts import MovingTimeout

MAX_STREAM_BYTES = 256 * 1024 * 1024  # read of one answer: some 300 bytes carry one token
USAGE_S = 5.0  # from the finish_reason to the usage; the reply is whole without it
END_OF_BODY_S = 0.25  # from [DONE] to the end of the body, so that the connection can be kept

_END_MARK = b"[DONE]"
_END_MARKS = frozenset({b"[done]", b'"[done]"', b"done", b"[end]", b"[eos]"})
_BEATS = frozenset({b"", b"ping", b"pong", b"heartbeat", b"keep-alive", b"keepalive", b"connected", b"ok"})
_JSON_BEGINS = (b"{", b"[", b'"')

OnText = Callable[[str], None]


class Body(Protocol):
    """What is read: ``aiohttp.StreamReader``."""

    async def readany(self) -> bytes:
        """The next piece; empty at the end."""

    def at_eof(self) -> bool:
        """Whether the end came, and all of it was read."""


class WebPage(Malformed):
    """A page answers where a model should."""


async def read_answer(
    body: Body,
    builder: ReplyBuilder,
    wait: MovingTimeout,
    *,
    inter_token_s: float,
    on_text: OnText,
    on_reasoning: OnText,
) -> None:
    """Read to the end of the body, or until there is no more to wait for.

    Raises:
        ErrorObject, BrokenOff: the provider reports an error.
        Malformed, EventTooLarge: it is no chat completion.
    """
    parser = BodyParser()
    total = pieces = 0
    done = False
    while piece := await body.readany():
        total += len(piece)
        if total > MAX_STREAM_BYTES:
            raise Malformed(f"the stream is longer than {MAX_STREAM_BYTES} bytes")
        if done:
            continue
        if events := parser.feed(piece):
            done = take(events, builder, on_text, on_reasoning)
        elif parser.is_page:
            break
        elif parser.is_document and not piece.isspace():
            wait.expect("next piece of the answer", inter_token_s)
        if done:
            if body.at_eof():
                break
            wait.expect("end of the body", END_OF_BODY_S)
        elif builder.pieces != pieces:  # else, like comments and half an event, it only keeps a connection alive
            pieces = builder.pieces
            if builder.complete:
                wait.expect("usage", USAGE_S)
            else:
                wait.expect("next token", inter_token_s)
    if not done:
        _take_rest(parser, builder, on_text, on_reasoning)


def take(events: list[bytes], builder: ReplyBuilder, on_text: OnText, on_reasoning: OnText) -> bool:
    """Build on with these events; whether the end mark was among them. What follows a whole answer does not undo it.

    Raises:
        ErrorObject, BrokenOff: the provider reports an error.
        Malformed: an event is no chunk.
    """
    for data in events:
        if data == _END_MARK:
            builder.complete = True
            return True
        try:
            text = builder.feed(_chunk(data))
        except _End:
            builder.complete = True
            return True
        except (ErrorObject, BrokenOff, Malformed):
            if not builder.complete:
                raise
            continue
        if builder.thought:
            on_reasoning(builder.thought)
            builder.thought = ""
        if text:
            on_text(text)
    return False


class _End(Exception):
    """The end mark, in another form."""


def _chunk(data: bytes) -> object:
    """The chunk in an event; None for one that says nothing.

    Raises:
        ErrorObject: the event is an error.
        Malformed: it is no JSON.
        _End: it is an end mark.
    """
    try:
        chunk = parsed(data)
    except ValueError as error:
        said = data.strip().lower()
        if said in _END_MARKS:
            raise _End from error
        if said in _BEATS and type(data) is not ErrorData:
            return None
        if said.startswith(_JSON_BEGINS):
            raise Malformed("a chunk is not JSON") from error
        raise error_of(data.decode(errors="replace").strip()) from error
    if isinstance(chunk, str) and data.lower() in _END_MARKS:
        raise _End
    if type(data) is ErrorData and not (isinstance(chunk, dict) and chunk.get("choices")):
        raise error_of(chunk.get("error") or chunk if isinstance(chunk, dict) else chunk, chunk)
    return chunk


def _take_rest(parser: BodyParser, builder: ReplyBuilder, on_text: OnText, on_reasoning: OnText) -> None:
    """The end of the body: what it left open, and what it was if it was no answer."""
    try:
        take(parser.finish(), builder, on_text, on_reasoning)
    except Malformed:
        if not parser.is_event_stream:
            raise
        return  # half an event: the stream was cut
    if parser.is_document and builder.is_message:
        builder.complete = True
    if builder.answered or builder.complete:
        return
    if parser.is_page:
        title = words_of_body(parser.head).text
        raise WebPage(f"the answer is a web page, not a chat completion ({title}): check base_url")
    if not parser.head.strip():
        raise Malformed("the answer is empty: check base_url")
    if not parser.is_event_stream:
        words = words_of_body(parser.head).text
        raise Malformed(f"the answer is no chat completion: check base_url. It says: {words}")
