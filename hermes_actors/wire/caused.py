"""The link between the supervisor and a worker: each message travels with the number of the event that led to it.

The supervisor numbers its events. ``cause`` is bound to the log (``structlog.contextvars``) while an effect of an event
is done and while its message is handled, in both processes. What is sent meanwhile carries it on, so that a question,
its answer and all lines about them have the number of the same event.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any

from structlog.contextvars import bind_contextvars, get_contextvars

from hermes_actors.wire.codec import ProtocolError
from hermes_actors.wire.link import FrameLink
from hermes_actors.wire.messages import Caused


def cause() -> int | None:
    """The number of the event that led to what happens now; None where none of this link did."""
    number: int | None = get_contextvars().get("cause")
    return number


class CausedLink(FrameLink):
    """A link that sends and receives every message in a :class:`~hermes_actors.wire.messages.Caused`.

    Args:
        on_message: called with each message, in order, on the loop, while its cause is bound.
        on_lost: called once, with what went wrong in words, when the link ends.
    """

    def __init__(self, on_message: Callable[[Any], None], on_lost: Callable[[str], None]) -> None:
        super().__init__(self._unwrapped, on_lost)
        self._on_caused = on_message

    def send(self, message: Any) -> None:
        super().send(Caused(cause=cause(), message=message))

    def _unwrapped(self, caused: Any) -> None:
        if not isinstance(caused, Caused):
            raise ProtocolError(f"a message of this link comes in Caused, not {type(caused).__name__}")
        # In a context of its own: the link's was copied from the task that opened it, which has a cause too.
        Context().run(self._handle, caused)

    def _handle(self, caused: Caused) -> None:
        if caused.cause is not None:
            bind_contextvars(cause=caused.cause)
        self._on_caused(caused.message)
