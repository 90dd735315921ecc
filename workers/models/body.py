"""What the body of an answer is, by its bytes alone: servers and proxies send any ``Content-Type`` with any body. Pure.

Server-sent events; JSON documents, one a line; one JSON document; a page; or a text.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from workers.models.error_chunk import Malformed
from workers.models.sse import EventParser

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024  # of an answer that is one JSON document
MAX_HEAD_BYTES = 4096  # kept of the beginning, for what an answer says that is none

_BOM = b"\xef\xbb\xbf"
_EVENT_FIELDS = (b"data", b"event", b"id", b"retry", b":")


class BodyParser:
    """Feed it the body; it gives back the JSON texts and end marks in it, each as it ends."""

    __slots__ = ("_document", "_documents", "_events", "head", "is_page")

    def __init__(self) -> None:
        self.head = b""  # the beginning of the body
        self.is_page = False  # it is HTML, or XML: nothing of it comes out
        self._events: EventParser | None = None
        self._document: bytearray | None = None  # it begins as JSON does; so far
        self._documents = 0  # that came out, where it begins so

    @property
    def is_document(self) -> bool:
        """Whether the body is one JSON document so far."""
        return self._document is not None and self._documents <= 1

    @property
    def is_event_stream(self) -> bool:
        """Whether the body begins as server-sent events do."""
        return self._document is None and self.head.removeprefix(_BOM).lstrip().startswith(_EVENT_FIELDS)

    def feed(self, piece: bytes) -> list[bytes]:
        """The JSON texts and end marks that end in this piece, in order.

        Raises:
            EventTooLarge: one does not end.
            Malformed: the body is one document, and too large.
        """
        if self._events is not None:
            events = self._events.feed(piece)
            self._documents += len(events)
            return events
        if self._document is not None:
            return self._feed_document(piece)
        if self.is_page:
            return []
        self.head += piece
        begin = self.head.removeprefix(_BOM).lstrip()
        if not begin or _BOM.startswith(begin):
            if len(self.head) > MAX_HEAD_BYTES:  # blanks keep the connection of a slow answer alive
                self.head = b""
            return []
        whole, self.head = self.head, begin[:MAX_HEAD_BYTES]
        self.is_page = begin.startswith(b"<")
        if begin.startswith((b"{", b"[")):
            self._document = bytearray()
            return self._feed_document(begin)
        if self.is_page:
            return []
        self._events = EventParser()
        return self._events.feed(whole)

    def finish(self) -> list[bytes]:
        """What the end of the body left open."""
        if self._events is not None:
            events = self._events.finish()
            self._documents += len(events)
            return events
        if not self._document:
            return []
        documents = _documents(bytes(self._document))
        self._documents += len(documents)
        return documents

    def _feed_document(self, piece: bytes) -> list[bytes]:
        assert self._document is not None
        first = b"\n" not in self._document
        self._document += piece
        if len(self._document) > MAX_DOCUMENT_BYTES:
            raise Malformed(f"the answer is longer than {MAX_DOCUMENT_BYTES} bytes")
        if first and b"\n" in piece and _is_json(self._document.partition(b"\n")[0]):
            self._events = EventParser()  # a document a line, which it reads too
            whole, self._document = bytes(self._document), bytearray(1)
            return self.feed(whole)
        return []


def parsed(data: bytes) -> Any:
    """The JSON in an event, also where it is not quite: numbers that are none, half a character, bytes of no text.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        value = json.loads(data.decode(errors="replace"), strict=False, parse_constant=lambda _: None)
        return orjson.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _documents(body: bytes) -> list[bytes]:
    """The documents that follow one another without a line end; one that is no JSON as it is."""
    if _is_json(body):
        return [body]
    text = body.decode(errors="replace")
    found: list[bytes] = []
    at = 0
    try:
        while at < len(text):
            _, end = json.JSONDecoder(strict=False).raw_decode(text, at)
            found.append(text[at:end].encode())
            at = end + len(text[end:]) - len(text[end:].lstrip())
    except (ValueError, RecursionError):
        return [*found, text[at:].encode()]
    return found


def _is_json(data: bytes | bytearray) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True
