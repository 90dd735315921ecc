"""A Pykka actor without a thread: it handles its mail on the worker's event loop, at once.

Pykka's own actors cost a thread each; a worker hosts thousands. A :class:`LoopActor` costs a few KiB and no task. Its
``on_receive`` waits for nothing: mail that is sent on the loop is handled when ``tell`` returns, unless the actor is
just handling other mail; then it is handled next. Mail from another thread comes through the loop.

It differs from stock Pykka where stock Pykka is dangerous in a process full of actors:

* any exception, ``BaseException`` included, ends only the actor it was raised in (Pykka stops all of them);
* mail that arrives while the actor dies is answered with ``ActorDeadError`` (Pykka has a gap in which it is lost).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

import pykka
from pykka import ActorDeadError
from pykka import messages as pykka_messages

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Inbox:
    """The inbox of one :class:`LoopActor`. Nothing stays in it: what waits, waits where the actor puts it."""

    __slots__ = ("_handling", "_loop", "_mail", "_thread", "actor")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._mail: list[Any] = []  # sent while the actor handles other mail
        self._handling = False
        self.actor: LoopActor | None = None  # the strong reference that keeps the actor alive; None: it is gone

    def deliver(self, message: Any) -> None:
        """Have the actor handle a message; see :func:`deliver`."""
        if self.actor is None:
            raise ActorDeadError("the actor is gone")
        if self._handling:
            self.actor.actor_ref.tell(message)
            return
        self._handling = True
        try:
            self.actor.take(message)
            if self._mail:
                self._handle_mail()
        finally:
            self._handling = False

    def put(self, envelope: Any, /) -> None:
        """Have the actor handle an envelope.

        Raises:
            ActorDeadError: the actor is gone, and no answer is waited for; else that is the answer.
        """
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._put, envelope)
            return
        if self.actor is None and envelope.reply_to is None:
            raise ActorDeadError("the actor is gone")
        self._put(envelope)

    def _put(self, envelope: Any) -> None:
        self._mail.append(envelope)
        if self._handling:
            return
        self._handling = True
        try:
            self._handle_mail()
        finally:
            self._handling = False

    def _handle_mail(self) -> None:
        while self._mail:
            envelope = self._mail.pop(0)
            if self.actor is None:
                refuse(envelope)
            else:
                self.actor.handle(envelope)

    def get(self) -> Any:
        """The next envelope; Pykka's interface."""
        return self._mail.pop(0)

    def empty(self) -> bool:
        """Whether no mail waits; Pykka's interface."""
        return not self._mail


class LoopActor(pykka.Actor):
    """Base of agent actors. Must be started on the event loop it is to live on; ``on_receive`` returns at once."""

    actor_inbox: Inbox

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Inbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return pykka.ThreadingFuture()

    def _start_actor_loop(self) -> None:
        self.actor_inbox.actor = self
        self._actor_loop_setup()

    def handle(self, envelope: Any) -> None:
        """Handle one envelope, by Pykka's rules: an ``ask`` gets an exception and the actor lives; a ``tell`` ends it.

        A ``BaseException`` ends the actor in both cases.
        """
        try:
            response = self._handle_receive(envelope.message)
        except BaseException as error:  # noqa: BLE001  # nothing an actor raises may reach who sent it mail
            if envelope.reply_to is not None:
                envelope.reply_to.set_exception((type(error), error, error.__traceback__))
                if isinstance(error, Exception):
                    return
            self._die(error)
        else:
            if envelope.reply_to is not None:
                envelope.reply_to.set(response)
        if self.actor_stopped.is_set():
            self.actor_inbox.actor = None

    def take(self, message: Any) -> None:
        """Handle a message that no one waits for: what ``on_receive`` raises ends the actor."""
        try:
            self.on_receive(message)
        except BaseException as error:  # noqa: BLE001  # nothing an actor raises may reach who sent it mail
            self._die(error)

    def _die(self, error: BaseException) -> None:
        self._handle_failure(type(error), error, error.__traceback__)
        self.actor_inbox.actor = None
        try:
            self.on_failure(type(error), error, error.__traceback__)
        except Exception:
            log.exception("on_failure of %s failed too", self)


def deliver(actor: pykka.ActorRef[Any], message: Any) -> None:
    """Have a :class:`LoopActor` handle a message, from its own loop and without an envelope: the hot path of a turn.

    Raises:
        ActorDeadError: the actor is gone.
    """
    inbox = actor.actor_inbox
    assert isinstance(inbox, Inbox)
    inbox.deliver(message)


def refuse(envelope: Any) -> None:
    """Tell the asker, if there is one, that the actor is gone."""
    if envelope.reply_to is None:
        return
    if isinstance(envelope.message, pykka_messages._ActorStop):  # noqa: SLF001  # how Pykka says stop
        envelope.reply_to.set(None)
    else:
        envelope.reply_to.set_exception((ActorDeadError, ActorDeadError("the actor is gone"), None))


async def contained(work: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T | BaseException:
    """Work for a task of its own: what would end the event loop (``SystemExit``, ``KeyboardInterrupt``) is its value.

    asyncio raises these two out of the running loop, whichever task awaits; see ``asyncio.Task`` in the library docs.
    """
    try:
        return await work(*args)
    except (SystemExit, KeyboardInterrupt) as fatal:
        return fatal
