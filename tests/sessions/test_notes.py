"""The words for a session's marks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.wire.records import Fresh, Interrupted
from workers.models.provider import ModelReply
from workers.runtimes.chat.past import BRIEFLY_UNKNOWN, briefly_unknown
from workers.runtimes.transcript import OUTCOME_UNKNOWN, tool_message
from workers.sessions.marks import UNMARKED, Marks
from workers.sessions.notes import (
    ago,
    fresh_line,
    remarks_on,
    resume_note,
    status_lines,
)

NOW = 1_000_000_000.0
FRESH_S = 3600.0
REASONS = ("restart_timeout", "shutdown_timeout", "crash")


def note(reason: str = "crash", age_s: float = 0.0) -> str:
    return resume_note(Interrupted(reason=reason, at=NOW - age_s), now=NOW, fresh_s=FRESH_S)


# -- the note -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "words"),
    [("restart_timeout", "was restarted"), ("shutdown_timeout", "was stopped"), ("crash", "a process")],
)
@pytest.mark.parametrize("age_s", [0.0, 5 * FRESH_S])
def test_the_note_names_the_reason_whatever_its_age(reason: str, words: str, age_s: float) -> None:
    assert words in note(reason, age_s)


def test_each_reason_has_words_of_its_own() -> None:
    assert len({note(reason) for reason in (*REASONS, "a reason of another release")}) == len(REASONS) + 1


@given(reason=st.sampled_from(REASONS), age_s=st.floats(-1e6, 1e9))
def test_the_note_warns_of_unknown_outcomes_and_is_either_a_task_or_history(reason: str, age_s: float) -> None:
    told = note(reason, age_s)

    assert "unknown outcomes" in told
    assert "before you repeat" in told
    fresh = NOW - (NOW - age_s) <= FRESH_S  # as the sums of floats see it
    assert ("Go on from where it was" in told) is fresh
    assert ("do not take it up again unless asked" in told) is not fresh
    assert (" ago " in told) is not fresh


def test_a_cut_is_a_task_up_to_the_limit_and_history_beyond() -> None:
    assert "Go on" in note(age_s=FRESH_S)
    assert "about 1 hour ago" in note(age_s=FRESH_S + 1)
    assert "about 5 hours ago" in note(age_s=5 * FRESH_S)


# -- how long ago -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a minute ago"),
        (0, "less than a minute ago"),
        (60, "about 1 minute ago"),
        (125, "about 2 minutes ago"),
        (3600, "about 1 hour ago"),
        (5 * 3600 + 60, "about 5 hours ago"),
        (24 * 3600, "about 1 day ago"),
        (400 * 24 * 3600, "about 400 days ago"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert ago(seconds) == words


@given(st.floats(60, 1e9))
def test_a_told_age_is_within_half_of_its_unit(seconds: float) -> None:
    found = re.fullmatch(r"about (\d+) (minute|hour|day)(s?) ago", ago(seconds))

    assert found is not None
    count, size = int(found[1]), {"minute": 60, "hour": 3600, "day": 24 * 3600}[found[2]]
    assert abs(count * size - seconds) <= size / 2
    assert (found[3] == "s") is (count > 1)


# -- unfinished tool calls ----------------------------------------------------------------------------------------


def test_beside_the_note_an_unfinished_call_says_no_more_than_that() -> None:
    rows = [tool_message("call-1", OUTCOME_UNKNOWN), tool_message("call-2", "42")]

    assert briefly_unknown(rows) == [tool_message("call-1", BRIEFLY_UNKNOWN), rows[1]]


@given(st.sampled_from(["user", "assistant"]), st.text())
def test_what_people_and_the_model_say_is_carried_as_it_is(role: str, more: str) -> None:
    rows = [orjson.dumps({"role": role, "content": content}) for content in (OUTCOME_UNKNOWN, OUTCOME_UNKNOWN + more)]

    assert briefly_unknown(rows) == rows


# -- the fresh line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "threshold", "words"),
    [
        ("crash", 3, "restarts or crashes cut it 3 times in a row"),
        ("restart_timeout", 1, "restarts or crashes cut it once"),
        ("operator", 3, "The operator suspended"),
    ],
)
def test_the_fresh_line_says_why_and_how_to_get_the_earlier_conversation_back(
    reason: str, threshold: int, words: str
) -> None:
    line = fresh_line(Fresh(reason=reason, at=NOW, former_id="ses_old"), threshold=threshold)

    assert words in line
    assert "kept as ses_old" in line
    assert "/resume" in line
    assert "\n" not in line


# -- for /status --------------------------------------------------------------------------------------------------


def test_status_tells_every_mark_and_nothing_of_none() -> None:
    marks = Marks(
        resume=Interrupted(reason="crash", at=NOW - 300),
        fresh=Fresh(reason="crash", at=NOW, former_id="ses_old"),
        strikes=2,
    )

    told = "\n".join(status_lines(marks, now=NOW, threshold=3))

    assert "about 5 minutes ago: a process of the gateway died" in told
    assert "ses_old" in told
    assert "2 of 3" in told
    assert status_lines(UNMARKED, now=NOW, threshold=3) == []


def test_marks_are_true_when_there_is_something_to_tell_or_clear() -> None:
    assert not UNMARKED
    assert not Marks()
    assert Marks(strikes=1)
    assert Marks(resume=Interrupted(reason="crash", at=NOW))
    assert Marks(fresh=Fresh(reason="crash", at=NOW, former_id="ses_old"))


# -- the reference ------------------------------------------------------------------------------------------------


def test_the_reference_quotes_the_words() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/marks.md").read_text()
    quoted = " ".join(page.replace("\n>", " ").split())
    lines = (fresh_line(Fresh(reason=why, at=NOW, former_id="ses_x"), threshold=3) for why in ("crash", "operator"))

    for words in (note("crash"), note("restart_timeout", 5 * FRESH_S), *lines):
        assert words in quoted
    for reason in REASONS:
        assert re.search(rf"\| `{reason}` \| {re.escape(_why(note(reason)))} \|", page)


def _why(told: str) -> str:
    return told.partition("was interrupted: ")[2].partition(".")[0]


# -- behind an answer ---------------------------------------------------------------------------------------------


def answer(model: str, **others: Any) -> ModelReply:
    return ModelReply(text="fine", tool_calls=(), finish_reason="stop", usage={}, model=model, **others)


@pytest.mark.parametrize(
    ("chosen", "answered"),
    [
        (None, "auto"),
        ("gpt-5", "gpt-5-2026-08-07"),
        ("openai/gpt-5", "gpt-5"),
        ("qwen3:8b", "qwen3"),
        ("GPT-5", "gpt-5"),
        ("x", ""),
    ],
)
def test_a_model_under_another_of_its_names_is_the_chosen_one(chosen: str | None, answered: str) -> None:
    assert remarks_on(answer(answered), chosen=chosen, before="") == []


def test_an_answer_of_another_model_than_the_chosen_one_says_so_once() -> None:
    (remark,) = remarks_on(answer("auto"), chosen="nonsense", before="")

    assert "auto" in remark
    assert "nonsense" in remark
    assert remarks_on(answer("auto"), chosen="nonsense", before="auto") == []
    provider = "custom (https://models.example/secret-path/v1)"
    (remark,) = remarks_on(answer("spare", provider=provider, fallback=1), chosen="nonsense", before="auto")
    assert "models.example" in remark
    assert "secret-path" not in remark


def test_what_the_gateway_remarks_on_an_answer_is_told() -> None:
    assert remarks_on(answer("m", remark="[healed]"), chosen=None, before="m") == ["[healed]"]
