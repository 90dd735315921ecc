"""A session begins with a copy of another one, wherever the two are."""

from __future__ import annotations

import asyncio

import pytest
from fakes.cluster import SHARDS, Cluster, ended
from fakes.sessions import BOUND_S, until
from fakes.virtual_time import step

from hermes_actors.wire.records import Lost
from hermes_actors.wire.sharding import shard_of
from workers.sessions import copying
from workers.sessions.marks import Marks
from workers.store.shard import Summary
from workers.turns import Delta, Ended, Refusal, Submission

ME = "default"
PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]  # owners of the session and of its copy, seen from worker 0


async def say(cluster: Cluster, key: str, text: str) -> Submission:
    """A turn of a session, from its beginning to its end."""
    router = cluster.nodes[0].router
    sent = cluster.message(text, key, turn_id=router.new_turn_id(key))
    await ended(await router.submit(sent, stream=False))
    return sent


def keys(cluster: Cluster, owners: tuple[int, int]) -> tuple[str, str]:
    return cluster.key_on(owners[0], "api:default:s"), cluster.key_on(owners[1], "api:default:copy")


async def rows(cluster: Cluster, key: str) -> list[tuple[str, str]]:
    """Ids of turns, and what was said in them."""
    page = await cluster.nodes[0].router.session_messages(key, 0, 100)
    return [(row["turn_id"], row["message"]["content"]) for row in page["messages"]]


async def transcript(cluster: Cluster, key: str) -> list[str]:
    return [text for _, text in await rows(cluster, key)]


def said(*texts: str) -> list[str]:
    return [row for text in texts for row in (text, f"re: {text}")]


@pytest.mark.parametrize("owners", PLACES)
async def test_a_copied_turn_is_over_as_the_one_that_it_is_a_copy_of(cluster: Cluster, owners: tuple[int, int]) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, owners)
    sent = await say(cluster, key, "one")
    await router.fork_session(key, into, ME, None)
    copied, _ = (await rows(cluster, into))[0]

    view = await router.describe_turn(ME, copied)
    async with asyncio.timeout(BOUND_S):
        events = [numbered.event async for numbered in await router.attach(ME, copied, 0)]

    assert copied != sent.turn_id
    assert view.ended is not None
    assert (view.state, view.key, view.ended.text) == ("completed", into, "re: one")
    assert events[0] == Delta(text="re: one")
    assert isinstance(events[-1], Ended)
    assert (events[-1].state, events[-1].text) == ("completed", "re: one")


@pytest.mark.parametrize("owners", PLACES)
async def test_the_same_copy_again_changes_nothing(cluster: Cluster, owners: tuple[int, int]) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, owners)
    first = await say(cluster, key, "one")
    sent = await say(cluster, key, "two")
    await asyncio.gather(*(router.fork_session(key, into, ME, sent.turn_id) for _ in range(3)))
    await say(cluster, into, "other")

    await router.fork_session(key, into, ME, sent.turn_id)
    with pytest.raises(Refusal) as another:
        await router.fork_session(key, into, ME, first.turn_id)

    assert await transcript(cluster, into) == said("one", "two", "other")
    assert another.value.code == "session_exists"


async def test_a_turn_that_runs_is_not_copied(cluster: Cluster) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, (1, 0))
    await say(cluster, key, "one")
    model = cluster.nodes[1].bench.model
    model.gate.clear()
    running = cluster.message("two", key, turn_id=router.new_turn_id(key))
    turn = await router.submit(running, stream=False)
    await model.until_asked(2)

    await router.fork_session(key, into, ME, None)
    with pytest.raises(Refusal) as refused:
        await router.fork_session(key, f"{into}2", ME, running.turn_id)
    model.gate.set()

    assert refused.value.code == "turn_not_found"
    assert await transcript(cluster, into) == said("one")
    assert (await ended(turn)).state == "completed"


async def test_a_transcript_that_is_too_large_is_not_copied(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, (0, 1))
    first = await say(cluster, key, "one")
    await say(cluster, key, "two" * 100)
    monkeypatch.setattr(copying, "MAX_COPIED_BYTES", 300)

    with pytest.raises(Refusal) as refused:
        await router.fork_session(key, into, ME, None)
    await router.fork_session(key, into, ME, first.turn_id)

    assert refused.value.code == "message_too_large"
    assert await transcript(cluster, into) == said("one")


async def test_a_copy_whose_owner_is_killed_is_made_once(cluster: Cluster) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, (0, 1))
    await say(cluster, key, "one")
    store = cluster.stores[shard_of(into, SHARDS)]
    store.gates["plant"] = asyncio.Event()  # its commit is on disk, and the answer does not come
    copying_it = asyncio.create_task(router.fork_session(key, into, ME, None))
    await until(lambda: any(operation == "plant" for operation, _ in store.journal))

    await cluster.kill(1)
    await cluster.replace(1)
    await copying_it

    assert await transcript(cluster, into) == said("one")


async def test_a_message_that_comes_meanwhile_goes_on_with_the_copy(cluster: Cluster) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, (0, 0))
    await say(cluster, key, "one")
    store = cluster.stores[shard_of(into, SHARDS)]
    gate = store.gates["plant"] = asyncio.Event()
    copying_it = asyncio.create_task(router.fork_session(key, into, ME, None))
    await until(lambda: any(operation == "plant" for operation, _ in store.journal))

    saying = asyncio.create_task(say(cluster, into, "other"))
    await step()
    gate.set()
    await copying_it
    await saying

    request = cluster.nodes[0].bench.model.requests[-1]
    assert [message["content"] for message in request] == ["one", "re: one", "other"]


async def test_a_copy_goes_on_with_the_summary_and_without_the_marks(cluster: Cluster) -> None:
    router, (key, into) = cluster.nodes[0].router, keys(cluster, (0, 1))
    first = await say(cluster, key, "one")
    await say(cluster, key, "two")
    summary = Summary(through=first.turn_id, turns=1, text="They counted.", made_at=1.0)
    store = cluster.stores[shard_of(key, SHARDS)]
    await store.summarise(cluster.registry.sessions[key], summary)
    cluster.registry.marks[key] = Marks(lost=Lost("end", 1.0, None), strikes=1)

    await router.fork_session(key, into, ME, None)
    await say(cluster, into, "three")

    request = [message["content"] for message in cluster.nodes[1].bench.model.requests[-1]]
    assert "They counted." in request[0]
    assert request[1:] == ["two", "re: two", "three"]
    assert into not in cluster.registry.marks
