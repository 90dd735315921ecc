"""What workers and operators ask."""

from __future__ import annotations

import pytest
from fakes.core_desk import of, reply, serving, shown

from hermes_actors.core import effects as fx
from hermes_actors.core.events import PageWanted, RenameWanted, SessionDropped, SessionsFound, SessionWanted
from hermes_actors.core.operators.requests import PAGE_MOST
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.requests import ShowSession
from hermes_actors.wire.refusals import RefusalCode


def wanted(shard: int, fence: int, *, slot: int = 0, create: bool = True) -> SessionWanted:
    return SessionWanted(
        slot=slot, generation=1, request=7, key="api:a:x", principal="a", shard=shard, fence=fence, create=create
    )


def test_the_owner_of_a_shard_may_activate_its_sessions() -> None:
    (effect,) = serving().tell(wanted(0, 101))

    assert isinstance(effect, fx.ActivateSession)
    assert (effect.slot, effect.generation, effect.request, effect.key) == (0, 1, 7, "api:a:x")


@pytest.mark.parametrize(
    ("shard", "fence", "why"), [(0, 100, "older fence"), (0, 102, "made up"), (5, 101, "another's"), (99, 101, "none")]
)
def test_whoever_does_not_own_a_shard_is_refused(shard: int, fence: int, why: str) -> None:
    desk = serving()

    (effect,) = desk.tell(wanted(shard, fence))

    assert isinstance(effect, fx.SendRefused), why
    assert effect.code == "stale_fence"
    for event in (SessionDropped, RenameWanted):
        (effect,) = desk.tell(event(slot=0, generation=1, request=8, key="api:a:x", shard=shard, fence=fence))
        assert isinstance(effect, fx.SendRefused)
        assert effect.request == 8


def test_the_owner_of_a_shard_may_give_its_sessions_fresh_transcripts() -> None:
    (effect,) = serving().tell(RenameWanted(slot=0, generation=1, request=8, key="api:a:x", shard=0, fence=101))

    assert effect == fx.RenameSession(slot=0, generation=1, request=8, key="api:a:x")


def test_a_page_is_never_larger_than_the_most() -> None:
    (effect,) = serving().tell(
        PageWanted(slot=0, generation=1, request=1, principal="a", after=None, limit=10**9),
    )

    assert isinstance(effect, fx.PageForWorker)
    assert effect.limit == PAGE_MOST


def test_the_status_names_every_worker_and_its_shards() -> None:
    desk = serving()
    desk.beat(0)
    desk.die(1)
    desk.now += 2

    (effect,) = of(fx.ReplyStatus, desk.operator("status"))

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

    (effect,) = desk.operator("sessions.list", limit=5, after="abc")

    assert effect == fx.PageForOperator(client=3, request=9, after="abc", limit=5, owners=desk.state.owners, up=(0, 1))


def found(*entries: SessionEntry) -> SessionsFound:
    return SessionsFound(client=3, request=9, operation=ShowSession(session="x"), found=entries)


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
