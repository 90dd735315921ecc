"""Cut and answered turns, as workers tell of them; marks and strikes, as operators change them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.core_desk import SHARDS, Desk, idle_in, kinds, marked, messages, noted, reply, requested, serving

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Said, SessionsFound
from hermes_actors.core.sessions import marks
from hermes_actors.core.state import Process, ReplyTo, SessionEntry
from hermes_actors.operations.requests import OnSession, read
from hermes_actors.operations.workers import EvictSession, StopRunning
from hermes_actors.wire import messages as wire
from hermes_actors.wire.records import CutTurn
from hermes_actors.wire.refusals import RefusalCode

ENTRY = SessionEntry(key="api:a:x", session_id="ses_1", principal="a", shard=5, created_at=1.0, last_active_at=2.0)
SUSPENDED = replace(ENTRY, marks=marks.suspend(ENTRY.marks, 3.0))


def recovered(desk: Desk, shard: int, *, cut: tuple[CutTurn, ...] = (), queued: tuple[str, ...] = ()) -> Said:
    slot, fence = desk.state.owners[shard]
    return Said(
        process=Process(slot, desk.generation(slot)),
        message=wire.Recovered(request=1, shard=shard, fence=fence, cut=list(cut), queued=list(queued)),
    )


def started() -> Desk:
    """No shard was heard yet."""
    desk = serving()
    desk.state = replace(desk.state, unheard=frozenset(range(SHARDS)))
    desk.records.present = desk.records.present._replace(started_at=desk.state.wall(desk.now))
    desk.strike_all()
    return desk


# -- recovery ----------------------------------------------------------------------------------------------------------


def test_what_a_crash_cut_is_recorded_before_the_worker_goes_on() -> None:
    desk = serving()
    turn = CutTurn("api:a:x", "turn_1")

    effects = desk.tell(recovered(desk, 5, cut=(turn,)))

    assert kinds(effects) == [fx.WriteSession, fx.WriteIncident, wire.Recorded]
    assert marked(effects) == [("api:a:x", "turn_1", "crash")]
    assert desk.state.ledger.count("api:a:x") == 1


def test_who_does_not_own_the_shard_is_refused() -> None:
    desk = serving()

    said = recovered(desk, 5)
    assert isinstance(said.message, wire.Recovered)

    (refused,) = messages(wire.Refused, desk.tell(replace(said, message=replace(said.message, fence=1))))

    assert refused.code == "stale_fence"


def test_idle_sessions_lose_their_strikes_once_every_shard_was_heard() -> None:
    desk = started()
    settled: list[float | None] = []
    for shard in range(SHARDS):
        assert desk.spared == set(range(SHARDS)), "until then"
        queued = (idle_in(shard),) if shard < 2 else ()
        settled += noted("settled_at", desk.tell(recovered(desk, shard, queued=queued)))

    assert len(settled) == 1
    assert desk.spared == {0, 1}, "a message waits for these"
    assert noted("settled_at", desk.tell(recovered(desk, 0))) == [], "a later recovery is no start"


def test_a_shard_that_cannot_be_read_does_not_hold_up_the_others_and_spares_its_own() -> None:
    desk = started()
    for shard in range(1, SHARDS):
        desk.tell(recovered(desk, shard))
    owner = desk.state.owners[0].slot
    broke = Said(
        process=Process(owner, 1), message=wire.ShardBroken(shard=0, why="disk", set_aside=None, serving=False)
    )

    assert noted("settled_at", desk.tell(broke))

    assert desk.spared == {0}


def test_what_is_of_a_damaged_shard_is_spared_at_a_start_though_it_serves_anew() -> None:
    desk = started()
    owner = desk.state.owners[0].slot
    desk.tell(
        Said(process=Process(owner, 1), message=wire.ShardBroken(shard=0, why="torn", set_aside="/aside", serving=True))
    )

    for shard in range(SHARDS):
        desk.tell(recovered(desk, shard))

    assert desk.spared == {0}
    assert desk.state.broken[0].set_aside == "/aside", "it stays to be told"


def test_a_shard_that_opens_after_all_is_broken_no_more() -> None:
    desk = serving()
    owner = desk.state.owners[0].slot
    desk.tell(
        Said(process=Process(owner, 1), message=wire.ShardBroken(shard=0, why="disk", set_aside=None, serving=False))
    )
    assert set(desk.state.broken) == {0}

    desk.tell(recovered(desk, 0))

    assert desk.state.broken == {}


def test_nothing_is_settled_while_a_shard_is_unheard() -> None:
    desk = started()

    effects = [effect for shard in range(SHARDS - 1) for effect in desk.tell(recovered(desk, shard))]

    assert noted("settled_at", effects) == []
    assert desk.spared == set(range(SHARDS))


# -- success and restore -----------------------------------------------------------------------------------------------


def test_a_success_is_recorded_for_the_owner() -> None:
    desk = serving()
    slot, fence = desk.state.owners[5]
    told = Said(
        process=Process(slot, 1),
        message=wire.Succeeded(request=4, key="api:a:x", shard=5, fence=fence, turn_id="turn_2"),
    )

    desk.tell(recovered(desk, 5, cut=(CutTurn("api:a:x", "turn_1"),)))

    assert kinds(desk.tell(told)) == [fx.WriteSession, fx.WriteIncident, wire.Recorded]
    assert desk.state.ledger.count("api:a:x") == 0
    entry = desk.records.session("api:a:x")
    assert entry is not None
    assert entry.marks.plain
    assert kinds(desk.tell(told)) == [wire.Recorded], "there is nothing more to clear"


def test_a_session_gets_its_earlier_transcript_back_through_its_owner() -> None:
    desk = serving()
    slot, fence = desk.state.owners[5]
    wanted = Said(process=Process(slot, 1), message=wire.Resume(request=4, key="api:a:x", shard=5, fence=fence))

    (refused,) = messages(wire.Refused, desk.tell(wanted))
    assert refused.code == RefusalCode.NOT_FOUND, "none was set aside"
    desk.records.add(SUSPENDED)
    (answer,) = messages(wire.Activated, desk.tell(wanted))

    assert (answer.session_id, answer.suspended) == ("ses_1", None)


# -- operators ---------------------------------------------------------------------------------------------------------


def found(operation: str, entry: SessionEntry = ENTRY) -> SessionsFound:
    wanted = read(operation, {"session": "x"})
    assert isinstance(wanted, OnSession)
    return SessionsFound(reply_to=ReplyTo(3, 9), operation=wanted, found=(entry,))


@pytest.mark.parametrize(
    ("operation", "entry"),
    [("sessions.suspend", ENTRY), ("sessions.reset", ENTRY), ("sessions.resume", SUSPENDED)],
)
def test_a_change_is_recorded_before_its_worker_lets_go_and_answered_after(operation: str, entry: SessionEntry) -> None:
    desk = serving()

    desk.records.add(entry)

    effects = desk.tell(found(operation, entry))

    assert kinds(effects) == [fx.WriteSession, fx.WriteIncident, wire.Query]
    (query,) = messages(wire.Query, effects)
    assert requested(query) == EvictSession(key="api:a:x")
    assert reply(desk.answer(1, query.request, {})).data["suspended"] == (operation == "sessions.suspend")


def test_a_change_of_a_session_without_a_worker_is_answered_at_once() -> None:
    desk = serving()
    desk.die(1)

    effects = desk.tell(found("sessions.suspend"))

    assert kinds(effects) == [fx.WriteSession, fx.WriteIncident, fx.Reply]


def test_a_session_with_nothing_to_resume_is_left_alone() -> None:
    desk = serving()

    answer = reply(desk.tell(found("sessions.resume")))

    assert answer.error == RefusalCode.NOT_SUSPENDED
    assert "api:a:x" in answer.why


def test_a_turn_is_stopped_by_its_worker() -> None:
    desk = serving()
    (query,) = messages(wire.Query, desk.tell(found("sessions.stop")))

    answer = reply(desk.answer(1, query.request, {"count": 1}))

    assert requested(query) == StopRunning(key="api:a:x")
    assert answer.data == {"stopped": True, "missing": []}


@pytest.mark.parametrize("session", [None, "api:a:x"])
def test_strikes_are_cleared_of_one_session_or_of_all(session: str | None) -> None:
    desk = serving()
    desk.tell(recovered(desk, 5, cut=(CutTurn("api:a:x", "turn_1"), CutTurn("api:a:y", "turn_2"))))

    answer = reply(desk.operator("ledger.clear", session=session))

    assert answer.data == {"cleared": ["api:a:x"] if session else ["api:a:x", "api:a:y"]}


def test_a_worker_in_a_chain_of_young_deaths_begins_nothing_by_itself() -> None:
    desk = serving()
    resumes = []
    for _ in range(3):
        desk.die(0)
        desk.wait(3.0)
        resumes += [message.auto_resume for message in messages(wire.Configure, desk.spawned(0))]

    assert resumes == [True, True, False]
