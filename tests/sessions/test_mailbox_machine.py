"""Any story of one mailbox: callers, the disk, a drain, fallbacks and the end of the session, in any order."""

from __future__ import annotations

from typing import Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hermes_actors.wire.messages import DrainOver, Seal
from hermes_actors.wire.records import Interrupted
from workers.sessions.item import CutOff, Item, Stage
from workers.sessions.mailbox import (
    Arrived,
    Begin,
    Cancelled,
    Closed,
    CutSealed,
    DrainBegan,
    Event,
    FellBack,
    Gate,
    Gone,
    Leave,
    Mailbox,
    Mark,
    Released,
    SendAway,
    Stop,
    Stored,
    Tell,
    Unseal,
)
from workers.turn_errors import cut_error, evicted_error
from workers.turns import GatewayDraining

TOLD = GatewayDraining(reason="restart_timeout", deadline=0.0, text="The gateway restarts.")
MARK = Interrupted(reason="restart_timeout", at=1.0)
CUT = CutOff(state="interrupted", error=cut_error("restart_timeout"))
STOPPED = CutOff(state="cancelled", error=evicted_error())


class Command(Item):
    is_turn = False


class MailboxMachine(RuleBasedStateMachine):
    """The world around a mailbox, which does what the mailbox wants, and checks that it may want that."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox: Mailbox[Item] = Mailbox()
        self.counted_in: list[str] = []  # names, in order
        self.begun: list[str] = []
        self.left: set[str] = set()
        self.over: set[str] = set()
        self.performed: Item | None = None
        self.sealed: set[str] = set()
        self.draining = self.held = self.closed = False

    def feed(self, event: Event[Item]) -> None:
        for action in self.mailbox.feed(event):
            match action:
                case Begin(item):
                    self._begins(item)
                case Stop(item):
                    assert item is self.performed
                    assert item.cutoff is not None
                case Unseal(item):
                    self.sealed.remove(item.turn_id)
                case Leave(item):
                    assert not item.begun
                    assert item.turn_id not in self.left
                    self.left.add(item.turn_id)
                case SendAway(item) | Tell(item):
                    assert item.turn_id not in self.over
                case Mark():
                    assert self.sealed

    def _begins(self, item: Item) -> None:
        name = item.turn_id
        assert self.performed is None, "one at a time"
        assert name not in self.begun
        assert name not in self.left
        assert self.closed or not self.held
        assert self.closed or not self.draining or not item.queued, "it is on disk as running, or on its way there"
        assert item.stored or not item.queued
        before = self.counted_in[: self.counted_in.index(name)]
        assert set(before) <= self.over | self.left, "what came first goes first"
        self.performed = item
        self.begun.append(name)

    def _items(self, *stages: Stage) -> list[Item]:
        return [item for item in self.mailbox.items.values() if item.stage in stages]

    # -- callers and the disk -----------------------------------------------------------------------------------------
    @rule(stored=st.booleans())
    def a_turn_arrives(self, stored: bool) -> None:
        queued = stored or bool(self.mailbox.items) or self.mailbox.paused
        self._arrives(Item(str(len(self.counted_in)), queued=queued, stored=stored))

    @rule()
    def a_command_arrives(self) -> None:
        self._arrives(Command(str(len(self.counted_in)), queued=True, stored=True))

    def _arrives(self, item: Item) -> None:
        self.counted_in.append(item.turn_id)
        self.feed(Arrived(item=item))

    def _unstored(self) -> list[Item]:
        return [item for item in self.mailbox.items.values() if not item.stored]

    @precondition(lambda self: self._unstored())
    @rule(at=st.integers(0, 9), kept=st.booleans())
    def the_disk_answers(self, at: int, kept: bool) -> None:
        waiting = self._unstored()
        item = waiting[at % len(waiting)]
        if kept:
            self.feed(Stored(turn_id=item.turn_id))
            assert item.stored
        elif item is self.performed:
            item.stored = True  # its end has nothing to wait for
            self.feed(Cancelled(turn_id=item.turn_id, cutoff=STOPPED))
            assert item.cutoff is not None
        else:
            self.sealed.discard(item.turn_id)
            if not item.left:
                self.over.add(item.turn_id)
            self.feed(Gone(turn_id=item.turn_id))

    @precondition(lambda self: self.mailbox.items)
    @rule(at=st.integers(0, 9))
    def a_caller_leaves(self, at: int) -> None:
        names = list(self.mailbox.items)
        self.feed(Cancelled(turn_id=names[at % len(names)], cutoff=STOPPED))

    # -- the actor --------------------------------------------------------------------------------------------------
    @precondition(lambda self: isinstance(self.performed, Command))
    @rule()
    def a_command_goes_on_as_a_turn(self) -> None:
        assert self.performed is not None
        before = self.performed
        self.performed = Item(before.turn_id, queued=False, stored=True)
        self.feed(Arrived(item=self.performed))
        assert (self.performed.stage, self.performed.cutoff) == (before.stage, before.cutoff)

    def _may_end(self) -> bool:
        return self.performed is not None and self.performed.stored and not self.performed.sealed

    @precondition(_may_end)
    @rule(fell_back=st.booleans())
    def the_work_ends(self, fell_back: bool) -> None:
        item = self.performed
        assert item is not None
        item.ending()
        if fell_back and not isinstance(item, Command):
            self.held = True
            self.feed(FellBack())
        self.performed = None
        self.over.add(item.turn_id)
        self.feed(Gone(turn_id=item.turn_id))

    @precondition(_may_end)
    @rule()
    def the_end_is_on_its_way_to_disk(self) -> None:
        assert self.performed is not None
        self.performed.ending()

    @rule()
    def the_supervisor_decides_on_the_actor(self) -> None:
        self.held = False
        self.feed(Released())

    # -- a drain, and the end -----------------------------------------------------------------------------------------
    @rule()
    def a_drain_begins(self) -> None:
        self.draining = True
        self.feed(DrainBegan(told=TOLD))

    @rule()
    def the_drain_is_over(self) -> None:
        self.draining = False
        self.feed(DrainOver())

    @rule()
    def the_turns_that_run_are_sealed(self) -> None:
        self.draining = True
        expected = {item.turn_id for item in self.mailbox.items.values() if item.begun and item.is_turn}
        expected -= {item.turn_id for item in self._items(Stage.ENDING)}
        self.feed(Seal(request=1))
        self.sealed = {item.turn_id for item in self.mailbox.sealed()}
        assert self.sealed == expected

    @rule(comes=st.booleans())
    def the_sealed_are_cut(self, comes: bool) -> None:
        sealed = list(self.mailbox.sealed())
        self.held = self.held and not (comes and sealed)
        self.feed(CutSealed(mark=MARK, cutoff=CUT if comes else None))
        assert not self.sealed
        assert all(item.recorded and item.cutoff is CUT for item in sealed) or not comes

    @precondition(lambda self: len(self.counted_in) > 4)
    @rule(waiting=st.sampled_from(["leave", "spare", "cut"]))
    def the_session_is_closed(self, waiting: Literal["leave", "spare", "cut"]) -> None:
        self.closed = True
        self.feed(Closed(cutoff=CUT if waiting == "leave" else STOPPED, waiting=waiting))
        for item in self.mailbox.items.values():
            assert item.left or item.cutoff is not None or item.stage is Stage.ENDING

    # -- what always holds --------------------------------------------------------------------------------------------
    @invariant()
    def the_mailbox_knows_what_runs(self) -> None:
        assert self.mailbox.running is self.performed
        assert {item.turn_id for item in self.mailbox.sealed()} == self.sealed
        assert self.sealed.isdisjoint(self.over)

    @invariant()
    def the_gate_says_what_bolts_it(self) -> None:
        if self.closed:
            assert self.mailbox.gate is Gate.CLOSED
        else:
            assert self.mailbox.paused == self.draining
            assert (Gate.HELD in self.mailbox.gate) == self.held

    @invariant()
    def nothing_that_may_begin_waits(self) -> None:
        first = next((item for item in self.mailbox.items.values() if not item.left), None)
        if self.performed is None and first is not None and (first.stored or not first.queued):
            assert not self.closed
            assert self.held or (self.draining and first.queued)

    def teardown(self) -> None:
        """Once the world is at rest, all that was counted in came to its end."""
        if self.sealed:
            self.the_sealed_are_cut(comes=False)
        self.the_drain_is_over()
        self.the_supervisor_decides_on_the_actor()
        while self.mailbox.items:
            if self._unstored():
                self.the_disk_answers(0, kept=True)
            if self.performed is not None:
                self.the_work_ends(fell_back=False)
        assert set(self.counted_in) == self.over | self.left
        assert self.over.isdisjoint(self.left)
        assert self.mailbox.running is None


TestMailbox = MailboxMachine.TestCase
TestMailbox.settings = settings(max_examples=200, stateful_step_count=40)
