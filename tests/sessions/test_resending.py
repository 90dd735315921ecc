"""A message that a client library sends again by itself is one turn; what a person means twice is two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import orjson
import pytest
from fakes.model_failures import failed
from fakes.sessions import Bench, end_of, text_reply, tool_reply
from fakes.virtual_time import time_passes
from hypothesis import given
from hypothesis import strategies as st

from workers.routing.listening_turn import ListeningTurn
from workers.sessions.feed import TurnFeed
from workers.sessions.resending import CUT_S, FAILED_S, UNHEARD_S, SameTurn, TakesPlace, recognise
from workers.turns import PastTurn, Refusal, TurnState

NOW = 1_000_000.0
HELLO = [orjson.dumps({"role": "user", "content": "hello"})]
OTHER = [orjson.dumps({"role": "user", "content": "hello!"})]
RESULTS = [orjson.dumps({"role": "tool", "tool_call_id": "c", "content": "blue"})]
ANSWER = orjson.dumps({"role": "assistant", "content": "hi"})
CALL = orjson.dumps({"role": "assistant", "content": None, "tool_calls": [{"id": "d", "function": {"name": "f"}}]})


@dataclass
class Living:
    sent: list[bytes]
    caller_left: bool
    turn_id: str = "living"


def past(state: TurnState, *rows: bytes, age_s: float = 1.0, unheard: bool = False) -> PastTurn:
    return PastTurn(turn_id="last", state=state, rows=(*HELLO, *rows), ended_at=NOW - age_s, unheard=unheard)


# -- the decision -----------------------------------------------------------------------------------------------------


def test_a_turn_whose_callers_are_gone_is_that_of_the_same_message() -> None:
    living = [Living(OTHER, True, "before"), Living(HELLO, True)]

    assert recognise(HELLO, living, None, now=NOW) == SameTurn(turn_id="living")


def test_the_same_message_beside_a_caller_who_waits_is_a_new_turn() -> None:
    assert recognise(HELLO, [Living(HELLO, False)], None, now=NOW) is None


def test_the_same_results_of_tools_are_the_same_turn_though_a_caller_waits() -> None:
    assert recognise(RESULTS, [Living(RESULTS, False)], None, now=NOW) == SameTurn(turn_id="living")


def test_a_turn_that_lives_is_between_a_message_and_the_turn_that_ended_last() -> None:
    assert recognise(HELLO, [Living(OTHER, True)], past("failed"), now=NOW) is None


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (past("failed", age_s=FAILED_S - 1), TakesPlace(turn_id="last")),
        (past("failed", age_s=FAILED_S), None),
        (past("failed", CALL), None),
        (past("interrupted", CALL, age_s=CUT_S - 1), SameTurn(turn_id="last")),
        (past("interrupted", age_s=CUT_S), None),
        (past("cancelled"), None),
        (past("completed", ANSWER), None),
        (past("completed", ANSWER, unheard=True, age_s=UNHEARD_S - 1), SameTurn(turn_id="last")),
        (past("completed", ANSWER, unheard=True, age_s=UNHEARD_S), None),
        (PastTurn(turn_id="last", state="failed", rows=HELLO), None),
    ],
    ids=[
        "failed just now",
        "failed long ago",
        "failed after a tool acted",
        "cut just now",
        "cut a while ago",
        "stopped",
        "answered",
        "answered unheard",
        "answered unheard, long ago",
        "ended at a time that is not known",
    ],
)
def test_what_became_of_the_same_message_decides(last: PastTurn, expected: object) -> None:
    assert recognise(HELLO, [], last, now=NOW) == expected


def test_results_that_were_answered_are_the_same_turn_however_late_they_come() -> None:
    last = PastTurn(turn_id="last", state="completed", rows=(*RESULTS, ANSWER), ended_at=0.0)

    assert recognise(RESULTS, [], last, now=NOW) == SameTurn(turn_id="last")


@given(
    messages=st.sampled_from([HELLO, RESULTS]),
    states=st.lists(st.tuples(st.sampled_from([HELLO, OTHER, RESULTS]), st.booleans())),
    last=st.builds(
        PastTurn,
        turn_id=st.just("last"),
        state=st.sampled_from(get_args(TurnState)),
        rows=st.sampled_from([(*HELLO, ANSWER), (*HELLO, CALL), OTHER, RESULTS]),
        ended_at=st.none() | st.floats(NOW - 2 * FAILED_S, NOW),
        unheard=st.booleans(),
    )
    | st.none(),
)
def test_only_equal_messages_are_merged_and_never_beside_a_caller_who_waits(
    messages: list[bytes], states: list[tuple[list[bytes], bool]], last: PastTurn | None
) -> None:
    living = [Living(sent, left, f"living-{number}") for number, (sent, left) in enumerate(states)]

    found = recognise(messages, living, last, now=NOW)

    by_id: dict[str, Any] = {turn.turn_id: turn for turn in living}
    if found is not None and found.turn_id in by_id:
        turn = by_id[found.turn_id]
        assert turn.sent == messages
        assert turn.caller_left or messages is RESULTS
    elif found is not None:
        assert not living
        assert last is not None
        assert [*last.rows[:1]] == messages
        assert isinstance(found, TakesPlace) == (last.state == "failed")


# -- in a session -----------------------------------------------------------------------------------------------------


def listening(feed: TurnFeed) -> ListeningTurn:
    turn = ListeningTurn(feed.turn_id)
    turn.attach(feed.turn_id, lambda: feed.leave(turn.hear))
    feed.listen(turn.hear, stream=False)
    return turn


def contents(request: list[dict[str, Any]]) -> list[Any]:
    return [message["content"] for message in request]


async def test_a_message_that_timed_out_and_comes_again_is_one_turn_for_all_its_callers(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hello")
    listening(feed).abandon()

    again = await bench.send("hello")
    third = await bench.send("hello")  # the second hangs up too
    listening(again).abandon()
    last = await bench.send("hello")
    bench.model.gate.set()

    assert again.turn_id == last.turn_id == feed.turn_id
    assert third.turn_id == feed.turn_id
    assert (await end_of(last)).text == "re: hello"
    assert len(bench.model.requests) == 1


async def test_two_people_who_wait_get_a_turn_each(bench: Bench) -> None:
    bench.model.gate.clear()
    first = await bench.send("hello")
    listening(first)
    second = await bench.send("hello")
    bench.model.gate.set()

    await end_of(second)
    assert first.turn_id != second.turn_id
    assert len(bench.model.requests) == 2


async def test_who_reads_along_does_not_stand_in_for_a_caller_who_left(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hello")
    caller = listening(feed)
    reader = feed.numbering(lambda _: None)
    feed.read(lambda _: None, reader, 0)
    caller.abandon()

    assert (await bench.send("hello")).turn_id == feed.turn_id


async def test_a_turn_that_waits_in_the_mailbox_is_recognised_too(bench: Bench) -> None:
    bench.model.gate.clear()
    listening(await bench.send("first"))
    waiting = await bench.send("hello")
    listening(waiting).abandon()

    assert (await bench.send("hello")).turn_id == waiting.turn_id


async def test_a_message_under_a_key_goes_by_its_key(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hello")
    listening(feed).abandon()

    assert (await bench.send("hello", idempotency_key="k")).turn_id != feed.turn_id


async def test_a_message_that_failed_and_comes_again_is_in_the_transcript_once(bench: Bench) -> None:
    await bench.talk("one")
    bench.model.script = [failed(status=500) for _ in range(2)]
    for _ in range(2):
        assert (await bench.talk("hello")).state == "failed"

    assert (await bench.talk("hello")).text == "re: hello"

    assert contents(bench.model.requests[-1]) == ["one", "re: one", "hello"]
    transcript = await bench.store.transcript("ses_0")
    assert [turn.state for turn in transcript] == ["completed", "completed"]


async def test_a_message_takes_no_place_where_its_commit_fails(bench: Bench) -> None:
    bench.model.script = [failed(status=500)]
    await bench.talk("hello")
    bench.store.broken = {"admit queued"}
    with pytest.raises(Refusal):
        await bench.send("hello")
    bench.store.broken = set()

    await bench.talk("go on")

    assert contents(bench.model.requests[-1]) == ["hello", "go on"]


async def test_the_same_words_two_minutes_after_a_failure_are_a_new_turn(bench: Bench) -> None:
    bench.model.script = [failed(status=500)]
    await bench.talk("hello")
    await time_passes(FAILED_S)

    await bench.talk("hello")

    assert len(await bench.store.transcript("ses_0")) == 2


async def test_what_a_tool_did_stays_when_the_message_of_its_failed_turn_comes_again(bench: Bench) -> None:
    bench.model.script = [tool_reply("look"), failed(status=500), text_reply("done")]
    await bench.talk("hello")

    await bench.talk("hello")

    assert "look said so" in contents(bench.model.requests[-1])
    assert len(await bench.store.transcript("ses_0")) == 2


async def test_the_same_words_after_a_stop_are_a_new_turn(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hello")
    listening(feed)
    await bench.talk("/stop")
    bench.model.gate.set()

    ended = await bench.talk("hello")

    assert (ended.state, ended.turn_id != feed.turn_id) == ("completed", True)


async def test_an_answer_that_no_caller_heard_is_given_to_the_message_when_it_comes_again(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hello")
    listening(feed).abandon()
    bench.model.gate.set()
    await bench.model.until_asked(1)
    await time_passes(1)

    again = await bench.talk("hello")
    new = await bench.talk("hello")

    assert (again.turn_id, again.text, again.replayed) == (feed.turn_id, "re: hello", True)
    assert new.turn_id != feed.turn_id


async def test_a_command_that_timed_out_and_comes_again_is_done_once(bench: Bench) -> None:
    await bench.talk("one")
    bench.model.gate.clear()
    command = await bench.send("/retry")
    listening(command).abandon()

    again = await bench.send("/retry")
    bench.model.gate.set()

    assert (await end_of(again)).text == "re: one"
    assert again.turn_id == command.turn_id
    assert len(bench.model.requests) == 2


async def test_a_message_whose_turn_was_cut_gets_its_end_once_more_and_then_a_refusal(bench: Bench) -> None:
    bench.model.gate.clear()
    feed = await bench.send("hello")
    await bench.model.until_asked(1)
    await bench.sessions.stop("shutdown_timeout")
    await end_of(feed)
    left = Bench(bench.sessions.config, store=bench.store.reopened(), registry=bench.registry)
    await left.store.finish(replace(await end_of(feed), state="interrupted"), [])

    again = await left.talk("hello")
    with pytest.raises(Refusal) as refused:
        await left.send("hello")

    assert (again.state, again.turn_id, again.replayed) == ("interrupted", feed.turn_id, True)
    assert refused.value.code.http_status == 400
    assert left.model.requests == []
    await left.sessions.close()
