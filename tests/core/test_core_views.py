"""Sessions as operators see them."""

from __future__ import annotations

from dataclasses import replace

from hermes_actors.core.operators.views import session_line, session_shown
from hermes_actors.core.sessions import marks
from hermes_actors.core.state import ActorRecord, Owner, SessionEntry
from hermes_actors.operations.plain import to_plain
from hermes_actors.operations.results import ActorShown
from hermes_actors.operations.workers import SessionKnown

ENTRY = SessionEntry(key="api:a:x", session_id="ses_1", principal="a", shard=1, created_at=1.0, last_active_at=2.0)
OWNERS = (Owner(0, 7), Owner(1, 7))
CUT = replace(ENTRY, marks=marks.cut(ENTRY.marks, "crash", "turn_1", 5.0))
SUSPENDED = replace(ENTRY, marks=marks.stuck(CUT.marks, "crash", 6.0))


def test_a_line_tells_marks_and_strikes() -> None:
    plain, cut, suspended = (to_plain(session_line(entry, OWNERS, (1,), 2)) for entry in (ENTRY, CUT, SUSPENDED))

    told = [(line["suspended"], line["resume_pending"], line["resume_reason"]) for line in (plain, cut, suspended)]
    assert told == [(False, False, None), (False, True, "crash"), (True, False, None)]
    assert (plain["strikes"], plain["worker"], plain["state"]) == (2, 1, "available")


def test_what_the_worker_does_not_know_does_not_hide_what_the_registry_does() -> None:
    known = SessionKnown(state="idle", session_id=None, turns={"completed": 2}, mcp=())

    shown = session_shown(ENTRY, OWNERS, (1,), 0, known)

    assert (shown.state, shown.turns, shown.session_id) == ("idle", {"completed": 2}, "ses_1")
    assert shown.actor == ActorShown(generation=1, restarts=0, last_restart_reason=None, last_restart_at=None)


def test_what_there_is_not_is_left_out_of_a_session() -> None:
    shown = to_plain(session_shown(ENTRY, OWNERS, (1,), 0, None))

    assert shown.keys().isdisjoint({"model", "summary"})
    assert (shown["mcp"], shown["turns"], shown["marks"]["reason"]) == ([], {}, None)


def test_a_session_tells_why_and_how_often_its_actor_was_restarted() -> None:
    shown = session_shown(replace(ENTRY, actor=ActorRecord(3, 2, "why", 5.0, "turn_1")), OWNERS, (), 0, None)

    assert shown.state == "unavailable"
    assert shown.actor == ActorShown(generation=3, restarts=2, last_restart_reason="why", last_restart_at=5.0)


def test_a_suspended_session_tells_since_when_why_and_which_turn_was_cut() -> None:
    assert to_plain(session_shown(SUSPENDED, OWNERS, (), 0, None))["marks"] == {
        "standing": "suspended",
        "reason": "crash",
        "at": 6.0,
        "turn_id": "turn_1",
        "former_id": None,
    }
