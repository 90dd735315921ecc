"""Turns whose commit failed: what their callers were told becomes true as soon as the store works again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.sessions import Bench, bounded, end_of, tool_reply

from workers.sessions.owned_shard import OwnedShard
from workers.sessions.recovery import recover
from workers.turns import Ended, Refusal

KEY = "api:default:a"


async def broken_once(bench: Bench, operation: str) -> Ended:
    """The end of a turn during which this failed; the store works again."""
    bench.store.broken = {operation}
    ended = await bench.talk("one")
    bench.store.broken = set()
    return ended


async def two_of_which_the_second_cannot_begin(bench: Bench) -> Ended:
    """The end of the second; it was sent with the Idempotency-Key "k"."""
    bench.model.gate.clear()
    first, second = await bench.send("one"), await bench.send("two", idempotency_key="k")
    bench.store.broken = {"begin"}
    bench.model.gate.set()
    await end_of(first)
    ended = await end_of(second)
    bench.store.broken = set()
    return ended


def states(bench: Bench) -> list[str]:
    return [row.state for row in bench.store.rows.values()]


@pytest.mark.parametrize("operation", ["finish completed", "append"])
async def test_an_end_that_could_not_be_stored_is_stored_before_the_next_turn(bench: Bench, operation: str) -> None:
    bench.model.script = [tool_reply("x")] if operation == "append" else []
    failed = await broken_once(bench, operation)
    assert (failed.state, states(bench)) == ("failed", ["running"])

    second = await bench.send("two")
    await end_of(second)

    assert states(bench) == ["failed", "completed"]
    assert bench.store.rows[failed.turn_id].ended == failed
    journal = bench.store.journal
    assert journal.index(("finish failed", failed.turn_id)) < journal.index(("finish completed", second.turn_id))


async def test_a_turn_that_could_not_begin_has_failed_for_everybody_who_asks(bench: Bench) -> None:
    failed = await two_of_which_the_second_cannot_begin(bench)

    again = await bench.talk(bench.message("two", idempotency_key="k"))
    await bench.talk("three")
    later = await bench.talk(bench.message("two", idempotency_key="k"))

    assert failed.error is not None
    assert [end.error for end in (again, later)] == [failed.error, failed.error]
    assert (again.replayed, later.replayed) == (True, True)
    assert states(bench) == ["completed", "failed", "completed"]
    assert len(bench.model.requests) == 2


async def test_a_turn_that_could_not_begin_is_not_run_by_the_next_owner(bench: Bench) -> None:
    await two_of_which_the_second_cannot_begin(bench)

    await bench.shard.store_unstored()
    next_owner = OwnedShard(number=0, fence=2, store=bench.store.reopened())
    await recover(next_owner, bench.sessions.backlog, bench.registry)

    assert states(bench) == ["completed", "failed"]
    assert not bench.sessions.backlog


async def test_no_turn_goes_on_while_an_end_before_it_cannot_be_stored(bench: Bench) -> None:
    await broken_once(bench, "finish completed")
    bench.store.broken = {"finish failed"}

    second = await bench.talk("two")
    bench.store.broken = set()
    third = await bench.talk("three")

    assert (second.state, third.state) == ("failed", "completed")
    assert len(bench.model.requests) == 2
    assert states(bench) == ["failed", "failed", "completed"]


async def test_a_session_that_is_read_anew_has_its_failed_turn(bench: Bench) -> None:
    failed = await broken_once(bench, "finish completed")
    await bench.sessions.evict(KEY)

    await bench.talk("two")

    assert next(past.turn_id for past in await bench.store.transcript("ses_0")) == failed.turn_id
    assert [row["content"] for row in bench.model.requests[-1]] == ["one", "two"]


async def test_a_session_with_an_end_that_cannot_be_stored_takes_no_message_after_its_sleep(bench: Bench) -> None:
    await broken_once(bench, "finish completed")
    bench.store.broken = {"finish failed"}
    await bench.sessions.evict(KEY)

    with pytest.raises(Refusal) as refused:
        await bench.send("two")

    assert refused.value.code == "store_failed"


async def test_a_turn_that_could_not_be_stored_can_be_sent_again_with_retry(bench: Bench) -> None:
    await bench.talk("zero")
    await broken_once(bench, "finish completed")

    again = await bench.talk("/retry")

    assert again.text == "re: one"
    assert [row["content"] for row in bench.model.requests[-1]] == ["zero", "re: zero", "one"]


async def test_a_deleted_session_owes_no_end(bench: Bench) -> None:
    await broken_once(bench, "finish completed")

    await bounded(bench.sessions.delete(KEY, bench.shard))
    second = await bench.talk("two")

    assert second.state == "completed"
    assert states(bench) == ["completed"]


async def test_the_next_owner_takes_only_the_last_of_several_running_turns_for_cut(bench: Bench) -> None:
    turns = [bench.message(text) for text in ("one", "two")]
    for turn in turns:
        await bench.store.admit(turn, "ses_0", "running")

    await recover(bench.shard, bench.sessions.backlog, bench.registry)

    assert states(bench) == ["failed", "interrupted"]
    assert bench.registry.recoveries == [(0, [(KEY, turns[1].turn_id)], [])]


async def test_a_command_that_was_cut_beside_a_turn_leaves_the_turn_its_strike(bench: Bench) -> None:
    turn, command = bench.message("one"), bench.message("/restart", idempotency_key="k")
    await bench.store.admit(turn, "ses_0", "running")
    await bench.store.admit(replace(command, stateless=True), "", "running")

    await recover(bench.shard, bench.sessions.backlog, bench.registry)

    assert states(bench) == ["interrupted", "interrupted"]
    assert bench.registry.recoveries == [(0, [(KEY, turn.turn_id)], [])]


async def test_a_model_that_could_not_be_stored_is_not_chosen(bench: Bench) -> None:
    await bench.talk("one")
    bench.store.broken = {"choose_model"}

    told = await bench.talk("/model other")
    bench.store.broken = set()
    await bench.talk("two")

    assert told.error is not None
    assert told.error["code"] == "store_failed"
    assert bench.model.asked_for == [None, None]
