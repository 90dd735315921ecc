"""What a cut or a suspension leaves in a session, and how a turn that succeeds ends it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from fakes.model_failures import failed
from fakes.sessions import BOUND_S, Bench, end_of, events_of, text_reply, tool_reply
from fakes.virtual_time import time_passes

from hermes_actors.wire.records import Fresh, Interrupted
from workers.models.provider import ModelFailure
from workers.runtimes.chat.past import BRIEFLY_UNKNOWN
from workers.runtimes.transcript import OUTCOME_UNKNOWN
from workers.sessions.marks import UNMARKED, Marks
from workers.sessions.reading import describe
from workers.sessions.session import Session
from workers.turns import Delta, Ended

KEY = "api:default:a"
NOTE = "Note from the gateway"
LINE = "The earlier conversation was set aside"


def cut(reason: str = "crash", age_s: float = 0.0) -> Marks:
    return Marks(resume=Interrupted(reason=reason, at=time.time() - age_s), strikes=1)


def refused() -> ModelFailure:
    return failed(status=503)


def notes_in(bench: Bench) -> list[int]:
    """How often the note stands in each request to the model."""
    return [str(request).count(NOTE) for request in bench.model.requests]


def session_of(bench: Bench) -> Session:
    return bench.sessions._resident[KEY].session


async def until_clearing(bench: Bench) -> None:
    """Until a success is about to be recorded."""
    async with asyncio.timeout(BOUND_S):
        await bench.registry.asked.wait()


# -- the note -----------------------------------------------------------------------------------------------------


async def test_the_note_stands_once_in_the_one_system_message_of_every_request(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut("restart_timeout")
    bench.sessions.agent_config = replace(bench.sessions.agent_config, system_prompt="be brief")
    bench.model.script = [tool_reply("x"), refused()]

    await bench.talk("one")
    await bench.talk("two")

    for request in bench.model.requests:
        (system,) = [message["content"] for message in request if message["role"] == "system"]
        assert system.startswith("be brief\n\n")
        assert "was restarted" in system
    assert notes_in(bench) == [1, 1, 1]


async def test_a_success_ends_the_note_and_the_mark(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()

    first = await bench.talk("one")
    await bench.talk("two")

    assert notes_in(bench) == [1, 0]
    assert bench.registry.successes == [(KEY, first.turn_id)]
    assert session_of(bench).marks == UNMARKED


@pytest.mark.parametrize("outcome", [refused(), text_reply("")])
async def test_only_a_success_ends_the_mark(bench: Bench, outcome: Any) -> None:
    bench.registry.marks[KEY] = cut()
    bench.model.script = [outcome]

    ended = await bench.talk("one")

    assert bool(bench.registry.successes) is (ended.state == "completed")
    assert bool(session_of(bench).marks) is (ended.state == "failed")


async def test_a_stopped_turn_leaves_the_mark(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()
    bench.model.gate.clear()
    running = await bench.send("one")
    await bench.model.until_asked(1)

    await bench.talk("/stop")
    await end_of(running)
    bench.model.gate.set()
    await bench.talk("two")

    assert notes_in(bench) == [1, 1]


async def test_an_old_cut_is_told_as_history(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut(age_s=5 * 3600)

    await bench.talk("one")

    (system,) = [message["content"] for message in bench.model.requests[0] if message["role"] == "system"]
    assert "about 5 hours ago" in system
    assert "do not take it up again unless asked" in system


async def test_the_note_replaces_what_is_said_of_unfinished_tool_calls(bench: Bench) -> None:
    bench.model.script = [tool_reply("x")]
    running = await bench.send("one")
    toolbox = bench.toolboxes[0]
    toolbox.gate.clear()
    async with asyncio.timeout(BOUND_S):
        await toolbox.called.wait()
    await bench.talk("/stop")
    await end_of(running)
    session_of(bench).was_cut(Interrupted(reason="restart_timeout", at=time.time()))

    await bench.talk("two")
    await bench.talk("three")

    told = [[row["content"] for row in asked if row["role"] == "tool"] for asked in bench.model.requests[1:]]
    assert told == [[BRIEFLY_UNKNOWN], [OUTCOME_UNKNOWN]]


async def test_a_session_that_a_drain_cut_and_kept_is_marked_until_a_success(bench: Bench) -> None:
    await bench.talk("one")
    mark = Interrupted(reason="shutdown_timeout", at=time.time())
    bench.registry.marks[KEY] = Marks(resume=mark, strikes=2)
    session_of(bench).was_cut(mark)
    assert session_of(bench).marks == Marks(resume=mark)
    assert "2 of 3" in (await bench.talk("/status")).text

    second = await bench.talk("two")

    assert notes_in(bench) == [0, 1]
    assert bench.registry.successes == [(KEY, second.turn_id)]


async def test_a_stateless_conversation_is_never_marked(bench: Bench) -> None:
    key = "conv:default:1"
    await bench.talk("one", key=key, stateless=True)
    bench.sessions._resident[key].session.was_cut(Interrupted(reason="shutdown_timeout", at=time.time()))

    await bench.talk("two", key=key, stateless=True)

    assert notes_in(bench) == [0, 0]
    assert bench.registry.successes == []


async def test_a_turn_whose_actor_died_leaves_no_mark(bench: Bench) -> None:
    bench.model.script = [SystemExit()]

    ended = await bench.talk("one")
    await bench.talk("two")

    assert ended.state == "interrupted"
    assert notes_in(bench) == [0, 0]


# -- clearing -----------------------------------------------------------------------------------------------------


async def test_the_end_of_a_marked_session_is_told_when_its_clearing_is_recorded(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()
    bench.registry.gate.clear()

    feed = await bench.send("one")
    await until_clearing(bench)
    assert feed.ended is None
    assert bench.store.rows[feed.turn_id].state == "completed"
    bench.registry.gate.set()

    assert (await end_of(feed)).state == "completed"


async def test_a_session_without_marks_waits_for_nobody(bench: Bench) -> None:
    bench.registry.gate.clear()

    assert (await bench.talk("one")).state == "completed"
    assert bench.registry.successes == []


async def test_a_success_that_the_supervisor_never_heard_of_is_told_before_the_next_turn(bench: Bench) -> None:
    mark = cut()
    await time_passes(1.0)
    answered = await bench.talk("one")
    await bench.sessions.evict(KEY)
    bench.registry.marks[KEY] = mark

    await bench.talk("two")

    assert bench.registry.successes == [(KEY, answered.turn_id)]
    assert notes_in(bench) == [0, 0]


async def test_a_success_before_a_cut_does_not_clear_its_mark_when_the_cut_turn_was_sent_again(bench: Bench) -> None:
    await bench.talk("zero")
    bench.model.script = [SystemExit()]
    await bench.talk("one")
    bench.registry.marks[KEY] = cut()
    await bench.sessions.evict(KEY)
    bench.model.script = [refused(), refused()]
    assert (await bench.talk("/retry")).state == "failed"
    await bench.sessions.evict(KEY)

    await bench.talk("two")

    assert bench.registry.successes == []
    assert notes_in(bench)[-1] == 1


async def test_strikes_alone_are_cleared_without_a_note(bench: Bench) -> None:
    bench.registry.marks[KEY] = Marks(strikes=2)

    first = await bench.talk("one")

    assert notes_in(bench) == [0]
    assert bench.registry.successes == [(KEY, first.turn_id)]


async def test_a_success_that_cannot_be_recorded_is_told_and_the_next_one_tries_again(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()
    bench.registry.gate.clear()
    feed = await bench.send("one")
    await until_clearing(bench)
    bench.registry.down = True
    bench.registry.gate.set()

    assert (await end_of(feed)).state == "completed"
    bench.registry.down = False
    second = await bench.talk("two")

    assert notes_in(bench) == [1, 1]
    assert bench.registry.successes == [(KEY, second.turn_id)]


async def test_a_mark_made_while_an_earlier_one_is_cleared_stays(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()
    bench.registry.gate.clear()
    feed = await bench.send("one")
    await until_clearing(bench)

    session_of(bench).was_cut(Interrupted(reason="restart_timeout", at=time.time()))
    bench.registry.gate.set()
    await end_of(feed)

    resume = session_of(bench).marks.resume
    assert resume is not None
    assert resume.reason == "restart_timeout"


async def test_the_supervisor_is_told_after_the_turn_is_on_disk(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()
    bench.store.broken = {"finish completed"}

    assert (await bench.talk("one")).state == "failed"

    assert bench.registry.successes == []
    assert session_of(bench).marks


# -- the fresh line -----------------------------------------------------------------------------------------------


async def suspended(bench: Bench, *, reason: str = "crash") -> None:
    """A session with one turn, which was suspended and sleeps."""
    await bench.talk("before")
    await bench.sessions.evict(KEY)
    bench.registry.suspended(KEY, reason=reason)


async def test_the_first_reply_after_a_suspension_says_so_and_the_second_does_not(bench: Bench) -> None:
    await suspended(bench)

    first, second = await bench.talk("one"), await bench.talk("two")

    line, _, rest = first.text.partition("\n\n")
    assert LINE in line
    assert "3 times in a row" in line
    assert "ses_0" in line
    assert rest == "re: one"
    assert second.text == "re: two"
    assert bench.registry.successes == [(KEY, first.turn_id)]


async def test_a_suspension_by_the_operator_is_told_as_that(bench: Bench) -> None:
    await suspended(bench, reason="operator")

    assert (await bench.talk("one")).text.startswith("[The operator suspended")


async def test_a_stream_begins_with_the_line_and_says_it_once(bench: Bench) -> None:
    await suspended(bench)
    bench.model.gate.clear()
    feed = await bench.send("one")
    bench.model.gate.set()

    *deltas, ended = await events_of(feed)

    said = "".join(event.text for event in deltas if isinstance(event, Delta))
    assert isinstance(ended, Ended)
    assert said == ended.text
    assert said.count(LINE) == 1


async def test_the_line_is_no_part_of_what_the_model_said(bench: Bench) -> None:
    await suspended(bench)
    first = await bench.talk("one")
    await bench.talk("two")

    assert LINE not in str(bench.model.requests)
    assert LINE.encode() not in b"".join(bench.store.messages[first.turn_id])


async def test_a_failed_first_turn_says_it_too_and_the_next_reply_again(bench: Bench) -> None:
    await suspended(bench)
    bench.model.script = [refused()]

    failed, second = await bench.talk("one"), await bench.talk("two")

    assert failed.error is not None
    assert failed.error["text"].startswith(f"[{LINE}")
    assert "No answer from the model." in failed.error["text"]
    assert failed.text == ""
    assert second.text.startswith(f"[{LINE}")


async def test_a_retry_tells_the_line_too(bench: Bench) -> None:
    await suspended(bench)
    bench.model.script = [refused()]
    await bench.talk("one")

    again = await bench.talk("/retry")

    assert again.text == f"{again.text.partition(chr(10))[0]}\n\nre: one"
    assert LINE in again.text


# -- commands -----------------------------------------------------------------------------------------------------


async def test_resume_brings_the_transcript_back_that_a_suspension_set_aside(bench: Bench) -> None:
    await suspended(bench)

    told = await bench.talk("/resume")
    after = await bench.talk("after")

    assert "ses_0 is back, with 1 turn." in told.text
    assert "kept as ses_0_fresh" in told.text
    assert told.session_id == after.session_id == "ses_0"
    assert [message["content"] for message in bench.model.requests[-1]] == ["before", "re: before", "after"]
    assert LINE not in after.text


async def test_resume_after_a_success_still_brings_it_back_and_takes_itself_back(bench: Bench) -> None:
    await suspended(bench)
    await bench.talk("one")

    await bench.talk("/resume")
    await bench.talk("/resume")
    await bench.talk("two")

    assert [message["content"] for message in bench.model.requests[-1]] == ["one", "re: one", "two"]


async def test_resume_waits_its_turn(bench: Bench) -> None:
    await suspended(bench)
    bench.model.gate.clear()
    first = await bench.send("one")
    resume = await bench.send("/resume")
    await bench.model.until_asked(2)
    bench.model.gate.set()

    assert (await end_of(first)).session_id == "ses_0_fresh"
    assert (await end_of(resume)).session_id == "ses_0"


async def test_resume_says_where_there_is_nothing_to_resume(bench: Bench) -> None:
    await bench.talk("one")

    told = await bench.talk("/resume")
    await bench.talk("two")

    assert told.state == "completed"
    assert "nothing to resume" in told.text
    assert len(bench.model.requests[-1]) == 3


async def test_resume_has_no_meaning_without_a_session(bench: Bench) -> None:
    told = await bench.talk("/resume", key="conv:default:1", stateless=True)

    assert "X-Hermes-Session-Id" in told.text


async def test_a_resume_that_the_supervisor_does_not_answer_changes_nothing(bench: Bench) -> None:
    await suspended(bench)
    await bench.talk("one")
    bench.registry.down = True

    told = await bench.talk("/resume")
    bench.registry.down = False
    after = await bench.talk("two")

    assert told.error is not None
    assert told.error["code"] == "shard_unavailable"
    assert after.session_id == "ses_0_fresh"


async def test_a_transcript_that_cannot_be_read_is_not_resumed(bench: Bench) -> None:
    await suspended(bench)
    await bench.talk("one")
    bench.store.broken = {"transcript"}

    told = await bench.talk("/resume")
    bench.store.broken = set()
    after = await bench.talk("two")

    assert told.state == "failed"
    assert after.session_id == bench.registry.sessions[KEY] == "ses_0_fresh"
    assert [message["content"] for message in bench.model.requests[-1]] == ["one", "re: one", "two"]


async def test_a_resume_that_fails_leaves_the_marks_and_strikes_of_the_session(bench: Bench) -> None:
    await suspended(bench)
    await bench.talk("one")
    await bench.sessions.evict(KEY)
    marked = bench.registry.marks[KEY] = Marks(resume=Interrupted(reason="crash", at=time.time() + 60.0), strikes=2)
    await bench.talk("/model")
    bench.store.broken = {"transcript"}

    told = await bench.talk("/resume")

    assert told.state == "failed"
    assert session_of(bench).marks == bench.registry.marks[KEY] == marked


async def test_a_reset_takes_the_marks_along(bench: Bench) -> None:
    bench.registry.marks[KEY] = cut()

    await bench.talk("/reset")
    await bench.talk("one")

    assert notes_in(bench) == [0]
    assert bench.registry.successes == []


async def test_status_and_the_description_tell_the_marks(bench: Bench) -> None:
    bench.registry.marks[KEY] = Marks(
        resume=Interrupted(reason="crash", at=time.time() - 300),
        fresh=Fresh(reason="crash", at=1.0, former_id="ses_old"),
        strikes=2,
    )
    bench.model.script = [refused()]
    await bench.talk("one")

    told = (await bench.talk("/status")).text
    described = await describe(bench.sessions, KEY, bench.shard)

    for words in ("about 5 minutes ago", "ses_old", "2 of 3"):
        assert words in told
    assert described["marks"]["strikes"] == 2
    assert described["marks"]["resume"]["reason"] == "crash"
    assert described["marks"]["fresh"] == {"reason": "crash", "at": 1.0, "former_id": "ses_old"}
