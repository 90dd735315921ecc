"""The shards of a worker on real files: opened under their fence, settled, let go, and broken ones left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import MethodType
from typing import Any

import orjson
import pytest
from fakes.sessions import BOUND_S, Bench, FakeRegistry, end_of
from fakes.virtual_time import until_idle

from hermes_actors.config.model import SessionsConfig
from hermes_actors.wire.messages import ShardBroken
from workers.routing.shards import ShardFiles, ShardTable
from workers.runtimes.transcript import OUTCOME_UNKNOWN
from workers.sessions import recovery
from workers.sessions.owned_shard import OwnedShard
from workers.store.journal import Journal
from workers.store.shard import ShardStore, StoreFailed
from workers.store.sqlite import SqliteShard

KEY = "api:default:a"
ASKED = {"role": "assistant", "content": None, "tool_calls": [{"id": "call-1", "type": "function", "function": {}}]}


class Owner:
    """A worker's part: its table, its files, its sessions."""

    def __init__(self, directory: Path, registry: FakeRegistry) -> None:
        self.bench = Bench(SessionsConfig(), registry=registry)
        self.table = ShardTable(0, 4)
        self.journal = Journal()
        self.broken: list[ShardBroken] = []
        self.files = ShardFiles(
            self.table,
            self.bench.sessions,
            registry,
            journal=self.journal,
            directory=directory,
            durability="process",
            report=self.broken.append,
        )

    async def own(self, shards: dict[int, int]) -> list[int]:
        """Be given these shards, with their fences; the numbers of those that were opened for it."""
        self.table.update({number: [0, fence] for number, fence in shards.items()}, {})
        async with asyncio.timeout(BOUND_S):
            opened = await self.files.follow_table()
        self.bench.shard = self.table.open.get(0, self.bench.shard)
        return sorted(shard.number for shard in opened)

    def store(self, number: int = 0) -> ShardStore:
        return self.table.open[number].store

    async def die(self) -> None:
        await self.files.close()
        await self.journal.close()


class Owners:
    """One after the other, on the same files and registry."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._registry = FakeRegistry()
        self._all: list[Owner] = []

    def next(self) -> Owner:
        self._all.append(Owner(self._directory, self._registry))
        return self._all[-1]

    async def end(self) -> None:
        for owner in self._all:
            owner.bench.model.gate.set()
            await owner.bench.sessions.close()
            await owner.die()


@pytest.fixture
async def owners(tmp_path: Path) -> AsyncIterator[Owners]:
    made = Owners(tmp_path)
    yield made
    await made.end()


async def state_of(store: ShardStore, turn_id: str) -> str:
    row = await store.turn(turn_id)
    assert row is not None
    return row.state


async def messages_of(store: ShardStore, session_id: str) -> list[dict[str, Any]]:
    return [orjson.loads(row) for past in await store.transcript(session_id) for row in past.rows]


# -- the table ----------------------------------------------------------------------------------------------------


async def test_what_is_newly_owned_is_opened_and_the_rest_stays_open(owners: Owners) -> None:
    owner = owners.next()

    assert await owner.own({0: 1, 1: 1}) == [0, 1]
    before = owner.store(0)
    assert await owner.own({0: 1, 1: 1, 2: 1}) == [2]

    assert owner.store(0) is before
    assert sorted(owner.table.open) == [0, 1, 2]


async def test_a_shard_that_comes_back_with_a_higher_fence_is_opened_anew_with_its_sessions(owners: Owners) -> None:
    owner = owners.next()
    await owner.own({0: 1})
    await owner.bench.talk("one", key=KEY)
    old = owner.store()

    assert await owner.own({0: 2}) == [0]

    with pytest.raises(StoreFailed):
        await old.unfinished()
    await owner.bench.talk("two", key=KEY)
    assert [message["content"] for message in owner.bench.model.requests[-1]] == ["one", "re: one", "two"]


async def test_a_shard_that_is_lost_is_let_go_with_what_runs_on_it(owners: Owners) -> None:
    owner, successor = owners.next(), owners.next()
    await owner.own({0: 1})
    owner.bench.model.gate.clear()
    running, waiting = await owner.bench.send("one"), await owner.bench.send("two")
    await owner.bench.model.until_asked(1)

    assert await owner.own({}) == []
    assert owner.table.open == {}
    assert {(await end_of(feed)).state for feed in (running, waiting)} == {"interrupted"}

    await successor.own({0: 2})
    assert await state_of(successor.store(), running.turn_id) == "interrupted"
    await successor.bench.sessions.resume(successor.table.open[0])
    await successor.bench.talk("three")
    assert await state_of(successor.store(), waiting.turn_id) == "completed"


async def test_who_waits_for_an_owner_is_woken_by_a_shard_that_opens(owners: Owners) -> None:
    owner = owners.next()
    waiting = asyncio.ensure_future(owner.table.change(BOUND_S))
    await until_idle()

    await owner.own({0: 1})

    await asyncio.wait_for(waiting, BOUND_S)


async def test_the_owner_of_a_shard_is_this_worker_another_or_none() -> None:
    table = ShardTable(0, 4)
    table.update({0: [0, 1], 1: [1, 1], 2: [2, 1]}, {0: "own", 1: "path"})

    assert [table.path_of_owner(number) for number in range(4)] == [None, "path", None, None]
    assert table.mine() == {0: 1}


# -- files that cannot be used ------------------------------------------------------------------------------------


async def test_a_damaged_file_is_set_aside_and_told_and_all_shards_serve(owners: Owners, tmp_path: Path) -> None:
    (tmp_path / "01.db").write_bytes(b"this is no database" * 1000)
    owner = owners.next()

    assert await owner.own({0: 1, 1: 1}) == [0, 1]

    (broken,) = owner.broken
    assert (broken.shard, broken.serving) == (1, True)
    assert broken.set_aside is not None
    assert tmp_path.joinpath(broken.set_aside).read_bytes().startswith(b"this is no database")


async def test_a_file_that_cannot_be_opened_stays_closed_while_the_others_serve_and_is_tried_again(
    owners: Owners, tmp_path: Path
) -> None:
    (tmp_path / "01.db").symlink_to("01.db")
    owner = owners.next()

    assert await owner.own({0: 1, 1: 1}) == [0]
    assert [(broken.shard, broken.serving, broken.set_aside) for broken in owner.broken] == [(1, False, None)]
    (tmp_path / "01.db").unlink()

    assert await owner.own({0: 1, 1: 1}) == [1]


async def test_an_owner_whose_time_is_over_does_not_open(owners: Owners) -> None:
    old, new = owners.next(), owners.next()
    await new.own({0: 5})

    assert await old.own({0: 4}) == []
    assert not old.broken[0].serving
    assert await new.store().unfinished() == []


async def test_a_shard_that_cannot_be_settled_is_closed_and_told_with_what_was_set_aside(
    owners: Owners, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "00.db").write_bytes(b"this is no database" * 1000)
    closed: list[ShardStore] = []
    close = SqliteShard.close

    async def failing(_: SqliteShard) -> Any:
        raise StoreFailed("the disk failed")

    async def noted(self: SqliteShard) -> None:
        closed.append(self)
        await close(self)

    monkeypatch.setattr(SqliteShard, "unfinished", failing)
    monkeypatch.setattr(SqliteShard, "close", noted)
    owner = owners.next()

    assert await owner.own({0: 1}) == []

    aside, broken = owner.broken
    assert aside.serving, "that it begins anew is told before what was left in it"
    assert (broken.serving, broken.why) == (False, "the disk failed")
    assert broken.set_aside is not None
    assert len(closed) == 1


# -- what a dead owner left ---------------------------------------------------------------------------------------


async def test_running_turns_are_interrupted_with_their_tool_calls_closed(owners: Owners) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    cut, other = dead.bench.message("cut"), dead.bench.message("other", key="api:default:b")
    await dead.store().admit(cut, "ses_a", "running")
    await dead.store().append(cut.turn_id, "ses_a", [orjson.dumps(ASKED)])
    await dead.store().admit(other, "ses_b", "running")
    await dead.die()

    await owner.own({0: 2})

    assert [await state_of(owner.store(), turn.turn_id) for turn in (cut, other)] == ["interrupted"] * 2
    last = (await messages_of(owner.store(), "ses_a"))[-1]
    assert (last["role"], last["tool_call_id"], last["content"]) == ("tool", "call-1", OUTCOME_UNKNOWN)
    assert await messages_of(owner.store(), "ses_b") == [{"role": "user", "content": "other"}]
    row = await owner.store().turn(cut.turn_id)
    assert row is not None
    assert row.ended is not None
    assert row.ended.error is not None
    assert row.ended.error["code"] == "turn_interrupted"


@pytest.mark.parametrize("leaves", ["stops", "loses the shard"])
async def test_an_end_that_could_not_be_stored_is_stored_before_the_shard_is_closed(
    owners: Owners, monkeypatch: pytest.MonkeyPatch, leaves: str
) -> None:
    first, second = owners.next(), owners.next()
    await first.own({0: 1})

    async def failing(*_: Any, **__: Any) -> None:
        raise StoreFailed("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(SqliteShard, "finish", failing)
        failed = await first.bench.talk("one", key=KEY)
    assert await state_of(first.store(), failed.turn_id) == "running"
    await (first.die() if leaves == "stops" else first.own({}))

    await second.own({0: 2})

    assert await state_of(second.store(), failed.turn_id) == failed.state == "failed"
    assert second.bench.registry.recoveries[-1] == (0, [], [])


async def test_queued_turns_are_kept_and_run_once_in_their_order(owners: Owners) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    turns = [dead.bench.message(text, key=key) for text in ("one", "two") for key in ("api:a", "api:b")]
    for turn in turns:
        await dead.store().admit(turn, f"ses_{turn.key}", "queued")
    await dead.die()

    await owner.own({0: 2})
    assert {await state_of(owner.store(), turn.turn_id) for turn in turns} == {"queued"}
    await owner.bench.sessions.resume(owner.table.open[0])
    for turn in turns:
        await owner.bench.talk(turn, again=True)

    said = [request[-1]["content"] for request in owner.bench.model.requests]
    assert sorted(said) == ["one", "one", "two", "two"]
    assert {await state_of(owner.store(), turn.turn_id) for turn in turns} == {"completed"}


async def test_stateless_turns_end_unless_somebody_may_ask_for_them(owners: Owners) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    left = dead.bench.message("left", key="conv:a", stateless=True)
    ran = dead.bench.message("ran", key="conv:b", stateless=True)
    named = dead.bench.message("named", key="conv:c", stateless=True, idempotency_key="k")
    for turn, state in ((left, "queued"), (ran, "running"), (named, "queued")):
        await dead.store().admit(turn, f"ses_{turn.key}", state)  # type: ignore[arg-type]  # a turn's state
    await dead.die()

    await owner.own({0: 2})

    states = [await state_of(owner.store(), turn.turn_id) for turn in (left, ran, named)]
    assert states == ["cancelled", "interrupted", "queued"]
    assert (await owner.bench.talk(named, again=True)).text == "re: named"


async def test_many_turns_are_settled_together(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "ENDED_TOGETHER", 40)
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    turns = [dead.bench.message(f"{n}", key=f"api:{n}") for n in range(100)]
    await asyncio.gather(*(dead.store().admit(turn, f"ses_{turn.key}", "running") for turn in turns))
    await dead.die()

    await owner.own({0: 2})

    assert await owner.store().unfinished() == []
    assert owner.journal.transactions < 50


# -- what the supervisor is told of it ----------------------------------------------------------------------------


async def test_cut_and_waiting_turns_of_sessions_are_told_before_anything_of_them_is_changed(owners: Owners) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    cut = dead.bench.message("cut", key="api:a")
    waiting = [dead.bench.message(text, key="api:b") for text in ("one", "two")]
    stateless = dead.bench.message("stateless", key="conv:a", stateless=True, idempotency_key="k")
    await dead.store().admit(cut, "ses_a", "running")
    for turn in waiting:
        await dead.store().admit(turn, "ses_b", "queued")
    await dead.store().admit(stateless, "conv_a", "running")
    await dead.die()
    told: list[int] = []
    recovered = FakeRegistry.recovered

    async def heard(self: FakeRegistry, shard: OwnedShard, *of: Any) -> None:
        told.append(len(await shard.store.unfinished()))
        await recovered(self, shard, *of)

    owner.bench.registry.recovered = MethodType(heard, owner.bench.registry)  # type: ignore[method-assign]  # the same, told
    owner.bench.registry.recoveries.clear()

    await owner.own({0: 2})

    assert told == [4]
    assert owner.bench.registry.recoveries == [(0, [("api:a", cut.turn_id)], ["api:b"])]
    assert await state_of(owner.store(), cut.turn_id) == "interrupted"


async def test_a_shard_where_nothing_was_left_is_told_too(owners: Owners) -> None:
    owner = owners.next()

    await owner.own({0: 1, 1: 1})

    assert sorted(owner.bench.registry.recoveries) == [(0, [], []), (1, [], [])]


async def test_a_shard_whose_recovery_is_not_recorded_stays_closed_and_as_it_is_until_the_next_table(
    owners: Owners,
) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    cut = dead.bench.message("cut", key=KEY)
    await dead.store().admit(cut, "ses_a", "running")
    await dead.die()
    owner.bench.registry.down = True

    assert await owner.own({0: 2}) == []

    (broken,) = owner.broken
    assert (broken.shard, broken.serving) == (0, False)
    assert "could not be recorded: The supervisor did not answer." in broken.why
    owner.bench.registry.down = False
    owner.bench.registry.recoveries.clear()
    assert await owner.own({0: 2}) == [0]
    assert owner.bench.registry.recoveries == [(0, [(KEY, cut.turn_id)], [])]


async def test_a_turn_that_a_stop_cut_without_an_order_is_told_by_the_next_owner(owners: Owners) -> None:
    stopped, owner = owners.next(), owners.next()
    await stopped.own({0: 1})
    stopped.bench.model.gate.clear()
    running, waiting = await stopped.bench.send("one", key=KEY), await stopped.bench.send("two", key=KEY)
    await stopped.bench.model.until_asked(1)

    await stopped.bench.sessions.stop("crash")
    assert (await end_of(running)).state == "interrupted"
    await stopped.die()
    await owner.own({0: 2})

    assert owner.bench.registry.recoveries[-1] == (0, [(KEY, running.turn_id)], [KEY])
    assert await state_of(owner.store(), running.turn_id) == "interrupted"
    assert await state_of(owner.store(), waiting.turn_id) == "queued"


async def test_a_turn_that_was_cut_keeps_its_session(owners: Owners) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    await dead.bench.talk("one", key=KEY)
    await dead.store().admit(dead.bench.message("cut", key=KEY), "ses_0", "running")
    await dead.die()
    await owner.own({0: 2})

    ended = await owner.bench.talk("three", key=KEY)

    assert ended.session_id == "ses_0"
    assert [message["content"] for message in owner.bench.model.requests[-1]] == ["one", "re: one", "cut", "three"]


# -- what a registry may have lost --------------------------------------------------------------------------------


async def test_the_sessions_of_turns_that_the_registry_was_not_told_of_are_named_and_all_if_it_wants_that(
    owners: Owners,
) -> None:
    dead, owner = owners.next(), owners.next()
    await dead.own({0: 1})
    for number in range(3):
        turn = dead.bench.message("hello", key=f"api:default:{number}")
        await dead.store().admit(turn, f"ses_{number}", "running")
    await dead.die()
    registry = owner.bench.registry
    registry.attested.clear()
    registry.again = [0]

    await owner.own({0: 2})

    assert [[turn.key for turn in page] for page in registry.attested] == [
        ["api:default:0", "api:default:1", "api:default:2"]
    ] * 2
    assert (registry.found[0].fence, registry.found[0].turn, registry.found[0].flaw) == (1, 3, None)


async def test_numbers_of_turns_do_not_come_again_when_the_last_ones_are_deleted(owners: Owners) -> None:
    first, second = owners.next(), owners.next()
    await first.own({0: 1})
    await first.store().admit(first.bench.message("hello"), "ses_a", "running")
    await first.store().delete(KEY)
    await first.store().admit(first.bench.message("again"), "ses_a", "running")
    assert first.files.reached() == {0: 2}
    assert first.files.reached() == {}
    await first.store().delete(KEY)
    await first.die()

    await second.own({0: 2})

    assert second.bench.registry.found[0].turn == 2


async def test_what_was_wrong_with_a_file_is_known_to_the_next_owner_where_the_first_died_before_it_told(
    owners: Owners, tmp_path: Path
) -> None:
    (tmp_path / "00.db").write_bytes(b"this is no database" * 1000)
    first, second, third = owners.next(), owners.next(), owners.next()
    registry = first.bench.registry
    registry.down = True
    assert await first.own({0: 1}) == []
    await first.die()
    registry.down = False

    assert await second.own({0: 2}) == [0]
    assert registry.found[0].flaw == "damaged"
    await second.die()
    assert await third.own({0: 3}) == [0]
    assert registry.found[0].flaw is None


async def test_what_is_no_file_is_set_aside_and_the_shard_serves(owners: Owners, tmp_path: Path) -> None:
    (tmp_path / "01.db").mkdir()
    owner = owners.next()

    assert await owner.own({0: 1, 1: 1}) == [0, 1]
    (broken,) = owner.broken
    assert (broken.shard, broken.serving, broken.why) == (1, True, "it was no file")
