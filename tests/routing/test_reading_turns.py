"""A turn can be read again and stopped by its id at any worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from fakes.cluster import SHARDS, Cluster, Node, ended
from fakes.sessions import BOUND_S, text_reply, tool_reply, until

from hermes_actors.wire.sharding import shard_of
from workers.gateway import TurnReading
from workers.turns import Delta, Ended, NumberedEvent, Refusal, Submission, ToolProgress

ME = "default"
OF_AN_EARLIER_RELEASE = "turn_1dda11d1986259caf7dcdb98"


def sent_to(cluster: Cluster, owner: int, text: str = "hi", **fields: Any) -> Submission:
    """A message whose turn's id names the shard, as the gateway makes it."""
    key = cluster.key_on(owner)
    return cluster.message(text, key, **({"turn_id": cluster.nodes[0].router.new_turn_id(key)} | fields))


async def at_rest(node: Node, sent: Submission) -> None:
    """Until the turn's feed is no longer in memory."""
    async with asyncio.timeout(BOUND_S):
        await node.bench.sessions._resident[sent.key].quiet.wait()


async def read(turn: TurnReading) -> list[NumberedEvent]:
    async with asyncio.timeout(BOUND_S):
        return [numbered async for numbered in turn]


def shape(events: list[NumberedEvent]) -> list[tuple[int, type]]:
    return [(numbered.seq, type(numbered.event)) for numbered in events]


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_that_runs_is_read_from_its_beginning_to_its_end(cluster: Cluster, owner: int) -> None:
    model, router = cluster.nodes[owner].bench.model, cluster.nodes[0].router
    model.script = [tool_reply("one"), text_reply("two")]
    model.gate.clear()
    sent = sent_to(cluster, owner)
    await router.submit(sent, stream=False)
    await model.until_asked(1)

    turn = await router.attach(ME, sent.turn_id, 0)
    model.gate.set()

    events = await read(turn)
    assert turn.turn_id == sent.turn_id
    assert [seq for seq, _ in shape(events)] == sorted(seq for seq, _ in shape(events))
    assert shape(events)[-2:] == [(3, Delta), (4, Ended)]


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_that_is_over_is_read_from_its_transcript(cluster: Cluster, owner: int) -> None:
    cluster.nodes[owner].bench.model.script = [tool_reply("one"), text_reply("two")]
    router, sent = cluster.nodes[0].router, sent_to(cluster, owner)
    end = await ended(await router.submit(sent, stream=False))
    await at_rest(cluster.nodes[owner], sent)

    events = await read(await router.attach(ME, sent.turn_id, 0))
    rest = await read(await router.attach(ME, sent.turn_id, 2))
    only_the_end = await read(await router.attach(ME, sent.turn_id, 100))

    assert shape(events)[-4:] == [(1, ToolProgress), (2, ToolProgress), (3, Delta), (4, Ended)]
    assert rest == events[-2:]
    assert only_the_end == events[-1:]
    assert events[-1].event == end
    assert events[-2].event == Delta(text="two")


async def test_a_turn_is_read_after_its_owner_was_killed_and_replaced(cluster: Cluster) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, 1)
    await ended(await router.submit(sent, stream=False))
    await cluster.kill(1)
    await cluster.replace(1)

    events = await read(await router.attach(ME, sent.turn_id, 0))

    assert [numbered.event for numbered in events[:-1]] == [Delta(text="re: hi")]


async def test_a_reader_whose_turns_owner_is_killed_hears_its_end_from_the_next(cluster: Cluster) -> None:
    cluster.nodes[1].bench.model.gate.clear()
    router, sent = cluster.nodes[0].router, sent_to(cluster, 1)
    await router.submit(sent, stream=False)
    turn = await router.attach(ME, sent.turn_id, 0)
    await cluster.nodes[1].bench.model.until_asked(1)

    await cluster.kill(1)
    await cluster.replace(1)

    (last,) = [numbered.event for numbered in await read(turn) if isinstance(numbered.event, Ended)]
    assert (last.turn_id, last.state) == (sent.turn_id, "interrupted")


async def test_a_reader_whose_link_is_lost_reads_on(cluster: Cluster) -> None:
    owner, router, sent = cluster.nodes[1], cluster.nodes[0].router, sent_to(cluster, 1)
    owner.bench.model.gate.clear()
    await router.submit(sent, stream=False)
    turn = await router.attach(ME, sent.turn_id, 0)
    await owner.bench.model.until_asked(1)

    owner.break_links()
    await until(lambda: len(router._background) > 0)
    owner.bench.model.gate.set()

    events = await read(turn)
    assert isinstance(events[-1].event, Ended)
    assert events[-1].event.state == "completed"


async def test_a_reader_who_leaves_is_told_to_the_owner(cluster: Cluster) -> None:
    owner, router, sent = cluster.nodes[1], cluster.nodes[0].router, sent_to(cluster, 1)
    owner.bench.model.gate.clear()
    await router.submit(sent, stream=False)
    turn = await router.attach(ME, sent.turn_id, 0)
    feed = owner.bench.sessions._resident[sent.key].mailbox.items[sent.turn_id].feed
    assert len(feed._listeners) == 2

    turn.abandon()

    await until(lambda: len(feed._listeners) == 1)
    assert await read(turn) == []


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_with_an_id_of_an_earlier_release_is_found(cluster: Cluster, owner: int) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, owner, turn_id=OF_AN_EARLIER_RELEASE)
    await ended(await router.submit(sent, stream=False))

    events = await read(await router.attach(ME, OF_AN_EARLIER_RELEASE, 0))

    assert events[0].event == Delta(text="re: hi")
    assert not await router.stop(ME, OF_AN_EARLIER_RELEASE)


@pytest.mark.parametrize("turn_id", [f"turn_0_{24 * '0'}", f"turn_1_{24 * '0'}", "turn_1", OF_AN_EARLIER_RELEASE])
async def test_a_turn_that_does_not_exist_is_not_found(cluster: Cluster, turn_id: str) -> None:
    router = cluster.nodes[0].router

    for asked in (router.attach(ME, turn_id, 0), router.stop(ME, turn_id), router.describe_turn(ME, turn_id)):
        with pytest.raises(Refusal) as refused:
            await asked
        assert refused.value.code == "turn_not_found"


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_of_another_principal_does_not_exist(cluster: Cluster, owner: int) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, owner)
    await ended(await router.submit(sent, stream=False))

    turn_id = sent.turn_id
    for asked in (router.attach("eve", turn_id, 0), router.stop("eve", turn_id), router.describe_turn("eve", turn_id)):
        with pytest.raises(Refusal) as refused:
            await asked
        assert refused.value.code == "turn_not_found"


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_is_stopped_by_its_id(cluster: Cluster, owner: int) -> None:
    bench, router, sent = cluster.nodes[owner].bench, cluster.nodes[0].router, sent_to(cluster, owner)
    bench.model.gate.clear()
    turn = await router.submit(sent, stream=False)
    await bench.model.until_asked(1)

    assert await router.stop(ME, sent.turn_id)

    assert (await ended(turn)).state == "cancelled"
    await at_rest(cluster.nodes[owner], sent)
    assert not await router.stop(ME, sent.turn_id)


@pytest.mark.parametrize("owner", [0, 1])
async def test_how_a_turn_is_can_be_asked_at_any_worker(cluster: Cluster, owner: int) -> None:
    bench, router, sent = cluster.nodes[owner].bench, cluster.nodes[0].router, sent_to(cluster, owner)
    bench.model.gate.clear()
    turn = await router.submit(sent, stream=False)

    running = await router.describe_turn(ME, sent.turn_id)
    bench.model.gate.set()
    end = await ended(turn)
    over = await router.describe_turn(ME, sent.turn_id)

    assert (running.state, running.ended, running.key) == ("running", None, sent.key)
    assert (over.state, over.ended) == ("completed", end)
    assert over.created_at == running.created_at


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_turn_that_the_disk_cannot_give_is_refused(cluster: Cluster, owner: int) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, owner)
    await ended(await router.submit(sent, stream=False))
    cluster.stores[shard_of(sent.key, SHARDS)].broken = {"past_turn"}
    await at_rest(cluster.nodes[owner], sent)

    with pytest.raises(Refusal) as refused:
        await router.attach(ME, sent.turn_id, 0)

    assert refused.value.code == "store_failed"


async def test_a_turn_whose_owner_has_no_successor_in_time_is_unavailable(cluster: Cluster) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, 1)
    await ended(await router.submit(sent, stream=False))
    router._owner_wait_s = 0.05
    await cluster.kill(1)

    with pytest.raises(Refusal) as refused:
        await router.attach(ME, replace(sent).turn_id, 0)

    assert refused.value.code == "shard_unavailable"


# -- responses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_response_is_kept_at_its_owner_and_read_and_dropped_from_any_worker(
    cluster: Cluster, owner: int
) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, owner, response={"metadata": {}})
    other = sent_to(cluster, owner)
    for submission in (sent, other):
        await ended(await router.submit(submission, stream=False))

    kept = await router.response(ME, sent.turn_id)
    await router.drop_response(ME, sent.turn_id)

    assert (kept.turn.turn_id, kept.turn.state, kept.asked) == (sent.turn_id, "completed", {"metadata": {}})
    assert kept.messages == sent.messages
    for turn_id in (sent.turn_id, other.turn_id):
        for asked in (router.response(ME, turn_id), router.drop_response(ME, turn_id)):
            with pytest.raises(Refusal) as refused:
                await asked
            assert refused.value.code == "turn_not_found"


@pytest.mark.parametrize("owner", [0, 1])
async def test_a_conversation_is_read_up_to_a_turn_that_is_not_its_last(cluster: Cluster, owner: int) -> None:
    router, first = cluster.nodes[0].router, sent_to(cluster, owner, "one")
    second = replace(first, turn_id=router.new_turn_id(first.key), messages=[b'{"role":"user","content":"two"}'])
    for submission in (first, second):
        await ended(await router.submit(submission, stream=False))

    branch = await router.history(ME, first.turn_id)
    last = await router.history(ME, second.turn_id)

    assert (branch.is_last, last.is_last) == (False, True)
    assert branch.rows[: len(first.messages)] == first.messages
    assert not any(b"two" in row for row in branch.rows)
    assert last.rows == []


async def test_the_last_turn_before_a_reset_is_not_the_last_of_its_session(cluster: Cluster) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, 0)
    await ended(await router.submit(sent, stream=False))
    reset = replace(sent, turn_id=router.new_turn_id(sent.key), messages=[b'{"role":"user","content":"/reset"}'])
    await ended(await router.submit(reset, stream=False))

    assert not (await router.history(ME, sent.turn_id)).is_last


# -- sessions that begin as another one -------------------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "into"), [(0, 0), (0, 1), (1, 0)])
async def test_a_session_begins_as_another_one_which_stays_as_it_is(cluster: Cluster, owner: int, into: int) -> None:
    router, first = cluster.nodes[0].router, sent_to(cluster, owner, "one")
    second = replace(first, turn_id=router.new_turn_id(first.key), messages=[b'{"role":"user","content":"two"}'])
    for submission in (first, second):
        await ended(await router.submit(submission, stream=False))
    key = cluster.key_on(into, "api:default:copy")

    await router.fork_session(first.key, key, ME, first.turn_id)
    go_on = replace(first, key=key, turn_id=router.new_turn_id(key), messages=[b'{"role":"user","content":"three"}'])
    await ended(await router.submit(go_on, stream=False))

    asked = cluster.nodes[into].bench.model.requests[-1]
    assert [message["content"] for message in asked] == ["one", "re: one", "three"]
    assert len((await router.session_messages(first.key, 0, 10))["messages"]) == 4


async def test_a_session_that_has_turns_is_not_begun_again(cluster: Cluster) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, 1)
    await ended(await router.submit(sent, stream=False))

    for begun in (router.create_session(sent.key, ME, None), router.fork_session(sent.key, sent.key, ME, None)):
        with pytest.raises(Refusal) as refused:
            await begun
        assert refused.value.code == "session_exists"


async def test_a_session_is_made_before_its_first_message(cluster: Cluster) -> None:
    router, key = cluster.nodes[0].router, cluster.key_on(1)

    made = await router.create_session(key, ME, None)
    again = await router.create_session(key, ME, None)

    assert (made["key"], made["state"]) == (key, "passivated")
    assert again == made


async def test_a_session_that_does_not_exist_or_has_no_such_turn_is_not_copied(cluster: Cluster) -> None:
    router, sent = cluster.nodes[0].router, sent_to(cluster, 1)
    await ended(await router.submit(sent, stream=False))
    nothing, into = cluster.key_on(0), cluster.key_on(1, "api:default:copy")

    for copied, code in (
        (router.fork_session(nothing, into, ME, None), "session_not_found"),
        (router.fork_session(sent.key, into, ME, "turn_0_other"), "turn_not_found"),
    ):
        with pytest.raises(Refusal) as refused:
            await copied
        assert refused.value.code == code
