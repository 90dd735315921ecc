"""A conversation at a terminal: replies as they come on stdout, tool progress and troubles as lines on stderr."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from hermes_actors.cli.chat import ChatFailed, Endpoint, Event, Finished, Piece, Tool, tell
from hermes_actors.terminal import printable

PROMPT = "> "
LET_GO = "no longer waiting; the session finishes this turn by itself"
WAITING = "waiting for the reply"
_TOOL_MARKS = {"running": "…", "completed": "✓", "failed": "✗"}


class Screen:
    """Where a conversation is shown."""

    def __init__(self, out: TextIO, notes: Console) -> None:
        self._out = out
        self._notes = notes
        self._visible = printable if out.isatty() else str  # what goes into a file goes there as it is
        self._in_line = False
        self._spinner = notes.status(WAITING)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Until the first event, show at a terminal that a reply is awaited."""
        if self._notes.is_terminal:
            self._spinner.start()
        try:
            yield
        finally:
            self._spinner.stop()
            self.end_line()

    def show(self, event: Event) -> None:
        """The next event of a reply."""
        self._spinner.stop()
        match event:
            case Piece(text=text):
                self._out.write(self._visible(text))
                self._out.flush()
                self._in_line = not text.endswith("\n")
            case Tool(name=name, status=status):
                self.note(f"{_TOOL_MARKS.get(status, '·')} {name}", "dim")
            case _:
                self.end_line()

    def note(self, text: str, style: str) -> None:
        """A line beside the conversation."""
        self.end_line()
        self._notes.print(Text(printable(text), style=style))

    def end_line(self) -> None:
        """End the line that a reply is printed on, if there is one."""
        if self._in_line:
            self._out.write("\n")
            self._out.flush()
            self._in_line = False


def say(endpoint: Endpoint, message: str, screen: Screen) -> None:
    """One message and its reply.

    Raises:
        ChatFailed: there is none, or not all of it.
    """
    with screen.waiting():
        asyncio.run(tell(endpoint, message, screen.show))


def collect(endpoint: Endpoint, message: str) -> dict[str, Any]:
    """One message and its reply as data: ``text``, ``tools`` as they ended, ``finish_reason``.

    Raises:
        ChatFailed: there is none, or not all of it.
    """
    events: list[Event] = []
    text = asyncio.run(tell(endpoint, message, events.append))
    tools = [{"name": e.name, "status": e.status} for e in events if isinstance(e, Tool) and e.status != "running"]
    reason = next(event.reason for event in events if isinstance(event, Finished))
    return {"session": endpoint.session, "text": text, "tools": tools, "finish_reason": reason}


def converse(endpoint: Endpoint, source: TextIO, screen: Screen) -> None:
    """Messages, a line each, until end of file. At a terminal Ctrl-C ends a reply, and a failure ends nothing.

    Raises:
        ChatFailed, KeyboardInterrupt: without a terminal, a message failed or was interrupted; no later one is sent.
    """
    interactive = source.isatty()
    for message in _typed(screen) if interactive else (line.strip() for line in source):
        if not message:
            continue
        try:
            say(endpoint, message, screen)
        except KeyboardInterrupt:
            if not interactive:
                raise
            screen.note(LET_GO, "yellow")
        except ChatFailed as failed:
            if not interactive:
                raise
            screen.note(str(failed), "red")


def _typed(screen: Screen) -> Iterator[str]:
    """What a person types, with history and line editing."""
    import readline  # noqa: F401  # importing it is what makes input() edit lines; it must not touch other output

    while True:
        try:
            yield input(PROMPT).strip()
        except KeyboardInterrupt:
            sys.stdout.write("\n")  # as shells do: the line is dropped
        except EOFError:
            screen.note("", "")
            return
