"""Whichever worker is asked, the owner of the shard answers; and what becomes of that when owners come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakes.cluster import SHARDS, Cluster, ended, heard, text_of
from fakes.sessions import BOUND_S, text_reply, until
from fakes.virtual_time import until_idle

from hermes_actors.wire import frames
from hermes_actors.wire.sharding import shard_of
from workers.conversations import StatelessConversation
from workers.models.provider import ModelReply, ModelRequest
from workers.turns import Delta, Ended, Refusal, TurnUnknown

MakeCluster = Callable[[float], Awaitable[Cluster]]


def conversation(history: bytes = b"h", **fields: Any) -> StatelessConversation:
    given: dict[str, Any] = {"principal": "default", "user": "", "history": history, "idempotency_key": None}
    return StatelessConversation(**(given | fields))


# -- turns that stay and turns that travel ------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_runs_at_its_owner_and_is_heard_where_it_was_sent(cluster: Cluster, owner: int) -> None:
    sent = cluster.message("hi", cluster.key_on(owner))

    events = await heard(await cluster.nodes[0].router.submit(sent, stream=True))

    assert text_of(events) == "re: hi"
    assert isinstance(events[-1], Ended)
    assert [len(node.bench.model.requests) for node in cluster.nodes.values()] == [1 - owner, owner]


async def test_only_the_end_is_told_to_who_does_not_stream(cluster: Cluster) -> None:
    turn = await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=False)

    assert [type(event) for event in await heard(turn)] == [Ended]


async def test_a_refusal_travels_with_what_to_do(cluster: Cluster) -> None:
    cluster.registry.down = True

    with pytest.raises(Refusal) as refused:
        await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=True)

    assert (refused.value.code, refused.value.retry_after_s) == ("shard_unavailable", 1.0)


async def test_a_message_larger_than_a_frame_is_refused_where_it_must_travel(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 10_000)
    large = "x" * 10_000

    with pytest.raises(Refusal) as refused:
        await cluster.nodes[0].router.submit(cluster.message(large, cluster.key_on(1)), stream=True)
    here = await cluster.nodes[0].router.submit(cluster.message(large, cluster.key_on(0)), stream=True)

    assert refused.value.code == "message_too_large"
    assert (await ended(here)).state == "completed"
    there = await cluster.nodes[0].router.submit(cluster.message("small", cluster.key_on(1)), stream=True)
    assert (await ended(there)).state == "completed"


async def test_a_reply_larger_than_a_frame_ends_the_turn_for_its_caller_with_a_clear_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 10_000)
    cluster.nodes[1].bench.model.script = [text_reply("x" * 10_000)]

    turn = await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=False)

    end = await ended(turn)
    assert end.error is not None
    assert (end.state, end.error["code"]) == ("failed", "reply_too_large")


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_stateless_turn_is_cancelled_at_its_owner_when_its_caller_leaves(cluster: Cluster, owner: int) -> None:
    bench = cluster.nodes[owner].bench
    bench.model.gate.clear()
    key = cluster.key_on(owner, "conv:default:")
    sent = cluster.message("hi", key, stateless=True)
    turn = await cluster.nodes[0].router.submit(sent, stream=True)
    await bench.model.until_asked(1)

    turn.abandon()

    async with asyncio.timeout(BOUND_S):
        await bench.sessions._resident[key].quiet.wait()
    assert cluster.stores[shard_of(key, SHARDS)].rows[sent.turn_id].state == "cancelled"
    assert await heard(turn) == []


async def test_a_stateless_turn_whose_caller_left_before_it_was_accepted_is_cancelled(cluster: Cluster) -> None:
    bench = cluster.nodes[1].bench
    bench.model.gate.clear()
    key = cluster.key_on(1, "conv:default:")
    store = cluster.stores[shard_of(key, SHARDS)]
    answer = store.gates["admit"] = asyncio.Event()
    sent = cluster.message("hi", key, stateless=True)
    submitting = asyncio.ensure_future(cluster.nodes[0].router.submit(sent, stream=True))
    await until(lambda: bool(store.journal))

    submitting.cancel()
    await asyncio.wait((submitting,))
    answer.set()

    await until(lambda: store.rows[sent.turn_id].state == "cancelled")


# -- questions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_session_is_described_read_and_deleted_wherever_it_is(cluster: Cluster, owner: int) -> None:
    key, router = cluster.key_on(owner), cluster.nodes[0].router
    await ended(await router.submit(cluster.message("hi", key), stream=False))

    described = await router.describe_session(key)
    page = await router.session_messages(key, 0, 10)
    await router.delete_session(key)

    assert (described["key"], described["state"], described["turns"]) == (key, "idle", {"completed": 1})
    assert [row["message"]["content"] for row in page["messages"]] == ["hi", "re: hi"]
    assert page["next"] is None
    with pytest.raises(Refusal) as refused:
        await router.describe_session(key)
    assert refused.value.code == "session_not_found"


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_question_that_the_disk_cannot_answer_is_refused(cluster: Cluster, owner: int) -> None:
    key, router = cluster.key_on(owner), cluster.nodes[0].router
    await ended(await router.submit(cluster.message("hi", key), stream=False))
    cluster.stores[shard_of(key, SHARDS)].broken = {"counts", "page", "delete"}

    for asked in (router.describe_session(key), router.session_messages(key, 0, 10), router.delete_session(key)):
        with pytest.raises(Refusal) as refused:
            await asked
        assert refused.value.code == "store_failed"


async def test_a_page_larger_than_a_frame_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    key, router = cluster.key_on(1), cluster.nodes[0].router
    await ended(await router.submit(cluster.message("x" * 10_000, key), stream=False))
    monkeypatch.setattr(frames, "MAX_FRAME_BYTES", 10_000)

    with pytest.raises(Refusal) as refused:
        await router.session_messages(key, 0, 10)

    assert refused.value.code == "message_too_large"


# -- stateless conversations --------------------------------------------------------------------------------------


def histories() -> dict[int, bytes]:
    """A history whose pointer is kept by each slot."""
    found: dict[int, bytes] = {}
    for number in range(100):
        history = number.to_bytes(1, "big")
        found.setdefault(shard_of(f"default\0\0{history.hex()}", SHARDS) % 2, history)
    return found


@pytest.mark.parametrize("keeper", [0, 1])
async def test_what_one_worker_offers_another_claims_once(cluster: Cluster, keeper: int) -> None:
    one, other = cluster.nodes[0].router, cluster.nodes[1].router
    asked = conversation(histories()[keeper])
    one.offer("conv:default:known", [asked])
    await until(lambda: bool(cluster.nodes[keeper].index._pointers))

    claimed = [await other.conversation_key(asked) for _ in range(2)]

    assert claimed[0] == "conv:default:known"
    assert claimed[1] != "conv:default:known"


async def test_a_claim_does_not_wait_for_a_keeper_that_is_down(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(3600.0)
    await cluster.kill(1)
    router = cluster.nodes[0].router

    async with asyncio.timeout(BOUND_S):
        key = await router.conversation_key(conversation(histories()[1]))
        router.offer(key, [conversation(histories()[1])])

    assert key.startswith("conv:default:")


async def test_a_new_conversation_is_placed_where_it_landed(cluster: Cluster) -> None:
    for slot, node in cluster.nodes.items():
        keys = [await node.router.conversation_key(conversation(b"")) for _ in range(10)]
        assert len(set(keys)) == 10
        assert {cluster.owners[shard_of(key, SHARDS)][0] for key in keys} == {slot}


async def test_a_repeated_request_meets_the_first_wherever_it_lands(cluster: Cluster) -> None:
    asked = conversation(idempotency_key="k")

    keys = {await node.router.conversation_key(asked) for node in cluster.nodes.values()}
    others = {
        await cluster.nodes[0].router.conversation_key(other)
        for other in (conversation(idempotency_key="k", principal="bob"), conversation(idempotency_key="k", user="bob"))
    }

    assert len(keys) == 1
    assert len(keys | others) == 3


# -- owners that come and go --------------------------------------------------------------------------------------


async def test_a_request_waits_for_an_owner_that_is_away(cluster: Cluster) -> None:
    await cluster.kill(1)
    key = cluster.key_on(1)
    waiting = asyncio.ensure_future(cluster.nodes[0].router.submit(cluster.message("hi", key), stream=True))
    await until_idle()
    assert not waiting.done()

    await cluster.replace(1)

    assert (await ended(await waiting)).text == "re: hi"


async def test_a_request_is_refused_when_no_owner_comes(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(0.05)
    await cluster.kill(1)

    with pytest.raises(Refusal) as refused:
        await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=True)

    assert refused.value.code == "shard_unavailable"
    assert refused.value.retry_after_s


async def test_what_a_late_owner_was_given_and_could_not_take_in_time_is_not_begun(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "workers.routing.peers.ADMIT_TIMEOUT_S", -1.0
    )  # as an owner finds it that was stopped meanwhile
    cluster = await make_cluster(0.05)
    key = cluster.key_on(1)

    for text in ("hi", "/reset", "/stop", "/restart"):
        with pytest.raises(Refusal) as refused:
            await cluster.nodes[0].router.submit(cluster.message(text, key), stream=True)
        assert refused.value.code == "shard_unavailable"
        assert refused.value.retry_after_s

    bench = cluster.nodes[1].bench
    assert bench.model.requests == []
    assert bench.restarts_wanted == []
    assert cluster.registry.renamed == 0
    assert cluster.stores[shard_of(key, SHARDS)].rows == {}


async def test_a_turn_that_no_owner_answered_for_is_told_unknown(
    make_cluster: MakeCluster,
) -> None:
    cluster = await make_cluster(0.0)  # asked again it would say that the turn is on its way
    key = cluster.key_on(1)
    store = cluster.stores[shard_of(key, SHARDS)]
    committed = store.gates["admit"] = asyncio.Event()  # on disk, and nobody says so
    sent = cluster.message("hi", key, idempotency_key="k")

    with pytest.raises(TurnUnknown) as unknown:
        await cluster.nodes[0].router.submit(sent, stream=True)

    assert unknown.value.turn_id == sent.turn_id
    committed.set()
    repeated = cluster.message("hi", key, idempotency_key="k")
    assert (await ended(await cluster.nodes[0].router.submit(repeated, stream=True))).text == "re: hi"
    assert len(cluster.nodes[1].bench.model.requests) == 1


async def test_a_turn_whose_owner_died_before_it_answered_is_told_unknown_without_a_successor(
    make_cluster: MakeCluster,
) -> None:
    cluster = await make_cluster(0.05)
    key = cluster.key_on(1)
    store = cluster.stores[shard_of(key, SHARDS)]
    store.gates["admit"] = asyncio.Event()
    submitting = asyncio.ensure_future(cluster.nodes[0].router.submit(cluster.message("hi", key), stream=True))
    await until(lambda: bool(store.journal))

    await cluster.kill(1)

    with pytest.raises(TurnUnknown):
        await submitting
    store.gates["admit"].set()


@pytest.mark.parametrize(("broken", "expected"), [(True, TurnUnknown), (False, Refusal)])
async def test_an_owner_that_refuses_a_second_time_is_believed_where_it_could_look(
    cluster: Cluster, broken: bool, expected: type[Exception]
) -> None:
    key = cluster.key_on(1)
    number = shard_of(key, SHARDS)
    gate = cluster.stores[number].gates["admit"] = asyncio.Event()
    submitting = asyncio.ensure_future(cluster.nodes[0].router.submit(cluster.message("hi", key), stream=True))
    await until(lambda: bool(cluster.stores[number].journal))
    await cluster.kill(1)
    cluster.stores[number].rows.clear()  # it was killed before the commit
    if broken:
        cluster.stores[number].broken = {"turn"}
    successor = await cluster.start(1)
    await successor.bench.sessions.stop("restart_timeout")  # it refuses whatever begins

    cluster.tell_table()
    await cluster.open_shards(1)

    with pytest.raises(expected):
        await submitting
    gate.set()


async def test_a_request_follows_its_shard_to_another_owner(cluster: Cluster) -> None:
    key = cluster.key_on(1)
    number = shard_of(key, SHARDS)
    old = cluster.nodes[1]
    store = cluster.stores[number] = cluster.stores[number].reopened()
    await old.table.open.pop(number).store.close()
    waiting = asyncio.ensure_future(cluster.nodes[0].router.submit(cluster.message("hi", key), stream=True))
    await until_idle()
    assert not waiting.done()  # the owner that the table names has let go

    cluster.owners[number] = [0, 2]
    cluster.tell_table()
    await cluster.nodes[0].open(number, 2, store)

    assert (await ended(await waiting)).text == "re: hi"
    assert old.bench.model.requests == []


async def test_a_worker_that_is_there_again_is_reached_over_a_new_link(cluster: Cluster) -> None:
    router, key = cluster.nodes[0].router, cluster.key_on(1)
    await ended(await router.submit(cluster.message("one", key), stream=True))
    for _ in range(3):
        await cluster.kill(1)
        await cluster.replace(1)

        assert (await ended(await router.submit(cluster.message("two", key), stream=True))).text == "re: two"

    assert len(router._peers) == 1


async def test_a_turn_that_ran_when_its_owner_died_is_told_interrupted_and_not_run_again(cluster: Cluster) -> None:
    cluster.nodes[1].bench.model.gate.clear()
    sent = cluster.message("hold", cluster.key_on(1))
    turn = await cluster.nodes[0].router.submit(sent, stream=True)
    await cluster.nodes[1].bench.model.until_asked(1)

    await cluster.kill(1)
    successor = await cluster.replace(1)

    end = await ended(turn)
    assert end.error is not None
    assert (end.turn_id, end.state, end.error["code"]) == (sent.turn_id, "interrupted", "turn_interrupted")
    assert successor.bench.model.requests == []


async def test_a_turn_that_waited_when_its_owner_died_is_answered_once_as_a_stream(cluster: Cluster) -> None:
    cluster.nodes[1].bench.model.gate.clear()
    router, key = cluster.nodes[0].router, cluster.key_on(1)
    first = await router.submit(cluster.message("one", key), stream=True)
    second = await router.submit(cluster.message("two", key), stream=True)
    await cluster.nodes[1].bench.model.until_asked(1)

    await cluster.kill(1)
    successor = await cluster.replace(1)

    assert (await ended(first)).state == "interrupted"
    assert text_of(await heard(second)) == "re: two"
    assert [request[-1]["content"] for request in successor.bench.model.requests] == ["two"]


async def test_a_turn_whose_owner_has_no_successor_in_time_is_told_interrupted(make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(0.05)
    cluster.nodes[1].bench.model.gate.clear()
    turn = await cluster.nodes[0].router.submit(cluster.message("hold", cluster.key_on(1)), stream=True)

    await cluster.kill(1)

    assert (await ended(turn)).state == "interrupted"


async def test_a_turn_that_completed_while_its_link_was_lost_is_told_with_its_reply(cluster: Cluster) -> None:
    owner = cluster.nodes[1]
    owner.bench.model.gate.clear()
    turn = await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=True)
    await owner.bench.model.until_asked(1)

    owner.break_links()
    await until_idle()
    owner.bench.model.gate.set()

    events = await heard(turn)
    assert isinstance(events[-1], Ended)
    assert (events[-1].state, events[-1].text) == ("completed", "re: hi")
    assert len(owner.bench.model.requests) == 1


async def test_who_heard_a_beginning_hears_no_second_one(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = cluster.nodes[1]
    goes_on = asyncio.Event()

    async def slow(_: ModelRequest, on_text: Callable[[str], None]) -> ModelReply:
        on_text("one ")
        await goes_on.wait()
        on_text("two")
        return text_reply("one two")

    monkeypatch.setattr(owner.bench.model, "complete", slow)
    turn = await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=True)
    async with asyncio.timeout(BOUND_S):
        first = await anext(aiter(turn))
    owner.break_links()
    await until_idle()
    goes_on.set()

    rest = await heard(turn)

    assert first == Delta(text="one ")
    assert [type(event) for event in rest] == [Ended]


async def test_a_caller_who_leaves_while_its_turn_is_without_owner_leaves_it_at_the_next(cluster: Cluster) -> None:
    owner = cluster.nodes[1]
    owner.bench.model.gate.clear()
    key = cluster.key_on(1, "conv:default:")
    sent = cluster.message("hi", key, stateless=True)
    turn = await cluster.nodes[0].router.submit(sent, stream=True)
    other: list[object] = []
    feed = owner.bench.sessions._resident[key].mailbox.items[sent.turn_id].feed
    feed.listen(other.append, stream=False)  # so that the loss ends nothing yet
    await owner.bench.model.until_asked(1)

    owner.break_links()
    await until(lambda: len(cluster.nodes[0].router._background) > 0)  # it is there for some steps only
    turn.abandon()
    feed._listeners.clear()

    async with asyncio.timeout(BOUND_S):
        await owner.bench.sessions._resident[key].quiet.wait()
    assert cluster.stores[shard_of(key, SHARDS)].rows[sent.turn_id].state == "cancelled"


async def test_a_router_that_is_closed_makes_no_new_links_and_leaves_no_caller_waiting(cluster: Cluster) -> None:
    owner = cluster.nodes[1]
    owner.bench.model.gate.clear()
    router = cluster.nodes[0].router
    turn = await router.submit(cluster.message("hold", cluster.key_on(1)), stream=True)

    router.close()

    assert (await ended(turn)).state == "interrupted"
    await until(lambda: not owner.server._callers)
    assert len(router._background) == 0
