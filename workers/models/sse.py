"""Server-sent events without I/O: bytes in, in whatever pieces; the ``data`` of whole events out.

Only ``data`` counts for chat completions, and whether an event is named ``error``; the other fields and comments are
read over. The rules are those of
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream, but for two: what stands at the
end of the stream without its blank line is an event too, since some servers leave the last one out; and so is a line
of JSON without its ``data:``, as servers write that know no events, or fail in the middle of some.
"""

from __future__ import annotations

MAX_EVENT_BYTES = 8 * 1024 * 1024  # read without an event coming to its end

_LF, _CR = b"\n\r"
_BOM = b"\xef\xbb\xbf"  # may stand before the first line, and says nothing


class ErrorData(bytes):
    """The data of an event that is named ``error``."""


class EventTooLarge(Exception):
    """:data:`MAX_EVENT_BYTES` came and no event ended."""


class EventParser:
    """Feed it a stream; it gives back the data of each event as the event ends."""

    __slots__ = ("_begun", "_data", "_is_error", "_line", "_open_bytes", "_swallow_lf")

    def __init__(self) -> None:
        self._begun = False  # the first line is over
        self._data: list[bytes] = []  # data lines of the event that has not ended yet
        self._is_error = False  # that event is named so
        self._line: list[bytes] = []  # pieces of the line that has not ended yet
        self._open_bytes = 0  # read since an event ended
        self._swallow_lf = False  # the last piece ended with CR: a LF that comes first belongs to it

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in this piece, in order.

        Raises:
            EventTooLarge: an event does not end.
        """
        if self._swallow_lf and piece:
            self._swallow_lf = False
            if piece[0] == _LF:
                piece = piece[1:]
        if not piece:
            return []
        lines = piece.splitlines()  # bytes split at LF, CR and CRLF only, as the specification says
        rest = b""
        if piece[-1] == _CR:
            self._swallow_lf = True
        elif piece[-1] != _LF:
            rest = lines.pop()
        if lines and self._line:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line.clear()
        if rest:
            self._line.append(rest)
        events = self._take(lines)
        self._open_bytes = 0 if events else self._open_bytes + len(piece)
        if self._open_bytes > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def finish(self) -> list[bytes]:
        """The data of the event that the end of the stream left open, or nothing."""
        lines = [b"".join(self._line), b""]
        self._line.clear()
        return self._take(lines)

    def _take(self, lines: list[bytes]) -> list[bytes]:
        data, events = self._data, []
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BOM)
        for line in lines:
            if line.startswith(b"data: ") and not data:  # most events are one such line
                data.append(line[6:])
            elif not line:
                if data:
                    joined = data[0] if len(data) == 1 else b"\n".join(data)
                    events.append(ErrorData(joined) if self._is_error else joined)
                    data.clear()
                self._is_error = False
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif line == b"data":
                data.append(b"")
            elif line.startswith((b"{", b"[")):
                events.append(line)
            elif line.startswith(b"event:"):
                self._is_error = line[6:].strip().lower() == b"error"
        return events
