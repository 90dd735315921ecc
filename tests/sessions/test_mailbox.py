"""The mailbox of a session, asked without a loop: what begins when, what is cut, and what is left."""

from __future__ import annotations

from typing import Literal

import pytest

from hermes_actors.wire.messages import DrainOver, Seal
from hermes_actors.wire.records import Interrupted
from workers.sessions.item import CutOff, Item, Stage
from workers.sessions.mailbox import (
    Action,
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


def turn(name: str, *, queued: bool = False, stored: bool = False) -> Item:
    return Item(name, queued=queued, stored=stored)


def command(name: str) -> Item:
    return Command(name, queued=True, stored=True)


def fed(mailbox: Mailbox[Item], *events: Event[Item]) -> list[Action[Item]]:
    """What is to be done about these events."""
    return [action for event in events for action in mailbox.feed(event)]


def with_running(*names: str) -> tuple[Mailbox[Item], list[Item]]:
    """A mailbox in which the first of these turns runs and the others wait."""
    mailbox: Mailbox[Item] = Mailbox()
    items = [turn(name, queued=at > 0) for at, name in enumerate(names)]
    for item in items:
        fed(mailbox, Arrived(item=item), Stored(turn_id=item.turn_id))
    return mailbox, items


# -- order --------------------------------------------------------------------------------------------------------


def test_a_turn_with_nothing_before_it_begins_while_it_is_on_its_way_to_disk() -> None:
    mailbox: Mailbox[Item] = Mailbox()
    first = turn("1")

    assert fed(mailbox, Arrived(item=first)) == [Begin(first)]
    assert not first.stored
    assert fed(mailbox, Stored(turn_id="1")) == []
    assert (first.stored, first.stage) == (True, Stage.RUNNING)


def test_a_queued_turn_begins_once_it_is_stored_and_the_one_before_is_gone() -> None:
    mailbox, (_, second) = with_running("1", "2")
    third = turn("3", queued=True)

    assert fed(mailbox, Arrived(item=third), Gone(turn_id="1")) == [Begin(second)]
    assert fed(mailbox, Gone(turn_id="2")) == []
    assert fed(mailbox, Stored(turn_id="3")) == [Begin(third)]
    assert fed(mailbox, Gone(turn_id="3")) == []
    assert not mailbox.items


def test_what_was_counted_in_first_begins_first_even_if_it_is_stored_later() -> None:
    mailbox, _ = with_running("0")
    first, second = turn("1", queued=True), turn("2", queued=True)

    assert fed(mailbox, Arrived(item=first), Arrived(item=second), Stored(turn_id="2"), Gone(turn_id="0")) == []
    assert fed(mailbox, Stored(turn_id="1")) == [Begin(first)]


def test_a_turn_that_could_not_be_stored_holds_up_no_other() -> None:
    mailbox, _ = with_running("0")
    first, second = turn("1", queued=True), turn("2", queued=True)

    assert fed(mailbox, Arrived(item=first), Arrived(item=second), Stored(turn_id="2"), Gone(turn_id="0")) == []
    assert fed(mailbox, Gone(turn_id="1")) == [Begin(second)]


def test_a_command_that_goes_on_as_a_turn_keeps_its_place_and_its_cut() -> None:
    mailbox: Mailbox[Item] = Mailbox()
    retry, again = command("1"), turn("1")
    fed(mailbox, Arrived(item=retry), Cancelled(turn_id="1", cutoff=STOPPED))

    assert fed(mailbox, Arrived(item=again), Seal(request=1)) == []

    assert mailbox.running is again
    assert (again.stage, again.cutoff, again.sealed) == (Stage.RUNNING, STOPPED, True)
    assert not retry.sealed


def test_what_would_run_next_is_what_runs_or_what_may_begin() -> None:
    mailbox, (first, second) = with_running("1", "2")
    assert mailbox.next is first

    fed(mailbox, DrainBegan(told=TOLD), Gone(turn_id="1"))
    assert mailbox.next is None

    fed(mailbox, DrainOver())
    assert mailbox.next is second


# -- a drain ------------------------------------------------------------------------------------------------------


def test_what_waits_begins_in_order_when_the_drain_is_cancelled_and_not_before() -> None:
    mailbox, (first, second, third) = with_running("1", "2", "3")

    assert fed(mailbox, DrainBegan(told=TOLD)) == [Tell(first, TOLD)]
    assert fed(mailbox, Gone(turn_id="1")) == []
    assert fed(mailbox, DrainOver()) == [Tell(second, None), Tell(third, None), Begin(second)]
    assert fed(mailbox, Gone(turn_id="2")) == [Begin(third)]


def test_a_turn_that_is_on_disk_as_running_begins_in_a_drain() -> None:
    mailbox: Mailbox[Item] = Mailbox()
    item = turn("1")
    fed(mailbox, FellBack(), Arrived(item=item), DrainBegan(told=TOLD), Stored(turn_id="1"))

    assert fed(mailbox, Released()) == [Begin(item)]


def test_a_sealed_turn_is_cut_and_marked_whatever_it_came_to() -> None:
    mailbox, (first, second) = with_running("1", "2")

    assert fed(mailbox, DrainBegan(told=TOLD), Seal(request=1)) == [Tell(first, TOLD)]
    assert list(mailbox.sealed()) == [first]
    assert fed(mailbox, CutSealed(mark=MARK, cutoff=CUT)) == [Mark(MARK), Stop(first), Unseal(first), SendAway(second)]
    assert (first.cutoff, first.sealed, first.recorded) == (CUT, False, True)


def test_a_cut_that_was_recorded_replaces_a_stop_by_a_person() -> None:
    mailbox, (first,) = with_running("1")

    fed(mailbox, Cancelled(turn_id="1", cutoff=STOPPED), Seal(request=1))
    assert first.cutoff is STOPPED
    fed(mailbox, Cancelled(turn_id="1", cutoff=STOPPED), CutSealed(mark=MARK, cutoff=CUT))

    assert first.cutoff is CUT


def test_an_end_that_is_on_its_way_to_disk_is_neither_sealed_nor_cut() -> None:
    mailbox, (first,) = with_running("1")
    first.ending()

    assert fed(mailbox, Seal(request=1), CutSealed(mark=MARK, cutoff=CUT)) == []
    assert fed(mailbox, Cancelled(turn_id="1", cutoff=STOPPED)) == []
    assert (first.sealed, first.cutoff) == (False, None)


def test_a_command_is_not_sealed_and_one_that_waits_at_the_cut_is_not_done() -> None:
    mailbox: Mailbox[Item] = Mailbox()
    runs, waits = command("1"), command("2")
    fed(mailbox, Arrived(item=runs), Arrived(item=waits), Seal(request=1))

    assert list(mailbox.sealed()) == []
    assert fed(mailbox, CutSealed(mark=MARK, cutoff=CUT)) == [Leave(waits, None)]
    assert fed(mailbox, Gone(turn_id="1"), DrainOver()) == []


@pytest.mark.parametrize("ends", ["no cut", "drain over"])
def test_a_sealed_turn_ends_by_itself_where_no_cut_comes(ends: str) -> None:
    mailbox, (first,) = with_running("1")
    fed(mailbox, DrainBegan(told=TOLD), Seal(request=1))

    if ends == "no cut":
        assert fed(mailbox, CutSealed(mark=MARK, cutoff=None)) == [Mark(MARK), Unseal(first)]
    else:
        assert fed(mailbox, DrainOver()) == [Unseal(first), Tell(first, None)]

    assert (first.sealed, first.recorded, first.cutoff) == (False, False, None)


# -- the restart after a fallback ---------------------------------------------------------------------------------


def test_mail_waits_for_the_decision_on_the_actor() -> None:
    mailbox, (_, second) = with_running("1", "2")

    assert fed(mailbox, FellBack(), Gone(turn_id="1")) == []
    assert fed(mailbox, Released()) == [Begin(second)]


def test_a_drain_and_a_fallback_bolt_the_gate_each_for_itself() -> None:
    mailbox, (_, second) = with_running("1", "2")
    fed(mailbox, FellBack(), DrainBegan(told=TOLD), Gone(turn_id="1"))

    assert fed(mailbox, Released()) == []
    assert mailbox.gate is Gate.PAUSED
    fed(mailbox, FellBack())
    assert Begin(second) not in fed(mailbox, DrainOver())
    assert fed(mailbox, Released()) == [Begin(second)]


def test_what_is_cut_does_not_wait_for_the_decision_on_its_actor() -> None:
    mailbox, _ = with_running("1")
    fed(mailbox, FellBack(), Gone(turn_id="1"))
    item = turn("2")
    fed(mailbox, Arrived(item=item), Stored(turn_id="2"), DrainBegan(told=TOLD), Seal(request=1))

    assert fed(mailbox, CutSealed(mark=MARK, cutoff=CUT)) == [Mark(MARK), Unseal(item), Begin(item)]


# -- the end of a session -----------------------------------------------------------------------------------------


def test_a_stop_cuts_what_runs_and_leaves_what_waits() -> None:
    mailbox, (first, second) = with_running("1", "2")
    waiting = command("3")
    fed(mailbox, Arrived(item=waiting))

    assert fed(mailbox, Closed(cutoff=CUT, waiting="leave")) == [Stop(first), Leave(second, None), Leave(waiting, None)]
    assert list(mailbox.items) == ["1"]


@pytest.mark.parametrize(("waiting", "begins"), [("spare", [True]), ("cut", [False, True])])
def test_an_eviction_spares_turns_that_wait_and_a_deletion_cuts_all(
    waiting: Literal["spare", "cut"], begins: list[bool]
) -> None:
    mailbox, (first, second) = with_running("1", "2")
    last = command("3")
    fed(mailbox, Arrived(item=last))

    actions = fed(mailbox, Closed(cutoff=STOPPED, waiting=waiting, why=evicted_error()))

    assert (Leave(second, evicted_error()) in actions) is (waiting == "spare")
    assert Stop(first) in actions
    began: list[Item] = []
    while mailbox.running is not None:
        began += [
            action.item for action in fed(mailbox, Gone(turn_id=mailbox.running.turn_id)) if isinstance(action, Begin)
        ]
    assert [item is last for item in began] == begins
    assert all(item.cutoff is STOPPED for item in began)


def test_a_turn_that_is_left_before_it_is_stored_stays_until_that_is_over() -> None:
    mailbox, _ = with_running("1")
    item = turn("2", queued=True)
    fed(mailbox, Arrived(item=item))

    assert Leave(item, None) in fed(mailbox, Closed(cutoff=CUT, waiting="leave"))
    fed(mailbox, Gone(turn_id="1"))
    assert list(mailbox.items) == ["2"]
    assert fed(mailbox, Stored(turn_id="2")) == []
    assert not mailbox.items
    assert item.stage is Stage.WAITING, "it is on disk"


def test_what_comes_to_a_closed_mailbox_shares_the_fate_of_what_was_in_it() -> None:
    mailbox: Mailbox[Item] = Mailbox()
    fed(mailbox, Closed(cutoff=CUT, waiting="leave"), FellBack(), DrainBegan(told=TOLD))
    late, waiting = turn("1"), turn("2", queued=True)

    assert fed(mailbox, Arrived(item=late), Arrived(item=waiting)) == [Begin(late), Leave(waiting, None)]
    assert late.cutoff is CUT
