"""A Pykka actor without a thread: its mailbox is drained on the worker's event loop.

Pykka's own actors cost a thread each; a worker hosts thousands. An :class:`AsyncActor` costs a few KiB and no task
while its mailbox is empty. It differs from stock Pykka where stock Pykka is dangerous in a process full of actors:

* any exception, ``BaseException`` included, ends only the actor it was raised in (Pykka stops all of them);
* ``await ref.ask(…, block=False)`` waits without blocking the loop (Pykka's future blocks it);
* mail that arrives while the actor dies is answered with ``ActorDeadError`` (Pykka has a gap in which it is lost).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar, TypeVarTuple, cast

import pykka
from pykka import ActorDeadError, ActorRegistry
from pykka import messages as pykka_messages

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MESSAGES_PER_TICK = 64  # then the other actors have their turn


class LoopFuture(pykka.Future[Any]):
    """A Pykka future that any thread may ``get`` and any event loop may ``await``."""

    def __init__(self) -> None:
        super().__init__()
        self._inner: concurrent.futures.Future[Any] = concurrent.futures.Future()

    def get(self, *, timeout: float | None = None) -> Any:
        if self._get_hook is not None:  # made by map(), join() and the like
            return super().get(timeout=timeout)
        if not self._inner.done() and _runs_a_loop():
            raise RuntimeError("Future.get() would block the event loop; await the future instead")
        try:
            return self._inner.result(timeout)
        except concurrent.futures.TimeoutError as error:
            if self._inner.done():
                raise  # the actor's own TimeoutError
            raise pykka.Timeout(f"{timeout} seconds") from error

    def set(self, value: Any = None) -> None:
        self._inner.set_result(value)

    def set_exception(self, exc_info: Any = None) -> None:
        self._inner.set_exception((exc_info or sys.exc_info())[1])

    def __await__(self) -> Generator[Any, None, Any]:
        if self._get_hook is not None:
            return (yield from asyncio.to_thread(self.get).__await__())
        return (yield from asyncio.wrap_future(self._inner).__await__())


def _runs_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Mailbox:
    """The inbox of one :class:`AsyncActor`: ``put`` from any thread, read on the loop."""

    __slots__ = ("_lock", "_loop", "_thread", "closed", "mail", "scheduled", "wake")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self.mail: deque[Any] = deque()
        self.wake: Callable[[], None] | None = None  # a bound method: the strong reference that keeps the actor alive
        self.scheduled = False  # a drain runs or will
        self.closed = False

    def put(self, envelope: Any, /) -> None:
        """Queue an envelope and see that the actor wakes.

        Raises:
            ActorDeadError: the actor is gone and nobody waits for a reply; who waits gets it as the reply.
        """
        with self._lock:
            refused = self.closed
            if not refused:
                self.mail.append(envelope)
                if self.scheduled or self.wake is None:
                    return
                self.scheduled = True
        if refused:
            refuse(envelope, "is gone")
            if envelope.reply_to is None:
                raise ActorDeadError("the actor is gone")
            return
        self.schedule()

    def schedule(self) -> None:
        """Call ``wake`` on the loop, soon."""
        assert self.wake is not None
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self.wake)
        else:
            self._loop.call_soon_threadsafe(self.wake)

    def get(self) -> Any:
        """The next envelope; Pykka's interface."""
        return self.mail.popleft()

    def empty(self) -> bool:
        """Whether no mail waits; Pykka's interface."""
        return not self.mail

    def rest(self) -> bool:
        """Give the schedule back if no mail waits; whether it was given back."""
        with self._lock:
            if self.mail:
                return False
            self.scheduled = False
            return True

    def close(self) -> None:
        """Refuse all further mail."""
        with self._lock:
            self.closed = True


class AsyncActor(pykka.Actor):
    """Base of agent actors. ``on_receive`` may be a coroutine; the next message waits until it is done.

    Must be started on the event loop it is to live on.
    """

    actor_inbox: Mailbox

    @staticmethod
    def _create_actor_inbox() -> Any:
        return Mailbox()

    @staticmethod
    def _create_future() -> pykka.Future[Any]:
        return LoopFuture()

    def _start_actor_loop(self) -> None:
        self._started = False
        self._task: asyncio.Task[None] | None = None  # the loop itself holds tasks only weakly
        self.actor_inbox.wake = self._wake
        self.actor_inbox.scheduled = True
        self.actor_inbox.schedule()

    def _wake(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._drain(), name=f"actor {self.actor_urn}")

    async def _drain(self) -> None:
        """Handle mail until there is none or the actor is over; :meth:`_handle` lets no exception out."""
        box = self.actor_inbox
        rested = False
        try:
            if not self._started:
                self._started = True
                self._actor_loop_setup()
            handled = 0
            while not self.actor_stopped.is_set():
                if not box.mail and box.rest():
                    rested = True
                    self._task = None
                    return
                await self._handle(box.get())
                handled += 1
                if handled % MESSAGES_PER_TICK == 0:
                    await asyncio.sleep(0)
        finally:
            if not rested:
                self._end()

    async def _handle(self, envelope: Any) -> None:
        try:
            response = self._handle_receive(envelope.message)
            if inspect.isawaitable(response):
                response = await response
        except BaseException as error:  # noqa: BLE001  # nothing an actor raises may reach another actor
            self._failed(envelope, error)
        else:
            if envelope.reply_to is not None:
                envelope.reply_to.set(response)

    def _failed(self, envelope: Any, error: BaseException) -> None:
        """Pykka's rules: an ``ask`` gets the exception and the actor lives; a ``tell`` ends the actor.

        A ``BaseException`` ends the actor in both cases, and the asker is told that it died.
        """
        if isinstance(error, Exception):
            if envelope.reply_to is not None:
                envelope.reply_to.set_exception((type(error), error, error.__traceback__))
                return
        else:
            refuse(envelope, f"died of {error!r}")
        self._handle_failure(type(error), error, error.__traceback__)
        try:
            self.on_failure(type(error), error, error.__traceback__)
        except Exception:
            log.exception("on_failure of %s failed too", self)

    def _end(self) -> None:
        if not self.actor_stopped.is_set():  # the task was cancelled between two messages
            self.actor_stopped.set()
            ActorRegistry.unregister(self.actor_ref)
        box = self.actor_inbox
        box.close()
        while not box.empty():
            envelope = box.get()
            if isinstance(envelope.message, pykka_messages._ActorStop):  # noqa: SLF001  # how Pykka says stop
                if envelope.reply_to is not None:
                    envelope.reply_to.set(None)
            else:
                refuse(envelope, "stopped before it handled the message")
        box.wake = None


async def contained(work: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T | BaseException:
    """Work for a task of its own: what would end the event loop (``SystemExit``, ``KeyboardInterrupt``) is its value.

    asyncio raises these two out of the running loop, whoever awaits the task; see ``asyncio.Task`` in the library docs.
    """
    try:
        return await work(*args)
    except (SystemExit, KeyboardInterrupt) as fatal:
        return fatal


def refuse(envelope: Any, why: str) -> None:
    """Tell the asker, if there is one, that the actor does not answer."""
    if envelope.reply_to is not None:
        dead = ActorDeadError(f"the actor {why}")
        cast("LoopFuture", envelope.reply_to).set_exception((ActorDeadError, dead, None))
