"""The supervisor actor: it takes events through ``step``, commits what they write, and hands the rest to the loop.

The actor has a thread of its own and waits for nothing but the registry. All sockets, processes and timers belong to
the event loop, which sends events through :class:`Intake` and gets effects through ``deliver`` and a failure through
``failed``.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple

import pykka

from hermes_actors.core.effects import Outward, Write
from hermes_actors.core.events import DiskRefused, Event, Said
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.state import State
from hermes_actors.core.step import due, recorded, step
from hermes_actors.operations.results import Phase
from hermes_actors.records.database import RegistryFailed
from hermes_actors.supervisor.recorder import NotWritable, Recorder
from hermes_actors.wire.failpoints import point

MOST_WAITING = 100_000  # events; workers that make more are broken
START_TIMEOUT_S = 10.0


class SupervisorFailed(Exception):
    """The supervisor met an error that it cannot go on from; the log has the first cause."""


class Outgoing(NamedTuple):
    """An effect, and the number of the event that led to it: each line that either process logs about it has it."""

    cause: int
    effect: Outward


def outgoing(number: int, event: Event, effects: Iterable[Outward]) -> Iterator[Outgoing]:
    """The effects of an event. An answer of a worker carries on the cause of the question."""
    cause = event.cause if isinstance(event, Said) and event.cause is not None else number
    return (Outgoing(cause, effect) for effect in effects)


class Supervisor(pykka.ThreadingActor):
    """Owns the state. One message is a batch of events.

    Args:
        state: the first state.
        recorder: the records.
        deliver: called after each batch with the effects to do now, and the time (monotonic seconds) of the next tick.
        failed: called once if the actor dies of an error.
    """

    use_daemon_thread = True  # a hung disk must not keep a process that has ended

    def __init__(
        self,
        state: State,
        recorder: Recorder,
        deliver: Callable[[Sequence[Outgoing], float | None], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__()
        self._state = state
        self._recorder = recorder
        self._deliver = deliver
        self._failed = failed
        self._events = 0  # so far

    def on_receive(self, events: tuple[Event, ...]) -> None:
        """Handle a batch: nothing leaves before all that it records is committed."""
        began = time.monotonic()
        before = replace(self._state, epoch=time.time() - began)
        try:
            state, leaving = self._decide(before, events)
        except NotWritable as error:
            if before.phase is Phase.STARTING:  # nothing serves yet
                self._failed(error)
                self.stop()
                return
            state, leaving = self._decide_without_writing(before, events, str(error))
        self._events += len(events)
        self._state = recorded(state, began, time.monotonic())  # a disk may take seconds
        self._deliver(leaving, due(self._state))

    def _decide(self, state: State, events: Sequence[Event]) -> tuple[State, list[Outgoing]]:
        """Each event with the rows as the events before it left them; all of it durable when this returns."""
        leaving: list[Outgoing] = []
        if _waits_for_answers(state):  # what they say is cut is recorded in one try
            self._recorder.be_patient()
        with self._recorder.batch():
            for number, event in enumerate(events, start=self._events + 1):
                after, effects = step(state, event, time.monotonic(), self._recorder)
                if _waits_for_answers(state) and not _waits_for_answers(after):
                    point("seal.answered")
                state = after
                leaving += outgoing(number, event, self._recorder.perform(effects))
            self._recorder.commit(state.ledger)
        return state, leaving

    def _decide_without_writing(self, state: State, events: Sequence[Event], why: str) -> tuple[State, list[Outgoing]]:
        """Decide events that only read as usual; for one that would write, ``step`` gets :class:`DiskRefused`."""
        leaving: list[Outgoing] = []
        for number, event in enumerate(events, start=self._events + 1):
            decided = self._only_read(state, event)
            if decided is None:
                refused = DiskRefused(event=event, why=why)
                decided = step(state, refused, time.monotonic(), self._recorder)
            state, effects = decided
            leaving += outgoing(number, event, self._recorder.perform(effects))
        return state, leaving

    def _only_read(self, state: State, event: Event) -> Result | None:
        """The result of an event that writes nothing; None where it would write, or its rows cannot be read."""
        try:
            after, effects = step(state, event, time.monotonic(), self._recorder)
        except RegistryFailed as error:
            if not error.is_short_of_space:
                raise
            return None
        writes = after.ledger is not state.ledger or any(isinstance(effect, Write) for effect in effects)
        return None if writes else (after, effects)

    def on_failure(
        self,
        exception_type: type[BaseException] | None,  # noqa: ARG002  # pykka's signature
        exception_value: BaseException | None,
        traceback: TracebackType | None,  # noqa: ARG002  # pykka's signature
    ) -> None:
        """An error in a decision or on the disk ends this process; what was committed makes that safe."""
        self._failed(exception_value or SupervisorFailed("of an unknown error"))

    def on_stop(self) -> None:
        """Also reached when a batch raised what is no Exception; the loop knows whether a stop was due."""
        self._failed(SupervisorFailed("it stopped by itself"))


def _waits_for_answers(state: State) -> bool:
    """Whether workers are reporting what runs, at a drain's deadline."""
    return state.drain is not None and state.drain.seal is not None


class Intake:
    """Where events of the loop wait while the actor is busy with a batch; they become the next one.

    So the actor's mailbox never holds more than one message, and one commit serves all that came meanwhile.
    """

    def __init__(self) -> None:
        self._waiting: deque[Event] = deque()
        self._busy = False
        self._actor: pykka.ActorRef[Any] | None = None

    def open(self, actor: pykka.ActorRef[Any]) -> None:
        """Events go to this actor from now on."""
        self._actor = actor
        self._pass_on()

    def put(self, event: Event) -> None:
        """Queue an event. Call it on the loop."""
        self._waiting.append(event)
        self._pass_on()

    def done(self) -> None:
        """The actor has finished its batch."""
        self._busy = False
        self._pass_on()

    @property
    def full(self) -> bool:
        """Whether more wait than ever should."""
        return len(self._waiting) >= MOST_WAITING

    def _pass_on(self) -> None:
        if self._busy or not self._waiting or self._actor is None:
            return
        batch = tuple(self._waiting)
        self._waiting.clear()
        self._busy = True
        with contextlib.suppress(pykka.ActorDeadError):  # then its failure is on its way
            self._actor.tell(batch)
