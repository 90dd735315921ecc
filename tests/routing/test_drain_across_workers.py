"""A drain as callers see it whose session lives on another worker."""

from __future__ import annotations

import asyncio
import time

import pytest
from fakes.cluster import Cluster, ended, heard
from fakes.sessions import until

from hermes_actors.wire.messages import Cut, Drain, Seal
from workers.turns import Ended, GatewayDraining, Parked, Refusal


def drain(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        order = Drain(number=1, reason="restart_timeout", then="restart", deadline=time.time() + 60.0, asker=None)
        node.bench.sessions.draining.begin(order)


def drain_over(cluster: Cluster) -> None:
    for node in cluster.nodes.values():
        node.bench.sessions.draining.over()


async def test_a_stream_hears_of_the_drain_and_goes_on(cluster: Cluster) -> None:
    cluster.nodes[1].bench.model.gate.clear()
    turn = await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=True)
    await cluster.nodes[1].bench.model.until_asked(1)

    drain(cluster)
    cluster.nodes[1].bench.model.gate.set()

    events = await heard(turn)
    assert [type(event).__name__ for event in events] == ["GatewayDraining", "Delta", "Ended"]


async def test_a_refusal_tells_when_to_come_back(cluster: Cluster) -> None:
    drain(cluster)

    with pytest.raises(Refusal) as refusal:
        await cluster.nodes[0].router.submit(cluster.message("hi", cluster.key_on(1)), stream=True)

    assert refusal.value.code == "gateway_draining"
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s > 60.0


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_message_is_parked_at_its_owner_and_its_result_fetched_from_anywhere(
    cluster: Cluster, owner: int
) -> None:
    drain(cluster)
    first, second = (cluster.message("later", cluster.key_on(owner), park=True, idempotency_key="k") for _ in range(2))

    for sent in (first, second):
        with pytest.raises(Parked) as parked:
            await cluster.nodes[0].router.submit(sent, stream=True)
        assert parked.value.turn_id == first.turn_id
        assert parked.value.retry_after_s > 60.0

    waiting = await cluster.nodes[1].router.submit(
        cluster.message("later", cluster.key_on(owner), idempotency_key="k"), stream=False
    )
    drain_over(cluster)
    assert (await ended(waiting)).text == "re: later"
    assert len(cluster.nodes[owner].bench.model.requests) == 1


async def test_the_caller_of_a_waiting_turn_is_sent_away_at_the_cut_and_its_turn_stays(cluster: Cluster) -> None:
    node = cluster.nodes[1]
    node.bench.model.gate.clear()
    key = cluster.key_on(1)
    running = await cluster.nodes[0].router.submit(cluster.message("one", key), stream=False)
    await node.bench.model.until_asked(1)
    waiting = await cluster.nodes[0].router.submit(cluster.message("two", key), stream=False)
    drain(cluster)

    node.bench.sessions.seal(Seal(request=1))
    node.bench.sessions.draining.cut(Cut(reason="restart_timeout", at=0.0))

    assert [(await ended(turn)).state for turn in (running, waiting)] == ["interrupted", "interrupted"]
    (caller,) = node.server._callers
    await until(lambda: not caller._turns)
    node.bench.model.gate.set()
    drain_over(cluster)
    await until(lambda: node.bench.sessions.turns_ended == 2)
    assert [request[-1]["content"] for request in node.bench.model.requests] == ["one", "two"]


async def test_who_waits_when_its_owner_dies_is_told_that_its_turn_is_kept_where_the_next_one_is_held(
    cluster: Cluster,
) -> None:
    key = cluster.key_on(1)
    cluster.nodes[1].bench.model.gate.clear()
    running = await cluster.nodes[0].router.submit(cluster.message("one", key), stream=False)
    await cluster.nodes[1].bench.model.until_asked(1)
    waiting = await cluster.nodes[0].router.submit(cluster.message("two", key), stream=False)
    await cluster.kill(1)
    successor = await cluster.start(1)
    order = Drain(number=1, reason="restart_timeout", then="restart", deadline=time.time() - 1.0, asker=None)
    successor.bench.sessions.draining.begin(order)
    cluster.tell_table()
    await cluster.open_shards(1)

    told = [(await ended(turn)).error for turn in (running, waiting)]

    assert all(error is not None for error in told)
    assert "does not run again" in str(told[0])
    assert "is kept and runs once" in str(told[1])


async def test_who_heard_only_of_the_drain_hears_all_of_the_turn_from_the_next_owner(cluster: Cluster) -> None:
    key = cluster.key_on(1)
    cluster.nodes[1].bench.model.gate.clear()
    await cluster.nodes[0].router.submit(cluster.message("one", key), stream=True)
    await cluster.nodes[1].bench.model.until_asked(1)
    turn = await cluster.nodes[0].router.submit(cluster.message("two", key), stream=True)
    turn.hear(GatewayDraining(reason="restart_timeout", deadline=0.0, text=""))

    await cluster.kill(1)
    await cluster.replace(1)

    events = await heard(turn)
    assert [type(event).__name__ for event in events] == ["GatewayDraining", "Delta", "Ended"]


async def test_a_caller_who_waits_is_not_sent_away_as_parked_when_its_owner_dies_in_a_drain(cluster: Cluster) -> None:
    key = cluster.key_on(1)
    cluster.nodes[1].bench.model.gate.clear()
    await cluster.nodes[0].router.submit(cluster.message("one", key), stream=False)
    await cluster.nodes[1].bench.model.until_asked(1)
    sent = cluster.message("two", key, park=True, idempotency_key="k")
    turn = await cluster.nodes[0].router.submit(sent, stream=False)  # before the drain: it waits
    await cluster.kill(1)
    successor = await cluster.start(1)
    order = Drain(number=1, reason="restart_timeout", then="restart", deadline=time.time() + 60.0, asker=None)
    successor.bench.sessions.draining.begin(order)
    cluster.tell_table()
    await cluster.open_shards(1)
    ending = asyncio.ensure_future(ended(turn))
    await until(lambda: successor.bench.sessions.pending == 1)

    successor.bench.sessions.draining.over()

    end = await ending
    assert isinstance(end, Ended)
    assert end.text == "re: two"
