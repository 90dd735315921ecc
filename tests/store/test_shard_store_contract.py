"""What holds for every shard store, whatever it is made of."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fakes.store_samples import KEY, SESSION, Clock, Reopen, ended, submission
from fakes.virtual_time import step

from workers.store.rows import IDEMPOTENCY_KEPT_S
from workers.store.shard import ShardStore, StaleFence, StoreFailed, Summary, TurnOver
from workers.turns import Address, Origin, PastTurn, TurnState

DAY_S = 24 * 3600.0


async def rows_of(store: ShardStore, session_id: str = SESSION) -> list[bytes]:
    return [row for past in await store.transcript(session_id) for row in past.rows]


async def state_of(store: ShardStore, turn_id: str) -> TurnState | None:
    row = await store.turn(turn_id)
    return row.state if row is not None else None


# -- a turn's life ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["queued", "running"])
async def test_an_admitted_turn_is_found_as_it_was_submitted(store: ShardStore, clock: Clock, state: TurnState) -> None:
    sent = submission(messages=[b"one", b"\x00\xff\xed\xa0\x80"], idempotency_key="again")

    await store.admit(sent, SESSION, state)

    row = await store.turn("turn_1")
    assert row is not None
    assert row.submission == sent
    assert (row.session_id, row.state, row.created_at, row.ended) == (SESSION, state, clock.time, None)


async def test_a_turn_keeps_where_its_message_came_from(store: ShardStore) -> None:
    reply_to = Address(channel="ops", chat="!room", thread=None)
    origin = Origin(ingress="matrix", request_id="event", user="eve", reply_to=reply_to)

    await store.admit(submission(origin=origin), SESSION, "queued")

    (row,) = await store.unfinished()
    assert row.submission.origin == origin


async def test_a_finished_turn_keeps_its_end(store: ShardStore) -> None:
    error = {"code": "provider_error", "text": "The provider said 400.", "http_status": 502, "retry_after_s": None}
    end = ended(state="failed", error=error, finish_reason="error", text="half a \ud83d")
    await store.admit(submission(), SESSION, "running")

    await store.finish(end, [b"answer"], own_fault=True)

    row = await store.turn("turn_1")
    assert row is not None
    assert (row.state, row.ended) == ("failed", end)
    assert await store.unfinished() == []


async def test_a_turns_end_has_the_calls_that_it_left_to_its_client(store: ShardStore) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    end = ended(finish_reason="tool_calls", text="", tool_calls=[call])
    await store.admit(submission(parameters={"tools": [call], "tool_choice": "required"}), SESSION, "running")

    await store.finish(end, [b"asked"])

    row = await store.turn("turn_1")
    assert row is not None
    assert row.ended == end


async def test_what_is_unknown_is_not_found(store: ShardStore) -> None:
    assert await store.turn("turn_1") is None
    assert await store.find(KEY, "again") is None
    assert await store.unfinished() == []
    assert await store.transcript(SESSION) == []
    assert await store.page(SESSION, 0, 10) == []
    assert not await store.delete(KEY)


async def test_a_queued_turn_begins_once(store: ShardStore) -> None:
    await store.admit(submission(), SESSION, "queued")
    assert await state_of(store, "turn_1") == "queued"

    await store.begin("turn_1", SESSION)
    await store.begin("turn_1", SESSION)

    assert await state_of(store, "turn_1") == "running"


async def test_a_turn_id_is_admitted_once(store: ShardStore) -> None:
    await store.admit(submission(messages=[b"first"]), SESSION, "queued")

    with pytest.raises(StoreFailed):
        await store.admit(submission(messages=[b"second"]), SESSION, "queued")

    row = await store.turn("turn_1")
    assert row is not None
    assert row.submission.messages == [b"first"]


async def test_nothing_changes_a_turn_that_is_over(store: ShardStore) -> None:
    await store.admit(submission(), SESSION, "running")
    await store.finish(ended(state="cancelled"), [b"cut"])
    before = (await store.turn("turn_1"), await store.transcript(SESSION))

    with pytest.raises(TurnOver):
        await store.finish(ended(state="completed", text="late"), [b"late"])
    with pytest.raises(TurnOver):
        await store.append("turn_1", SESSION, [b"late"])
    with pytest.raises(TurnOver):
        await store.begin("turn_1", SESSION)

    assert (await store.turn("turn_1"), await store.transcript(SESSION)) == before


async def test_a_write_for_a_turn_that_was_never_admitted_is_refused(store: ShardStore) -> None:
    for write in (
        store.begin("turn_1", SESSION),
        store.append("turn_1", SESSION, [b"x"]),
        store.finish(ended(), [b"x"]),
    ):
        with pytest.raises(TurnOver):
            await write


async def test_unfinished_turns_come_in_the_order_of_their_admission(store: ShardStore) -> None:
    for turn_id, state in (("turn_c", "running"), ("turn_a", "queued"), ("turn_b", "queued"), ("turn_d", "running")):
        await store.admit(submission(turn_id), SESSION, state)  # type: ignore[arg-type]  # they are states
    await store.finish(ended("turn_d"), [])

    assert [(row.submission.turn_id, row.state) for row in await store.unfinished()] == [
        ("turn_c", "running"),
        ("turn_a", "queued"),
        ("turn_b", "queued"),
    ]


# -- the transcript ---------------------------------------------------------------------------------------------------
async def test_the_transcript_has_the_message_the_calls_and_the_answer_in_order(
    store: ShardStore, clock: Clock
) -> None:
    await store.admit(submission(messages=[b"message"]), SESSION, "running")
    await store.append("turn_1", SESSION, [b"call"])
    await store.append("turn_1", SESSION, [b"result", b"result 2"])
    await store.finish(ended(), [b"answer"])

    rows = (b"message", b"call", b"result", b"result 2", b"answer")
    assert await store.transcript(SESSION) == [
        PastTurn(turn_id="turn_1", state="completed", own_fault=False, rows=rows, ended_at=clock.time)
    ]


async def test_a_queued_message_is_not_in_the_transcript_before_its_turn_writes(store: ShardStore) -> None:
    await store.admit(submission("turn_1", messages=[b"first"]), SESSION, "running")
    await store.admit(submission("turn_2", messages=[b"second"]), SESSION, "queued")
    assert await rows_of(store) == []

    await store.append("turn_1", SESSION, [b"call"])
    assert await rows_of(store) == [b"first", b"call"]

    await store.finish(ended("turn_1"), [b"result", b"answer"])
    await store.begin("turn_2", SESSION)
    assert await rows_of(store) == [b"first", b"call", b"result", b"answer"]

    await store.finish(ended("turn_2"), [b"answer 2"])
    assert await rows_of(store) == [b"first", b"call", b"result", b"answer", b"second", b"answer 2"]


@pytest.mark.parametrize("state", ["failed", "interrupted", "cancelled"])
async def test_the_message_of_a_turn_without_an_answer_is_in_the_transcript(store: ShardStore, state: str) -> None:
    await store.admit(submission(messages=[b"message"]), SESSION, "running")

    await store.finish(ended(state=state), [], own_fault=state == "failed")

    (past,) = await store.transcript(SESSION)
    assert (past.state, past.own_fault, past.rows) == (state, state == "failed", (b"message",))


async def test_a_conversation_is_the_last_summary_and_the_turns_behind_it(store: ShardStore, clock: Clock) -> None:
    for turn_id in ("turn_1", "turn_2", "turn_3"):
        await store.admit(submission(turn_id, messages=[turn_id.encode()]), SESSION, "running")
        await store.finish(ended(turn_id), [])
    assert (await store.conversation(SESSION)).summary is None
    await store.summarise(SESSION, Summary(through="turn_1", turns=1, text="one", made_at=clock.time))
    last = Summary(through="turn_2", turns=2, text="one and two", made_at=clock.time)

    await store.summarise(SESSION, last)

    conversation = await store.conversation(SESSION)
    assert conversation.summary == last == await store.summary(SESSION)
    assert [past.turn_id for past in conversation.past] == ["turn_3"]
    assert len(await store.transcript(SESSION)) == 3, "the transcript keeps everything"


async def test_a_summary_is_of_a_turn_of_its_transcript_and_goes_with_its_session(
    store: ShardStore, clock: Clock
) -> None:
    await store.admit(submission(), SESSION, "running")
    await store.finish(ended(), [])
    summary = Summary(through="turn_1", turns=1, text="one", made_at=clock.time)
    with pytest.raises(StoreFailed):
        await store.summarise("sess_other", summary)
    with pytest.raises(StoreFailed):
        await store.summarise(SESSION, Summary(through="turn_9", turns=9, text="?", made_at=clock.time))
    assert await store.summary(SESSION) is None

    await store.summarise(SESSION, summary)
    await store.delete(KEY)

    assert await store.summary(SESSION) is None
    assert (await store.conversation(SESSION)).past == []


async def test_a_transcript_belongs_to_one_session(store: ShardStore) -> None:
    for turn_id, session_id in (("turn_1", "sess_old"), ("turn_2", "sess_new"), ("turn_3", "sess_old")):
        await store.admit(submission(turn_id), session_id, "running")
        await store.finish(ended(turn_id, session_id=session_id), [])

    assert [past.turn_id for past in await store.transcript("sess_old")] == ["turn_1", "turn_3"]
    assert [past.turn_id for past in await store.transcript("sess_new")] == ["turn_2"]


async def test_a_turn_that_begins_is_known_in_the_transcript_it_begins_in(store: ShardStore) -> None:
    await store.admit(submission(), "sess_old", "queued")

    await store.begin("turn_1", "sess_new")

    (row,) = await store.unfinished()
    assert (row.session_id, row.state) == ("sess_new", "running")


@pytest.mark.parametrize("appends", [False, True])
async def test_a_turn_that_waited_while_its_session_was_reset_is_in_the_new_transcript(
    store: ShardStore, appends: bool
) -> None:
    await store.admit(submission(), "sess_old", "queued")

    if appends:
        await store.append("turn_1", "sess_new", [b"call"])
    await store.finish(ended(session_id="sess_new"), [b"answer"])

    assert await store.transcript("sess_old") == []
    assert [past.turn_id for past in await store.transcript("sess_new")] == ["turn_1"]
    row = await store.turn("turn_1")
    assert row is not None
    assert row.ended is not None
    assert row.session_id == row.ended.session_id == "sess_new"


async def test_the_transcript_is_paged_without_gap_or_repeat(store: ShardStore) -> None:
    for at in range(5):
        await store.admit(submission(f"turn_{at}"), SESSION, "running")
        await store.append(f"turn_{at}", SESSION, [b"call %d" % at] * at)
        await store.finish(ended(f"turn_{at}"), [b"answer %d" % at])
    seen, after = [], 0

    while page := await store.page(SESSION, after, 3):
        seen += page
        after = page[-1].seq

    assert [row.body for row in seen] == await rows_of(store)
    assert [row.seq for row in seen] == sorted({row.seq for row in seen})
    assert {row.turn_id for row in seen} == {f"turn_{at}" for at in range(5)}


async def test_a_turn_of_many_messages_keeps_their_order(store: ShardStore) -> None:
    bodies = [b"%d" % at for at in range(200)]
    await store.admit(submission(messages=bodies[:100]), SESSION, "running")

    await store.finish(ended(), bodies[100:])

    assert await rows_of(store) == bodies


# -- stateless turns --------------------------------------------------------------------------------------------------
async def test_a_stateless_turn_leaves_its_outcome_and_no_transcript(store: ShardStore) -> None:
    sent = submission(stateless=True, messages=[b"history", b"message"])
    await store.admit(sent, SESSION, "running")
    await store.append("turn_1", SESSION, [b"call"])
    row = await store.turn("turn_1")
    assert row is not None
    assert row.submission == sent

    await store.finish(ended(), [b"answer"])

    row = await store.turn("turn_1")
    assert row is not None
    assert (row.submission.messages, row.submission.fingerprint, row.ended) == ([], sent.fingerprint, ended())
    assert await store.transcript(SESSION) == []
    assert await store.page(SESSION, 0, 10) == []


async def test_a_stateless_turn_that_waits_can_be_run_by_the_next_owner(reopen: Reopen) -> None:
    sent = submission(stateless=True, messages=[b"history", b"message"])
    await (await reopen(1)).admit(sent, SESSION, "queued")

    (row,) = await (await reopen(2)).unfinished()

    assert row.submission == sent


# -- Idempotency-Key --------------------------------------------------------------------------------------------------
async def test_an_idempotency_key_names_its_turn_in_its_session_for_a_day(store: ShardStore, clock: Clock) -> None:
    await store.admit(submission(idempotency_key="again"), SESSION, "running")
    await store.finish(ended(), [])

    clock.time += DAY_S - 1
    row = await store.find(KEY, "again")
    assert row is not None
    assert row.ended == ended()
    assert await store.find("api:default:ben", "again") is None
    assert await store.find(KEY, "other") is None

    clock.time += 1
    assert await store.find(KEY, "again") is None


async def test_an_idempotency_key_may_be_used_again_after_a_day_and_not_before(store: ShardStore, clock: Clock) -> None:
    await store.admit(submission("turn_1", idempotency_key="again"), SESSION, "running")
    with pytest.raises(StoreFailed):
        await store.admit(submission("turn_2", idempotency_key="again"), SESSION, "running")

    clock.time += DAY_S
    await store.admit(submission("turn_3", idempotency_key="again"), SESSION, "running")

    row = await store.find(KEY, "again")
    assert row is not None
    assert row.submission.turn_id == "turn_3"
    assert await store.turn("turn_1") is not None
    assert await store.turn("turn_2") is None


async def test_pruning_drops_what_is_old_and_no_transcript(store: ShardStore, clock: Clock) -> None:
    await store.admit(submission("old_stateless", stateless=True, key="k1"), "s1", "running")
    await store.finish(ended("old_stateless"), [])
    await store.admit(submission("old_waiting", stateless=True, key="k2"), "s2", "queued")
    await store.admit(submission("old_named", idempotency_key="again"), SESSION, "running")
    await store.finish(ended("old_named"), [b"answer"])
    clock.time += 10.0
    await store.admit(submission("new_stateless", stateless=True, key="k3"), "s3", "running")
    await store.finish(ended("new_stateless"), [])
    transcript = await store.transcript(SESSION)

    assert await store.prune(clock.time) == 2
    assert await store.prune(clock.time) == 0

    assert await store.turn("old_stateless") is None
    assert await state_of(store, "old_waiting") == "queued"
    assert await state_of(store, "new_stateless") == "completed"
    assert await store.find(KEY, "again") is None
    assert await store.transcript(SESSION) == transcript != []


async def test_what_a_clock_admitted_that_ran_ahead_ages_from_when_it_was_set_back(
    store: ShardStore, clock: Clock
) -> None:
    right, clock.time = clock.time, clock.time + 10 * IDEMPOTENCY_KEPT_S
    await store.admit(submission("keyed", idempotency_key="again"), SESSION, "running")
    await store.admit(submission("stateless", stateless=True), SESSION, "running")
    await store.finish(ended("keyed"), [])
    await store.finish(ended("stateless"), [])

    clock.time = right
    assert await store.prune(clock.time - IDEMPOTENCY_KEPT_S) == 0
    assert await store.find(KEY, "again") is not None
    clock.time += IDEMPOTENCY_KEPT_S + 1

    assert await store.find(KEY, "again") is None
    assert await store.prune(clock.time - IDEMPOTENCY_KEPT_S) == 2


async def test_pruning_takes_many_in_several_calls(store: ShardStore, clock: Clock) -> None:
    turns = [f"turn_{at}" for at in range(700)]
    await asyncio.gather(*(store.admit(submission(t, stateless=True, messages=[]), "s", "running") for t in turns))
    await asyncio.gather(*(store.finish(ended(t), []) for t in turns))
    clock.time += 1
    dropped: list[int] = []

    while not dropped or dropped[-1]:
        dropped.append(await store.prune(clock.time))

    assert sum(dropped) == 700
    assert len(dropped) > 2
    assert sum((await store.counts(KEY)).values()) == 0


# -- a session as a whole ---------------------------------------------------------------------------------------------
async def test_a_turn_that_another_takes_the_place_of_leaves_the_transcript_and_stays_known(store: ShardStore) -> None:
    await store.admit(submission(), SESSION, "running")
    await store.finish(ended(), [b"answer"])

    await store.admit(submission("turn_2"), SESSION, "running", instead_of="turn_1")

    assert await rows_of(store) == []
    assert await state_of(store, "turn_1") == "completed"


async def test_a_turn_that_runs_is_not_taken_the_place_of(store: ShardStore) -> None:
    await store.admit(submission(), SESSION, "running")
    await store.append("turn_1", SESSION, [b"calls"])

    await store.admit(submission("turn_2"), SESSION, "running", instead_of="turn_1")

    assert len(await rows_of(store)) == 2


async def test_a_chosen_model_is_kept_until_it_is_taken_back_or_its_session_deleted(reopen: Reopen) -> None:
    store = await reopen(1)
    await store.choose_model(KEY, "big")
    await store.choose_model("api:default:bob", "small")
    store = await reopen(2)
    assert await store.chosen_model(KEY) == "big"

    await store.choose_model(KEY, None)
    await store.delete("api:default:bob")

    assert await store.chosen_model(KEY) is None
    assert await store.chosen_model("api:default:bob") is None


async def test_turns_are_counted_by_state(store: ShardStore) -> None:
    for turn_id in ("turn_1", "turn_2", "turn_3"):
        await store.admit(submission(turn_id), SESSION, "queued")
    await store.admit(submission("turn_4", key="api:default:ben"), "sess_ben", "queued")
    await store.begin("turn_1", SESSION)
    await store.finish(ended("turn_2"), [])

    counts = await store.counts(KEY)

    assert counts == {"queued": 1, "running": 1, "completed": 1, "failed": 0, "interrupted": 0, "cancelled": 0}


async def test_how_long_the_last_completed_turns_of_a_session_took_is_known(store: ShardStore, clock: Clock) -> None:
    for number, state in enumerate(["completed", "completed", "failed", "completed"]):
        turn_id = f"turn_{number}"
        await store.admit(submission(turn_id), SESSION, "queued")
        clock.time += 100.0  # it waits
        await store.begin(turn_id, SESSION)
        clock.time += number + 1.0
        await store.finish(ended(turn_id, state=state), [])
    await store.admit(submission("turn_running"), SESSION, "running")
    await store.admit(submission("turn_other", key="api:default:otto"), "sess_otto", "running")
    clock.time += 7.0
    await store.finish(ended("turn_other", session_id="sess_otto"), [])

    took = await store.durations([KEY, "api:default:otto", "api:default:nobody"], 2)

    assert took == {KEY: [4.0, 2.0], "api:default:otto": [7.0], "api:default:nobody": []}


async def test_a_deleted_session_is_gone_and_no_other_is(store: ShardStore) -> None:
    await store.admit(submission("turn_1"), "sess_old", "running")
    await store.finish(ended("turn_1", session_id="sess_old"), [])
    await store.admit(submission("turn_2", idempotency_key="again"), SESSION, "running")
    await store.append("turn_2", SESSION, [b"call"])
    await store.admit(submission("turn_3", key="api:default:ben"), "sess_ben", "running")
    await store.finish(ended("turn_3", session_id="sess_ben"), [])
    others = await store.transcript("sess_ben")

    assert await store.delete(KEY)
    assert not await store.delete(KEY)

    assert [*await store.transcript("sess_old"), *await store.transcript(SESSION), *await store.unfinished()] == []
    assert await store.find(KEY, "again") is None
    assert await store.transcript("sess_ben") == others != []
    with pytest.raises(TurnOver):  # the turn that ran when its session was deleted
        await store.finish(ended("turn_2"), [b"answer"])


# -- owners -----------------------------------------------------------------------------------------------------------
async def test_the_next_owner_finds_everything(reopen: Reopen) -> None:
    first = await reopen(1)
    await first.admit(submission("turn_1", idempotency_key="again"), SESSION, "running")
    await first.append("turn_1", SESSION, [b"call"])
    found = (await first.turn("turn_1"), await first.transcript(SESSION))
    await first.close()

    second = await reopen(2)

    assert (await second.turn("turn_1"), await second.transcript(SESSION)) == found
    assert await second.unfinished() == [found[0]]
    await second.finish(ended(state="interrupted"), [b"result"])
    await second.close()


async def test_an_older_owner_writes_and_reads_nothing_any_more(reopen: Reopen) -> None:
    old = await reopen(1)
    await old.admit(submission("turn_1"), SESSION, "running")
    new = await reopen(2)

    for late in (
        old.admit(submission("turn_2"), SESSION, "running"),
        old.finish(ended("turn_1"), [b"late"]),
        old.transcript(SESSION),
    ):
        with pytest.raises(StaleFence):
            await late

    assert await state_of(new, "turn_1") == "running"
    assert await state_of(new, "turn_2") is None
    await old.close()
    await new.close()


async def test_a_shard_is_not_opened_with_an_older_fence(reopen: Reopen) -> None:
    await (await reopen(7)).close()

    with pytest.raises(StaleFence):
        await reopen(6)

    again = await reopen(7)  # the same owner may open it twice
    await again.admit(submission(), SESSION, "running")
    await again.close()


# -- many at once -----------------------------------------------------------------------------------------------------
async def test_a_read_sees_the_writes_before_it(store: ShardStore) -> None:
    *_, row = await asyncio.gather(
        store.admit(submission("turn_1"), SESSION, "queued"),
        store.begin("turn_1", SESSION),
        store.finish(ended("turn_1"), []),
        store.turn("turn_1"),
    )

    assert row is not None
    assert row.state == "completed"


async def test_one_that_fails_spoils_no_other(store: ShardStore) -> None:
    await store.admit(submission("turn_5"), SESSION, "running")

    outcomes = await asyncio.gather(
        *(store.admit(submission(f"turn_{at}"), SESSION, "queued") for at in range(10)),
        store.finish(ended("unknown"), []),
        store.admit(submission("turn_10", key="\ud83d"), SESSION, "queued"),
        store.finish(ended("turn_5"), []),
        return_exceptions=True,
    )

    failed = {at: type(error) for at, error in enumerate(outcomes) if error is not None}
    assert failed == {5: StoreFailed, 10: TurnOver, 11: StoreFailed}
    counts = await store.counts(KEY)
    assert (counts["queued"], counts["completed"]) == (9, 1)


async def test_a_caller_that_stops_waiting_does_not_undo_its_write(store: ShardStore) -> None:
    admitting = asyncio.create_task(store.admit(submission(), SESSION, "queued"))
    await step()  # it has submitted

    admitting.cancel()

    assert await state_of(store, "turn_1") == "queued"
    assert admitting.cancelled()


async def test_after_close_everything_is_refused(store: ShardStore) -> None:
    await store.close()
    await store.close()

    with pytest.raises(StoreFailed):
        await store.admit(submission(), SESSION, "queued")
    with pytest.raises(StoreFailed):
        await store.transcript(SESSION)


async def test_what_cannot_be_stored_is_refused_clearly(store: ShardStore) -> None:
    with pytest.raises(StoreFailed, match="not plain data"):
        await store.admit(submission(parameters={"seed": 2**70}), SESSION, "queued")
    with pytest.raises(StoreFailed):
        await store.page(SESSION, 2**70, 10)

    await store.admit(submission(), SESSION, "queued")


# -- responses --------------------------------------------------------------------------------------------------------


async def test_a_turn_that_is_kept_as_a_response_says_what_was_asked(store: ShardStore) -> None:
    await store.admit(submission(response={"metadata": {"a": "b"}}), SESSION, "running")
    await store.admit(submission("turn_2"), SESSION, "queued")

    assert await store.response("turn_1") == {"metadata": {"a": "b"}}
    assert await store.response("turn_2") is None
    assert await store.response("turn_9") is None


async def test_a_stateless_response_keeps_its_messages_until_it_is_dropped(store: ShardStore) -> None:
    sent = submission(stateless=True, response={})
    await store.admit(sent, "s", "running")
    await store.append("turn_1", "s", [b"call"])
    await store.finish(ended(), [b"answer"])
    kept = await store.turn("turn_1")

    assert await store.drop_response("turn_1")
    assert not await store.drop_response("turn_1")

    assert kept is not None
    assert kept.submission.stateless
    assert kept.submission.messages == sent.messages
    left = await store.turn("turn_1")
    assert left is not None
    assert left.submission.messages == []
    assert await store.response("turn_1") is None


async def test_a_response_that_is_dropped_while_it_runs_drops_its_messages_when_it_ends(store: ShardStore) -> None:
    await store.admit(submission(stateless=True, response={}), "s", "running")
    assert await store.drop_response("turn_1")
    await store.finish(ended(), [])

    left = await store.turn("turn_1")
    assert left is not None
    assert left.submission.messages == []


async def test_a_response_of_a_session_leaves_its_transcript_when_it_is_dropped(store: ShardStore) -> None:
    await store.admit(submission(response={}), SESSION, "running")
    await store.finish(ended(), [b"answer"])
    transcript = await store.transcript(SESSION)

    await store.drop_response("turn_1")

    assert await store.transcript(SESSION) == transcript != []


async def test_responses_are_pruned_by_their_own_age_and_their_turns_after_them(
    store: ShardStore, clock: Clock
) -> None:
    await store.admit(submission("old", stateless=True, response={}), "s", "running")
    await store.finish(ended("old"), [])
    clock.time += 10.0
    await store.admit(submission("new", stateless=True, response={}, idempotency_key="k"), "s", "running")
    await store.finish(ended("new"), [])

    assert await store.prune(clock.time + 1) == 1, "only the Idempotency-Key"
    assert await store.prune_responses(clock.time) == 1
    assert await store.prune_responses(clock.time) == 0
    assert await store.prune(clock.time) == 1

    assert await store.turn("old") is None
    assert await store.response("new") == {}
    new = await store.turn("new")
    assert new is not None
    assert new.submission.messages


async def test_a_session_that_is_deleted_takes_its_responses_along(store: ShardStore) -> None:
    await store.admit(submission(response={}), SESSION, "running")

    await store.delete(KEY)

    assert await store.response("turn_1") is None


async def test_a_transcript_is_read_up_to_a_turn(store: ShardStore) -> None:
    for turn_id in ("one", "two"):
        await store.admit(submission(turn_id), SESSION, "running")
        await store.finish(ended(turn_id), [b"answer"])

    first, first_is_last = await store.through("one")
    both, second_is_last = await store.through("two")
    await store.admit(submission("three"), "another transcript", "queued")

    assert [turn.turn_id for turn in first] == ["one"]
    assert [turn.turn_id for turn in both] == ["one", "two"]
    assert (first_is_last, second_is_last) == (False, True)
    assert await store.through("two") == (both, False)


async def test_nothing_is_kept_of_a_request_to_the_model_alone_once_it_is_over(store: ShardStore) -> None:
    await store.admit(submission(stateless=True, key="bare:default:1"), "s", "running")
    running = await store.turn("turn_1")
    await store.finish(ended(), [b"answer"])

    assert running is not None
    assert running.submission.stateless
    assert await store.turn("turn_1") is None
    assert await store.page("s", 0, 10) == []


async def test_a_session_has_its_title_until_that_is_taken_away_or_the_session_is_deleted(store: ShardStore) -> None:
    await store.entitle(KEY, "Old")
    await store.entitle(KEY, "New")
    await store.entitle("api:default:bob", "Bob")
    named = await store.titles([KEY, "api:default:bob", "api:default:eve"])
    await store.entitle("api:default:bob", None)
    await store.delete(KEY)

    assert named == {KEY: "New", "api:default:bob": "Bob"}
    assert await store.titles([KEY, "api:default:bob"]) == {}


# -- copies -----------------------------------------------------------------------------------------------------------


async def test_a_copied_transcript_is_that_of_another_session(store: ShardStore) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    await store.admit(submission("one", idempotency_key="k"), SESSION, "running")
    await store.append("one", SESSION, [b"call"])
    await store.finish(ended("one", finish_reason="tool_calls", tool_calls=[call]), [b"answer"])
    await store.admit(submission("two"), SESSION, "running")
    await store.finish(ended("two", state="failed"), [b"failure"], own_fault=True)
    old = await store.transcript(SESSION)

    copy = await store.copy(KEY, SESSION, None, 10_000)
    assert copy is not None
    copy = replace(copy, turns=[replace(turn, turn_id=f"copy of {turn.turn_id}") for turn in copy.turns])
    await store.plant("api:default:fork", "default", "sess_fork", copy)

    assert await store.transcript(SESSION) == old
    assert await store.transcript("sess_fork") == [replace(turn, turn_id=f"copy of {turn.turn_id}") for turn in old]
    first = await store.turn("copy of one")
    assert first is not None
    assert (first.submission.key, first.submission.idempotency_key) == ("api:default:fork", None)
    assert first.submission.messages == submission("one").messages
    assert first.submission.parameters == submission("one").parameters
    assert first.ended is not None
    assert (first.ended.session_id, first.ended.tool_calls) == ("sess_fork", [call])
    assert await store.unfinished() == []


async def test_a_copy_has_the_turns_up_to_one_and_none_that_is_not_over(store: ShardStore) -> None:
    for turn_id in ("one", "two"):
        await store.admit(submission(turn_id), SESSION, "running")
        await store.finish(ended(turn_id), [b"answer"])
    await store.admit(submission("three"), SESSION, "running")
    await store.append("three", SESSION, [b"call"])

    first = await store.copy(KEY, SESSION, "one", 10_000)
    over = await store.copy(KEY, SESSION, None, 10_000)

    assert first is not None
    assert over is not None
    assert [turn.turn_id for turn in first.turns] == ["one"]
    assert [turn.turn_id for turn in over.turns] == ["one", "two"]
    nothing = await store.copy(KEY, SESSION, "turn_9", 10_000)
    assert nothing is not None
    assert nothing.turns == []
    assert await store.copy(KEY, SESSION, None, 20) is None, "too large"


@pytest.mark.parametrize(("through", "has_summary"), [("one", False), ("two", True), ("three", True)])
async def test_a_copy_has_the_summary_of_the_turns_that_it_has(
    store: ShardStore, through: str, has_summary: bool
) -> None:
    for turn_id in ("one", "two", "three"):
        await store.admit(submission(turn_id), SESSION, "running")
        await store.finish(ended(turn_id), [b"answer"])
    summary = Summary(through="two", turns=2, text="both", made_at=1.0)
    await store.summarise(SESSION, summary)

    copy = await store.copy(KEY, SESSION, through, 10_000)

    assert copy is not None
    assert copy.summary == (summary if has_summary else None)


async def test_a_copy_that_cannot_be_stored_whole_leaves_nothing(store: ShardStore) -> None:
    await store.admit(submission("one"), SESSION, "running")
    await store.finish(ended("one"), [b"answer"])
    copy = await store.copy(KEY, SESSION, None, 10_000)
    assert copy is not None
    fresh = replace(copy.turns[0], turn_id="fresh")

    with pytest.raises(StoreFailed):
        await store.plant("api:default:fork", "default", "sess_fork", replace(copy, turns=[fresh, copy.turns[0]]))

    assert await store.turn("fresh") is None
    assert await store.transcript("sess_fork") == []
