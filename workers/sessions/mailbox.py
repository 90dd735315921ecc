"""The mailbox of a session, purely: what waits in it, what runs, and what begins next.

Work comes in order and runs one at a time. A piece of work goes through these stages::

    STORING ──stored──▶ WAITING ──begin──▶ RUNNING ──▶ ENDING ──finished──▶ gone
       │ └──refused──▶ gone  │
       └──────left───────────┴──▶ it does not begin here; its next owner has it on disk

Work that is not queued, since nothing was before it, begins while it is on its way to disk; it ends only when it is
there, and where the disk refuses it, it is cut.

One gate decides whether the next piece of work may begin. It is open, closed for good, or bolted by a drain
(``PAUSED``), by a fallback whose actor the supervisor may replace (``HELD``), or by both.

Whatever happens to a session is an event, and :meth:`Mailbox.feed` answers with what is to be done about it, in order.
A drain ends in two steps: after ``Seal`` the turns that run wait with their ends for :class:`CutSealed`. So the turns
that the supervisor records as cut between the two are exactly those that are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Flag
from typing import Generic, Literal, TypeAlias, TypeVar, assert_never

from hermes_actors.wire.messages import DrainOver, Seal
from hermes_actors.wire.records import Interrupted
from workers.sessions.item import CutOff, Item, Stage
from workers.turns import GatewayDraining, TurnError

ItemT = TypeVar("ItemT", bound=Item)


class Gate(Flag):
    """What keeps work from beginning."""

    OPEN = 0
    PAUSED = 1  # a drain goes on: only what is on disk as running begins, or it would stay so
    HELD = 2  # a turn succeeded on a fallback: nothing begins until the supervisor has decided on the actor
    CLOSED = 4  # for good: all that was in the mailbox was cut or left


# -- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived(Generic[ItemT]):
    """Work is counted in; it takes the place of work with the same name."""

    item: ItemT


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Work is on disk."""

    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Work could not be stored, or is finished."""

    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """No caller wants this work any more, or a person stopped it."""

    turn_id: str
    cutoff: CutOff


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainBegan:
    """The gateway drains; ``told`` is for the callers of what runs."""

    told: GatewayDraining


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSealed:
    """The supervisor recorded the sealed turns as cut.

    Attributes:
        mark: what a cut session carries; its strikes are the supervisor's to count.
        cutoff: None: no cut came in time, so they end by themselves, though they may be recorded as cut.
    """

    mark: Interrupted
    cutoff: CutOff | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FellBack:
    """A turn succeeded on a fallback, and the supervisor was asked whether the actor is to be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The supervisor decided on the actor, or did not in time; a fresh actor says so when it starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The session ends here: nothing begins any more.

    Attributes:
        cutoff: of what runs.
        waiting: what becomes of the rest. ``leave``: it stays on disk for its next owner; ``spare``: turns do, and
            commands are cut; ``cut``: all is cut.
        why: what the callers of turns that are spared read.
    """

    cutoff: CutOff
    waiting: Literal["leave", "spare", "cut"]
    why: TurnError | None = None


Event: TypeAlias = (
    Arrived[ItemT]
    | Stored
    | Gone
    | Cancelled
    | DrainBegan
    | DrainOver
    | Seal
    | CutSealed
    | FellBack
    | Released
    | Closed
)


# -- actions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin(Generic[ItemT]):
    """Perform this work; say :class:`Gone` when it is finished."""

    item: ItemT


@dataclass(frozen=True, slots=True)
class Stop(Generic[ItemT]):
    """This work runs and has a cutoff now: it is to end."""

    item: ItemT


@dataclass(frozen=True, slots=True)
class Unseal(Generic[ItemT]):
    """The end of this work waits no longer."""

    item: ItemT


@dataclass(frozen=True, slots=True)
class Leave(Generic[ItemT]):
    """This work does not begin here: its caller gets this end, or the usual one where ``why`` is None."""

    item: ItemT
    why: TurnError | None


@dataclass(frozen=True, slots=True)
class SendAway(Generic[ItemT]):
    """This turn may begin much later: its caller is not to wait for it."""

    item: ItemT


@dataclass(frozen=True, slots=True)
class Tell(Generic[ItemT]):
    """The caller of this work hears that the gateway drains, or drains no more."""

    item: ItemT
    told: GatewayDraining | None


@dataclass(frozen=True, slots=True)
class Mark:
    """The session was cut, and carries this until a turn of it succeeds."""

    mark: Interrupted


Action: TypeAlias = Begin[ItemT] | Stop[ItemT] | Unseal[ItemT] | Leave[ItemT] | SendAway[ItemT] | Tell[ItemT] | Mark

# -- the machine --------------------------------------------------------------------------------------------------


class Mailbox(Generic[ItemT]):
    """What one session has to do.

    Args:
        gate: ``PAUSED`` where a drain goes on.
    """

    __slots__ = ("_closed", "gate", "items", "running")

    def __init__(self, gate: Gate = Gate.OPEN) -> None:
        self.gate = gate
        self.items: dict[str, ItemT] = {}  # by turn id, in order
        self.running: ItemT | None = None
        self._closed: Closed | None = None

    @property
    def paused(self) -> bool:
        """Whether what has not begun waits for the end of a drain."""
        return self.gate is not Gate.OPEN and Gate.PAUSED in self.gate

    @property
    def next(self) -> ItemT | None:
        """The work that runs, or would begin as soon as it is stored."""
        if self.running is not None:
            return self.running
        first = next((item for item in self.items.values() if not item.left), None)
        return first if first is not None and self._may_begin(first) else None

    def sealed(self) -> Iterator[ItemT]:
        """The turns whose ends wait for a cut."""
        return (item for item in self.items.values() if item.sealed)

    def feed(self, event: Event[ItemT]) -> Sequence[Action[ItemT]]:
        """Take an event; what is to be done about it, in order."""
        match event:
            case Arrived():
                return self._arrived(event.item)
            case Stored():
                return self._stored(self.items[event.turn_id])
            case Gone():
                item = self.items.pop(event.turn_id)
                if item is self.running:
                    self.running = None
                return self._begin_next()
            case Cancelled():
                item_or_none = self.items.get(event.turn_id)
                return () if item_or_none is None else list(self._cut(item_or_none, event.cutoff))
            case DrainBegan():
                self._bolt(Gate.PAUSED)
                return [Tell(item, event.told) for item in self.items.values() if item.begun]
            case DrainOver():
                return self._drain_over()
            case Seal():
                self._bolt(Gate.PAUSED)
                for item in self.items.values():
                    item.sealed = item.sealed or (item.is_turn and item.begun and item.stage < Stage.ENDING)
                return ()
            case CutSealed():
                return self._cut_sealed(event)
            case FellBack():
                self._bolt(Gate.HELD)
                return ()
            case Released():
                self.gate &= ~Gate.HELD
                return self._begin_next()
            case Closed():
                return self._close(event)
            case _:
                assert_never(event)

    def _bolt(self, bolt: Gate) -> None:
        if self.gate is not Gate.CLOSED:
            self.gate |= bolt

    # -- in order ---------------------------------------------------------------------------------------------------
    def _arrived(self, item: ItemT) -> Sequence[Action[ItemT]]:
        before = self.items.get(item.turn_id)
        self.items[item.turn_id] = item
        if before is not None and before is self.running:  # a command goes on as the turn that it sends again
            item.stage, item.cutoff = before.stage, before.cutoff
            self.running = item
            return ()
        if self._closed is not None:
            return [*self._end(item, self._closed), *self._begin_next()]
        return () if self._waits_for_disk(item) else self._begin_next()

    def _stored(self, item: ItemT) -> Sequence[Action[ItemT]]:
        item.stored = True
        item.stage = max(item.stage, Stage.WAITING)
        if item.left:
            del self.items[item.turn_id]
        return self._begin_next()

    def _begin_next(self) -> Sequence[Action[ItemT]]:
        if self.running is not None:
            return ()
        for item in self.items.values():
            if item.left:  # only its commit is waited for
                continue
            if self._waits_for_disk(item) or not self._may_begin(item):  # what came first goes first
                return ()
            item.stage = Stage.RUNNING
            self.running = item
            return (Begin(item),)
        return ()

    @staticmethod
    def _waits_for_disk(item: ItemT) -> bool:
        return item.queued and item.stage is Stage.STORING

    def _may_begin(self, item: ItemT) -> bool:
        if self.gate is Gate.OPEN or self.gate is Gate.CLOSED:
            return True
        return Gate.HELD not in self.gate and item.begun

    # -- how work ends early ----------------------------------------------------------------------------------------
    def _cut(self, item: ItemT, cutoff: CutOff) -> Iterator[Action[ItemT]]:
        """Cut it now, or as soon as it begins. The first cut counts, unless the supervisor recorded the second."""
        if item.stage is Stage.ENDING:
            return
        recorded = item.sealed and cutoff.state == "interrupted"
        if item.cutoff is None or recorded:
            item.cutoff = cutoff
            if item.stage is Stage.RUNNING:
                yield Stop(item)
        if recorded:
            item.sealed, item.recorded = False, True
            yield Unseal(item)

    def _drain_over(self) -> Sequence[Action[ItemT]]:
        self.gate &= ~Gate.PAUSED
        actions: list[Action[ItemT]] = []
        for item in self.items.values():
            if item.sealed:
                item.sealed = False
                actions.append(Unseal(item))
            actions.append(Tell(item, None))
        return [*actions, *self._begin_next()]

    def _cut_sealed(self, event: CutSealed) -> Sequence[Action[ItemT]]:
        sealed = list(self.sealed())
        actions: list[Action[ItemT]] = [Mark(event.mark)] if sealed else []
        if event.cutoff is None:
            for item in sealed:
                item.sealed = False
                actions.append(Unseal(item))
            return actions
        for item in sealed:
            actions += self._cut(item, event.cutoff)
        for item in [item for item in self.items.values() if not item.begun and not item.left]:
            if item.is_turn:
                actions.append(SendAway(item))
            else:  # nothing of a command is kept
                actions += self._leave(item)
        if sealed:  # what was cut ends now; it does not wait for a decision on its actor
            self.gate &= ~Gate.HELD
        return [*actions, *self._begin_next()]

    def _close(self, event: Closed) -> Sequence[Action[ItemT]]:
        self.gate, self._closed = Gate.CLOSED, event
        actions: list[Action[ItemT]] = []
        for item in list(self.items.values()):
            actions += self._end(item, event)
        return [*actions, *self._begin_next()]

    def _end(self, item: ItemT, event: Closed) -> Iterator[Action[ItemT]]:
        spared = event.waiting == "leave" or (event.waiting == "spare" and item.is_turn)
        if item.begun or not spared:
            yield from self._cut(item, event.cutoff)
        elif not item.left:
            yield from self._leave(item, event.why)

    def _leave(self, item: ItemT, why: TurnError | None = None) -> Iterator[Action[ItemT]]:
        item.left = True
        if item.stage is Stage.WAITING:
            del self.items[item.turn_id]
        yield Leave(item, why)
