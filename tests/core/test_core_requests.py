"""What workers and operators ask."""

from __future__ import annotations

import pytest
from fakes.core_desk import messages, of, reply, serving, shown

from hermes_actors.core import effects as fx
from hermes_actors.core.events import Said, SessionsFound
from hermes_actors.core.sessions.records import PAGE_MOST
from hermes_actors.core.state import Process, ReplyTo, SessionEntry
from hermes_actors.operations.requests import ShowSession
from hermes_actors.wire import messages as wire
from hermes_actors.wire.refusals import RefusalCode

ENTRY = SessionEntry(key="api:a:x", session_id="ses_1", principal="a", shard=5, created_at=1.0, last_active_at=2.0)


def wanted(shard: int, fence: int, *, slot: int = 0, create: bool = True) -> Said:
    return Said(
        process=Process(slot, 1),
        message=wire.Activate(request=7, key="api:a:x", principal="a", shard=shard, fence=fence, create=create),
    )


def test_the_owner_of_a_shard_may_activate_its_sessions() -> None:
    desk = serving()
    desk.records.made_only = True

    (made,) = messages(wire.Activated, desk.tell(wanted(0, 101)))
    (again,) = messages(wire.Activated, desk.tell(wanted(0, 101, create=False)))

    assert (made.request, made.strikes, made.resume) == (7, 0, None)
    assert again == made


def test_a_session_that_is_not_to_be_made_is_not_found() -> None:
    desk = serving()
    desk.records.made_only = True

    (refused,) = messages(wire.Refused, desk.tell(wanted(0, 101, create=False)))

    assert refused.code == "not_found"


def test_what_cannot_be_written_is_refused_and_what_is_only_read_is_answered() -> None:
    desk = serving()
    desk.disk(full=True)

    assert messages(wire.Activated, desk.tell(wanted(0, 101)))
    desk.records.made_only = True
    (refused,) = messages(wire.Refused, desk.tell(wanted(0, 101)))
    assert (refused.code, refused.request) == ("store_failed", 7)


@pytest.mark.parametrize(
    ("shard", "fence", "why"), [(0, 100, "older fence"), (0, 102, "made up"), (5, 101, "another's"), (99, 101, "none")]
)
def test_whoever_does_not_own_a_shard_is_refused(shard: int, fence: int, why: str) -> None:
    desk = serving()

    (refused,) = messages(wire.Refused, desk.tell(wanted(shard, fence)))

    assert refused.code == "stale_fence", why
    for kind in (wire.Forget, wire.Reset):
        (refused,) = messages(wire.Refused, desk.say(0, kind(request=8, key="api:a:x", shard=shard, fence=fence)))
        assert refused.request == 8


def test_the_owner_of_a_shard_may_give_its_sessions_fresh_transcripts() -> None:
    reset = wire.Reset(request=8, key="api:a:x", shard=0, fence=101)

    desk = serving()
    (answer,) = messages(wire.Activated, desk.say(0, reset))

    assert answer.session_id != "ses_api:a:x"
    assert [incident.what for incident in desk.records.history] == ["reset"]


def test_a_page_is_never_larger_than_the_most() -> None:
    desk = serving()
    asked: list[int] = []
    page = desk.records.page
    desk.records.page = lambda principal, after, limit: (asked.append(limit), page(principal, after, limit))[1]  # type: ignore[method-assign,func-returns-value]  # it notes what is asked

    desk.say(0, wire.ListSessions(request=1, principal="a", after=None, limit=10**9))

    assert asked == [PAGE_MOST]


def test_the_status_names_every_worker_and_its_shards() -> None:
    desk = serving()
    desk.beat(0)
    desk.die(1)
    desk.now += 2

    (effect,) = of(fx.Reply, desk.operator("status"))

    first, second = shown(effect)["workers"]
    assert (first["state"], first["shards"], first["heartbeat_age_s"], first["running"]) == (
        "ready",
        [0, 1, 2, 3],
        2,
        1,
    )
    assert (second["state"], second["restarts"], second["last_exit"], second["pid"]) == ("starting", 1, -9, None)
    assert shown(effect)["phase"] == "serving"
    assert shown(effect)["shards"]["total"] == 8


def test_sessions_are_listed_with_their_owners() -> None:
    desk = serving()

    desk.records.add(ENTRY)

    answer = reply(desk.operator("sessions.list", limit=5, after="abc"))

    assert ([line["key"] for line in answer.data["sessions"]], answer.data["next"]) == ([ENTRY.key], "abc")


def found(*entries: SessionEntry) -> SessionsFound:
    return SessionsFound(reply_to=ReplyTo(3, 9), operation=ShowSession(session="x"), found=entries)


def test_a_session_that_is_not_there_is_not_found() -> None:
    assert reply(serving().tell(found())).error == "not_found"


def test_a_name_that_may_mean_several_sessions_lists_five_of_them() -> None:
    entries = [
        SessionEntry(key=f"api:{n}:x", session_id="s", principal="a", shard=0, created_at=0, last_active_at=0)
        for n in range(6)
    ]

    answer = reply(serving().tell(found(*entries)))

    assert answer.error == RefusalCode.AMBIGUOUS
    assert "api:4:x, …" in answer.why
    assert "api:5:x" not in answer.why
