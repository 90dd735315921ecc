"""An actor is restarted after a turn that succeeded on a fallback model, once, and for no other reason."""

from __future__ import annotations

import pytest
from fakes.core_desk import Desk, of, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import TurnFellBack
from hermes_actors.core.pool.policy import restart_after
from hermes_actors.core.state import NEVER_RESTARTED, ActorRecord


def fell_back(*, slot: int = 0, generation: int = 1, shard: int = 0, fence: int = 101) -> TurnFellBack:
    return TurnFellBack(
        slot=slot,
        generation=generation,
        key="api:a:x",
        shard=shard,
        fence=fence,
        turn_id="turn_1",
        provider="custom (http://spare/v1)",
        model="m-2",
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
    (effect,) = serving().tell(fell_back())

    assert effect == fx.RecordFallback(
        slot=0,
        generation=1,
        key="api:a:x",
        turn_id="turn_1",
        reason="turn_1 succeeded on fallback custom (http://spare/v1)/m-2",
    )


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
    assert of(fx.RecordFallback, desk.tell(fell_back(generation=2, fence=102)))
