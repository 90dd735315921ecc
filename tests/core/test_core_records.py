"""Cut and answered turns, as workers tell of them; marks and strikes, as operators change them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.core_desk import SHARDS, Desk, of, reply, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import RestoreWanted, SessionsFound, ShardBroke, ShardRecovered, TurnSucceeded
from hermes_actors.core.sessions import marks
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.requests import OnSession, read
from hermes_actors.operations.workers import EvictSession, StopRunning
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode

ENTRY = SessionEntry(key="api:a:x", session_id="ses_1", principal="a", shard=5, created_at=1.0, last_active_at=2.0)
SUSPENDED = replace(ENTRY, marks=marks.suspend(ENTRY.marks, 3.0))


def recovered(desk: Desk, shard: int, *, cut: tuple[CutTurn, ...] = (), queued: tuple[str, ...] = ()) -> ShardRecovered:
    slot, fence = desk.state.owners[shard]
    return ShardRecovered(
        slot=slot, generation=desk.generation(slot), request=1, shard=shard, fence=fence, cut=cut, queued=queued
    )


def started() -> Desk:
    """No shard was heard yet."""
    desk = serving()
    desk.state = replace(desk.state, unheard=frozenset(range(SHARDS)))
    return desk


# -- recovery ----------------------------------------------------------------------------------------------------------


def test_what_a_crash_cut_is_recorded_before_the_worker_goes_on() -> None:
    desk = serving()
    turn = CutTurn("api:a:x", "turn_1")

    (record,) = desk.tell(recovered(desk, 5, cut=(turn,)))

    assert record == fx.RecordRecovered(slot=1, generation=1, request=1, shard=5, shards=SHARDS, cuts=(turn,))


def test_who_does_not_own_the_shard_is_refused() -> None:
    desk = serving()

    (refused,) = desk.tell(replace(recovered(desk, 5), fence=1))

    assert isinstance(refused, fx.SendRefused)
    assert refused.code == "stale_fence"


def test_idle_sessions_lose_their_strikes_once_every_shard_was_heard() -> None:
    desk = started()
    settled = []
    for shard in range(SHARDS):
        queued = (f"api:a:{shard}",) if shard < 2 else ()
        settled += of(fx.SettleStart, desk.tell(recovered(desk, shard, cut=(CutTurn("k", "t"),), queued=queued)))

    assert settled == [fx.SettleStart(busy=frozenset({"k", "api:a:0", "api:a:1"}), unread=frozenset(), shards=SHARDS)]
    assert of(fx.SettleStart, desk.tell(recovered(desk, 0))) == [], "a later recovery is no start"


def test_a_shard_that_cannot_be_read_does_not_hold_up_the_others_and_spares_its_own() -> None:
    desk = started()
    for shard in range(1, SHARDS):
        desk.tell(recovered(desk, shard))
    owner = desk.state.owners[0].slot
    broke = ShardBroke(slot=owner, generation=1, shard=0, why="disk", set_aside=None, serving=False)

    (settle,) = of(fx.SettleStart, desk.tell(broke))

    assert settle.unread == {0}


def test_what_is_of_a_damaged_shard_is_spared_at_a_start_though_it_serves_anew() -> None:
    desk = started()
    owner = desk.state.owners[0].slot
    desk.tell(ShardBroke(slot=owner, generation=1, shard=0, why="torn", set_aside="/aside", serving=True))

    effects = [effect for shard in range(SHARDS) for effect in desk.tell(recovered(desk, shard))]

    (settle,) = of(fx.SettleStart, effects)
    assert settle.unread == {0}
    assert desk.state.broken[0].set_aside == "/aside", "it stays to be told"


def test_a_shard_that_opens_after_all_is_broken_no_more() -> None:
    desk = serving()
    owner = desk.state.owners[0].slot
    desk.tell(ShardBroke(slot=owner, generation=1, shard=0, why="disk", set_aside=None, serving=False))
    assert set(desk.state.broken) == {0}

    desk.tell(recovered(desk, 0))

    assert desk.state.broken == {}


def test_nothing_is_settled_while_a_shard_is_unheard() -> None:
    desk = started()

    effects = [effect for shard in range(SHARDS - 1) for effect in desk.tell(recovered(desk, shard))]

    assert of(fx.SettleStart, effects) == []


# -- success and restore -----------------------------------------------------------------------------------------------


def test_a_success_is_recorded_for_the_owner() -> None:
    desk = serving()
    slot, fence = desk.state.owners[5]
    told = TurnSucceeded(slot=slot, generation=1, request=4, key="api:a:x", shard=5, fence=fence, turn_id="turn_2")

    assert desk.tell(told) == (fx.RecordSucceeded(slot=slot, generation=1, request=4, key="api:a:x", turn_id="turn_2"),)


def test_a_session_gets_its_earlier_transcript_back_through_its_owner() -> None:
    desk = serving()
    slot, fence = desk.state.owners[5]
    wanted = RestoreWanted(slot=slot, generation=1, request=4, key="api:a:x", shard=5, fence=fence)

    assert desk.tell(wanted) == (fx.RestoreSession(slot=slot, generation=1, request=4, key="api:a:x"),)


# -- operators ---------------------------------------------------------------------------------------------------------


def found(operation: str, entry: SessionEntry = ENTRY) -> SessionsFound:
    wanted = read(operation, {"session": "x"})
    assert isinstance(wanted, OnSession)
    return SessionsFound(client=3, request=9, operation=wanted, found=(entry,))


@pytest.mark.parametrize(
    ("operation", "entry"),
    [("sessions.suspend", ENTRY), ("sessions.reset", ENTRY), ("sessions.resume", SUSPENDED)],
)
def test_a_change_is_recorded_before_its_worker_lets_go_and_answered_after(operation: str, entry: SessionEntry) -> None:
    desk = serving()

    (change,) = desk.tell(found(operation, entry))

    assert isinstance(change, fx.ChangeSession)
    assert (change.key, change.change.name) == ("api:a:x", operation)
    query = change.then
    assert query is not None
    assert (query.operation, query.to) == (EvictSession(key="api:a:x"), ((1, 1),))
    (answer,) = of(fx.ReplySession, desk.answer(1, query.request, {}))
    assert (answer.client, answer.request) == (3, 9)


def test_a_change_of_a_session_without_a_worker_is_answered_at_once() -> None:
    desk = serving()
    desk.die(1)

    effects = desk.tell(found("sessions.suspend"))

    assert [type(effect) for effect in effects] == [fx.ChangeSession, fx.ReplySession]


def test_a_session_with_nothing_to_resume_is_left_alone() -> None:
    desk = serving()

    answer = reply(desk.tell(found("sessions.resume")))

    assert answer.error == RefusalCode.NOT_SUSPENDED
    assert "api:a:x" in answer.why


def test_a_turn_is_stopped_by_its_worker() -> None:
    desk = serving()
    (query,) = of(fx.SendQuery, desk.tell(found("sessions.stop")))

    answer = reply(desk.answer(1, query.request, {"count": 1}))

    assert query.operation == StopRunning(key="api:a:x")
    assert answer.data == {"stopped": True, "missing": []}


@pytest.mark.parametrize("session", [None, "api:a:x"])
def test_strikes_are_cleared_of_one_session_or_of_all(session: str | None) -> None:
    assert serving().operator("ledger.clear", session=session) == (fx.ClearStrikes(client=3, request=9, key=session),)


def test_a_worker_in_a_chain_of_young_deaths_begins_nothing_by_itself() -> None:
    desk = serving()
    resumes = []
    for _ in range(3):
        desk.die(0)
        desk.wait(3.0)
        resumes += [effect.auto_resume for effect in of(fx.SendConfigure, desk.spawned(0))]

    assert resumes == [True, True, False]
