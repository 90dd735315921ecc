"""What the registry makes of shard files, on a real registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.marking import Marking, add

from hermes_actors.home import Home
from hermes_actors.records.rebuilding import Rebuilding
from hermes_actors.records.registry import Registry
from hermes_actors.supervisor.recorder import open_ledger
from hermes_actors.wire.records import Flaw, Found, LatestTurn

KEY = "api:a:x"
SHARD = 3


def opened(home: Home) -> Registry:
    registry = Registry.open(home, shards=8, usual_shards=8, durability="process")
    registry.history.begin_life("boot", 1.0)
    return registry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    home = Home(tmp_path)
    home.make()
    with closing(opened(home)) as registry:
        yield registry


def rebuilding(registry: Registry) -> Rebuilding:
    return Rebuilding(registry, lambda: 3, lambda: 50.0)


def seen(fence: int, turn: int = 0, flaw: Flaw | None = None, found_by: int | None = None) -> Found:
    found_by = fence + 1 if found_by is None else found_by
    return Found(fence, turn, until=40.0, flaw=flaw, why="a reason", set_aside=None, found_by=found_by)


def latest(session_id: str = "ses_2", number: int = 1, cut_by: str | None = None) -> LatestTurn:
    return LatestTurn(number, "turn_1", KEY, "a", session_id, 10.0, 20.0, cut_by)


def test_a_shard_that_is_opened_again_as_it_was_lost_nothing(registry: Registry) -> None:
    desk = rebuilding(registry)

    assert desk.opened(SHARD, registry.floor + 1, seen(0, flaw="new")) == (0, None)
    registry.losses.reached({SHARD: 7})
    assert desk.opened(SHARD, registry.floor + 2, seen(registry.floor + 1, turn=9)) == (7, None)
    assert (registry.behind, registry.losses.latest(9)) == (None, ())


def test_an_owner_that_is_killed_before_it_knows_that_its_file_was_noted_leaves_no_loss(registry: Registry) -> None:
    desk = rebuilding(registry)
    owner = registry.floor + 1
    desk.opened(SHARD, owner, seen(0, flaw="new", found_by=owner))

    assert desk.opened(SHARD, owner + 1, seen(owner, flaw="new", found_by=owner)) == (0, None)
    assert registry.losses.latest(9) == ()


def test_the_file_of_a_shard_that_was_never_used_is_not_missed(registry: Registry) -> None:
    desk = rebuilding(registry)
    desk.opened(SHARD, registry.floor + 1, seen(0, flaw="new"))

    assert desk.opened(SHARD, registry.floor + 2, seen(0, flaw="new", found_by=registry.floor + 2)) == (0, None)


@pytest.mark.parametrize("sign", ["a session", "a turn", "a registry that was lost"])
def test_the_file_of_a_shard_that_was_used_is_missed(registry: Registry, sign: str) -> None:
    desk = rebuilding(registry)
    desk.opened(SHARD, registry.floor + 1, seen(0, flaw="new"))
    if sign == "a session":
        add(registry, KEY, "a", SHARD, 1.0)
    elif sign == "a turn":
        registry.losses.reached({SHARD: 1})
    else:
        registry.losses.forget_openings()

    found = desk.opened(SHARD, registry.floor + 2, seen(0, flaw="new", found_by=registry.floor + 2))

    assert found == (0, "a reason")


def test_a_loss_whose_finder_is_killed_is_noted_once(registry: Registry) -> None:
    desk = rebuilding(registry)
    owner = registry.floor + 1
    desk.opened(SHARD, owner, seen(0, flaw="new", found_by=owner))

    for fence in (owner + 1, owner + 2, owner + 3):
        desk.opened(SHARD, fence, seen(fence - 1, flaw="damaged", found_by=owner + 1))

    assert len(registry.losses.latest(9)) == 1


def test_an_opening_that_was_not_recorded_before_is_no_sign_of_an_older_registry(registry: Registry) -> None:
    desk = rebuilding(registry)

    desk.opened(SHARD, registry.floor + 2, seen(registry.floor + 1))

    assert registry.behind is None


def test_a_file_with_a_fence_that_the_registry_never_gave_shows_that_the_registry_is_older(registry: Registry) -> None:
    registry._database._connection.execute("UPDATE shards SET fence = 5")
    desk = rebuilding(registry)

    desk.opened(SHARD, registry.floor + 1, seen(6))

    assert registry.behind is not None


def test_a_session_that_is_not_known_is_put_back_with_the_mark_of_its_cut_and_its_person_is_told(
    registry: Registry,
) -> None:
    desk = rebuilding(registry)
    desk.opened(SHARD, registry.floor + 1, seen(0, turn=1))

    assert desk.attested(SHARD, [latest(cut_by="restart_timeout")]) is None

    entry = registry.session(KEY)
    assert entry is not None
    assert (entry.session_id, entry.principal, entry.shard) == ("ses_2", "a", SHARD)
    assert (entry.marks.standing, entry.marks.reason, entry.marks.turn_id) == (
        "resume_pending",
        "restart_timeout",
        "turn_1",
    )
    loss = registry.losses.untold(entry)
    assert loss is not None
    assert (loss.what, loss.sessions) == ("names", 1)
    assert [incident.what for incident in registry.history.of(KEY)] == ["found"]
    registry.write(replace(entry, told=registry.losses.last(), refound=0))
    told = registry.session(KEY)
    assert told is not None
    assert registry.losses.untold(told) is None


def test_a_registry_that_does_not_know_what_it_had_to_know_asks_for_all(registry: Registry) -> None:
    desk = rebuilding(registry)
    desk.opened(SHARD, registry.floor + 1, seen(0))
    registry.losses.reached({SHARD: 5})
    desk.opened(SHARD, registry.floor + 2, seen(registry.floor + 1, turn=5))

    assert desk.attested(SHARD, [latest(number=4)]) == 0


def test_a_session_that_began_after_a_loss_is_not_told_of_it(registry: Registry, tmp_path: Path) -> None:
    old = add(registry, "api:a:old", "a", SHARD, 1.0)
    desk = rebuilding(registry)
    desk.opened(SHARD, registry.floor + 1, seen(0))
    desk.opened(SHARD, registry.floor + 2, seen(0, flaw="new"))

    with closing(Marking(registry, open_ledger(tmp_path / "ledger.json"))) as marking:
        marking.activated(replace(old, key="api:a:new"))

    new = registry.session("api:a:new")
    assert new is not None
    assert registry.losses.untold(new) is None
    assert registry.losses.untold(old) is not None


def test_what_is_rolled_back_is_noticed_again(registry: Registry) -> None:
    desk = rebuilding(registry)
    registry.commit()
    desk.opened(SHARD, registry.floor + 1, seen(0, turn=1))
    desk.attested(SHARD, [latest()])
    registry.rollback()

    assert (registry.behind, registry.session(KEY)) == (None, None)
    desk.attested(SHARD, [latest()])
    (loss,) = registry.losses.latest(9)
    assert loss.n == registry.behind
