"""What becomes of a session's standing, by the table that is also drawn for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.sessions import marks
from hermes_actors.core.sessions.marks import BY_OPERATOR, TABLE, UNMARKED, Happening, MarkRecord, Standing

CUT = marks.cut(UNMARKED, "crash", "turn_1", 5.0)
STUCK = marks.stuck(CUT, "crash", 6.0)
FRESH = marks.begin_afresh(STUCK, "ses_old")


def test_every_standing_knows_what_every_happening_makes_of_it() -> None:
    assert {standing: set(row) for standing, row in TABLE.items()} == {
        standing: set(Happening) for standing in Standing
    }


def test_a_cut_marks_a_session_with_reason_time_and_turn() -> None:
    assert MarkRecord(Standing.RESUME_PENDING, "crash", 5.0, "turn_1") == CUT


def test_the_same_cut_told_again_keeps_its_first_reason() -> None:
    drained = marks.cut(UNMARKED, "restart_timeout", "turn_1", 5.0)

    assert marks.cut(drained, "crash", "turn_1", 9.0) is drained


def test_a_later_cut_replaces_the_reason() -> None:
    assert marks.cut(CUT, "shutdown_timeout", "turn_2", 9.0)[1:4] == ("shutdown_timeout", 9.0, "turn_2")


@pytest.mark.parametrize("happening", [Happening.CUT, Happening.STUCK, Happening.SUSPEND, Happening.SUCCESS])
def test_a_suspension_is_not_lifted_by_what_happens_to_its_turns(happening: Happening) -> None:
    assert TABLE[Standing.SUSPENDED][happening] is Standing.SUSPENDED


def test_a_cut_does_not_touch_a_suspended_session() -> None:
    assert marks.cut(STUCK, "restart_timeout", "turn_9", 9.0) is STUCK
    assert marks.succeed(STUCK) is STUCK


def test_a_success_clears_the_mark() -> None:
    assert marks.succeed(CUT) == UNMARKED


def test_a_message_begins_afresh_what_was_suspended_and_keeps_the_old_transcript() -> None:
    assert MarkRecord(Standing.CLEAR, former_id="ses_old", untold_reason="crash", untold_at=6.0) == FRESH


def test_that_it_began_afresh_is_told_until_a_success_even_over_another_cut() -> None:
    cut_again = marks.cut(FRESH, "crash", "turn_5", 9.0)

    assert (cut_again.untold_reason, FRESH.plain, cut_again.plain) == ("crash", False, False)
    assert marks.succeed(cut_again) == MarkRecord(former_id="ses_old")


def test_a_suspended_session_that_is_resumed_goes_on_with_its_transcript_and_the_note_of_its_cut() -> None:
    assert marks.resume(STUCK, "ses_old") == (
        "ses_old",
        MarkRecord(Standing.RESUME_PENDING, "crash", 6.0, "turn_1"),
    )


def test_a_session_that_an_operator_suspended_is_resumed_as_if_nothing_was() -> None:
    suspended = marks.suspend(UNMARKED, 3.0)

    assert (suspended.standing, suspended.reason) == (Standing.SUSPENDED, BY_OPERATOR)
    assert marks.resume(suspended, "ses_old") == ("ses_old", UNMARKED)


def test_an_operators_suspension_keeps_what_a_cut_left_to_tell() -> None:
    assert marks.resume(marks.suspend(CUT, 7.0), "ses_old") == ("ses_old", CUT)


def test_the_person_is_told_who_suspended_the_session() -> None:
    by_operator = marks.begin_afresh(marks.suspend(CUT, 7.0), "ses_old")
    by_strikes = marks.begin_afresh(marks.stuck(by_operator, "restart_timeout", 9.0), "ses_new")

    assert (by_operator.untold_reason, by_operator.untold_at) == (BY_OPERATOR, 7.0)
    assert (by_strikes.untold_reason, by_strikes.untold_at) == ("restart_timeout", 9.0)


def test_a_session_that_began_afresh_goes_back_and_forth_between_its_two_transcripts() -> None:
    back = marks.resume(marks.succeed(FRESH), "ses_new")

    assert back == ("ses_old", MarkRecord(former_id="ses_new"))
    assert marks.resume(back[1], "ses_old") == ("ses_new", MarkRecord(former_id="ses_old"))


def test_there_is_nothing_to_resume_where_nothing_was_set_aside() -> None:
    assert marks.resume(UNMARKED, "ses") is None
    assert marks.resume(CUT, "ses") is None


def test_a_reset_clears_the_mark_and_what_was_set_aside_can_still_be_resumed() -> None:
    assert marks.reset(CUT, "ses_now") == UNMARKED
    assert marks.reset(STUCK, "ses_old") == MarkRecord(former_id="ses_old")
    assert marks.reset(marks.succeed(FRESH), "ses_new") == MarkRecord(former_id="ses_old")


@given(st.lists(st.sampled_from(Happening)))
def test_the_functions_follow_the_table(happenings: list[Happening]) -> None:
    now, stands, session_id = UNMARKED, Standing.CLEAR, "ses_0"
    for number, happening in enumerate(happenings, 1):
        expected = TABLE[stands][happening]
        match happening:
            case Happening.CUT:
                now = marks.cut(now, "crash", f"turn_{number}", float(number))
            case Happening.STUCK:
                now = marks.stuck(now, "crash", float(number))
            case Happening.SUSPEND:
                now = marks.suspend(now, float(number))
            case Happening.SUCCESS:
                now = marks.succeed(now)
            case Happening.RESET:
                now, session_id = marks.reset(now, session_id), f"ses_{number}"
            case Happening.MESSAGE:
                if stands is Standing.SUSPENDED:
                    now, session_id = marks.begin_afresh(now, session_id), f"ses_{number}"
            case Happening.RESUME:
                resumed = marks.resume(now, session_id)
                if resumed is None:
                    continue
                if now.reason == BY_OPERATOR:  # there is no cut to tell of
                    expected = Standing.CLEAR
                session_id, now = resumed
        stands = now.standing
        assert stands is expected
        assert (now.reason is None) == (stands is Standing.CLEAR)
        assert now.former_id != session_id
