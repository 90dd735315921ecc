"""An actor is restarted after a turn that succeeded on a fallback model, once, and for no other reason."""

from __future__ import annotations

import pytest
from fakes.core_desk import Desk, kinds, sent, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Said
from hermes_actors.core.pool.policy import restart_after
from hermes_actors.core.state import NEVER_RESTARTED, ActorRecord, Process
from hermes_actors.wire import messages as wire


def fell_back(*, slot: int = 0, generation: int = 1, shard: int = 0, fence: int = 101) -> Said:
    return Said(
        process=Process(slot, generation),
        message=wire.SucceededOnFallback(
            key="api:a:x", shard=shard, fence=fence, turn_id="turn_1", provider="custom (http://spare/v1)", model="m-2"
        ),
    )


def test_the_restart_is_counted_with_its_reason_and_time() -> None:
    once = restart_after(NEVER_RESTARTED, "turn_1", "why", 5.0)

    assert once == ActorRecord(
        generation=2, restarts=1, last_restart_reason="why", last_restart_at=5.0, last_fallback_turn="turn_1"
    )


def test_a_turn_that_is_reported_twice_has_one_restart() -> None:
    once = restart_after(NEVER_RESTARTED, "turn_1", "why", 5.0)
    assert once is not None

    assert restart_after(once, "turn_1", "why", 6.0) is None
    again = restart_after(once, "turn_2", "why", 7.0)
    assert again is not None
    assert (again.generation, again.restarts) == (3, 2)


def test_the_owner_of_the_shard_has_it_recorded_before_anything_is_sent() -> None:
    desk = serving()

    effects = desk.tell(fell_back())

    assert kinds(effects) == [fx.WriteSession, fx.Log, wire.RestartActor]
    entry = desk.records.session("api:a:x")
    assert entry is not None
    assert entry.actor.last_restart_reason == "turn_1 succeeded on fallback custom (http://spare/v1)/m-2"
    assert desk.tell(fell_back()) == (), "one turn has one restart"


def test_a_stateless_conversation_has_no_row_and_its_actor_is_restarted_too() -> None:
    desk = serving()
    desk.records.made_only = True

    assert kinds(desk.tell(fell_back())) == [fx.Log, wire.RestartActor]


def test_a_restart_that_cannot_be_recorded_is_none() -> None:
    desk = serving()
    desk.disk(full=True)

    assert desk.tell(fell_back()) == ()


@pytest.mark.parametrize(
    ("shard", "fence", "why"), [(0, 100, "older fence"), (0, 102, "made up"), (5, 101, "another's"), (99, 101, "none")]
)
def test_who_does_not_own_the_shard_has_nothing_restarted(shard: int, fence: int, why: str) -> None:
    (effect,) = serving().tell(fell_back(shard=shard, fence=fence))

    assert isinstance(effect, fx.Log), why


def test_an_earlier_process_has_nothing_restarted() -> None:
    desk: Desk = serving()
    desk.die(0)
    desk.spawned(0)
    desk.ready(0)

    assert desk.tell(fell_back()) == ()
    assert desk.tell(fell_back(fence=102)) == ()
    assert sent(wire.RestartActor, desk.tell(fell_back(generation=2, fence=102)))
