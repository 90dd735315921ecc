"""The story of a session, from its records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.sessions import marks as marking
from hermes_actors.core.sessions.lives import Incident, Life, What
from hermes_actors.core.sessions.marks import BY_OPERATOR, UNMARKED, MarkRecord, Standing
from hermes_actors.core.sessions.why import Records, Story, story
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.results import Loss

KEY = "api:default:cli"
NOW = 100_000.0
FRESH_S = 3600.0


def incident(what: What, at: float, *, reason: str | None = None, boot: str = "b2", **known: Any) -> Incident:
    given = {"turn_id": "turn_1", "session_id": "ses_1", "strikes": 0, "threshold": 3, **known}
    return Incident(key=KEY, at=at, boot=boot, what=what, reason=reason, **given)


def told(
    *incidents: Incident,
    marks: MarkRecord = UNMARKED,
    strikes: int = 0,
    lives: tuple[Life, ...] = (),
    running: bool = True,
    now: float = NOW,
    losses: tuple[Loss, ...] = (),
    untold: Loss | None = None,
) -> Story:
    entry = SessionEntry(
        key=KEY, session_id="ses_1", principal="default", shard=0, created_at=0, last_active_at=0, marks=marks
    )
    records = Records(
        entry=entry,
        incidents=incidents,
        lives=lives,
        losses=losses,
        untold=untold,
        strikes=strikes,
        threshold=3,
        drain_timeout_s=60.0,
        fresh_s=FRESH_S,
        heartbeat_s=5.0,
        running=running,
    )
    return story(records, now)


def text(found: Story) -> str:
    return "\n".join(line.what for line in found.lines)


PENDING = marking.cut(UNMARKED, "crash", "turn_1", NOW - 10)
SUSPENDED = marking.stuck(PENDING, "crash", NOW - 5)


def test_a_session_without_records_has_nothing_to_tell() -> None:
    found = told()

    assert (found.lines, found.actions, found.settings) == ((), (), ())
    assert found.next == ("the next message continues this transcript",)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("restart_timeout", "a planned restart reached its deadline and cut turn turn_1: strike 1 of 3"),
        ("shutdown_timeout", "a stop or drain reached its deadline and cut turn turn_1: strike 1 of 3"),
        ("crash", "its worker died, or hung and was killed, and cut turn turn_1: strike 1 of 3"),
    ],
)
def test_a_cut_names_what_cut_which_turn_and_the_strike(reason: str, cause: str) -> None:
    lives = (Life("b2", 1.0, settled_at=2.0, ready_at=2.0),)

    found = told(incident("cut", 50.0, reason=reason, strikes=1), lives=lives)

    assert cause in text(found)


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (Life("b1", 1.0, 2.0, 3.0), "; the one before had died, or the machine had"),
        (
            Life("b1", 1.0, 2.0, 3.0, stop_began_at=9.0),
            "; the one before had died during a stop, restart or hold, or the machine had",
        ),
    ],
)
def test_a_cut_that_a_start_found_is_the_dead_supervisors(before: Life, words: str) -> None:
    found = told(incident("cut", 11.0, reason="crash", strikes=1), lives=(Life("b2", 10.0, settled_at=12.0), before))

    assert [line.what for line in found.lines] == [
        f"the supervisor started{words}",
        "the supervisor died and cut turn turn_1: strike 1 of 3",
    ]


def test_a_cut_after_the_start_was_over_is_a_workers() -> None:
    lives = (Life("b2", 10.0, settled_at=12.0), Life("b1", 1.0, 2.0, 3.0))

    found = told(incident("cut", 13.0, reason="crash", strikes=1), lives=lives)

    assert found.lines[1].what.startswith("its worker died")


@pytest.mark.parametrize(
    ("how", "words"),
    [("stop", "; the one before had been stopped"), ("restart", ", in place of one that it restarted")],
)
def test_a_worker_that_died_while_the_gateway_started_is_not_taken_for_the_supervisor(how: str, words: str) -> None:
    lives = (Life("b2", 10.0), Life("b1", 1.0, 2.0, 3.0, 8.0, 9.0, how))

    found = told(incident("cut", 11.0, reason="crash", strikes=1), lives=lives)

    assert found.lines[0].what == f"the supervisor started{words}"
    assert found.lines[1].what.startswith("its worker died")


def test_what_happened_is_in_order_with_the_starts_that_matter_only() -> None:
    lives = (Life("b4", 40.0), Life("b3", 30.0, ended_at=39.0), Life("b2", 20.0, ended_at=29.0), Life("b1", 10.0))
    cuts = (
        incident("cut", 15.0, reason="crash", boot="b1", strikes=1),
        incident("cut", 35.0, reason="restart_timeout", boot="b3", strikes=2),
    )

    found = told(*cuts, lives=lives, marks=PENDING, strikes=2)

    assert [line.at for line in found.lines] == [10.0, 15.0, 30.0, 35.0]
    assert [line.rule for line in found.lines if "started" in line.what] == ["", ""]


@pytest.mark.parametrize(
    ("what", "known", "words"),
    [
        ("suspended", {"strikes": 3, "reason": "crash"}, "suspended after 3 cuts in a row; transcript ses_1 is kept"),
        ("suspended", {"reason": BY_OPERATOR}, "an operator suspended it; transcript ses_1 is kept"),
        ("suspended", {"reason": "crash"}, "an operator suspended it"),
        ("fresh", {"reason": "crash"}, "a message came: a fresh transcript began; ses_1 is kept"),
        ("succeeded", {}, "turn turn_1 succeeded: marks and strikes are gone"),
        ("reset", {}, "it was reset: a fresh transcript began in place of ses_1"),
        ("resumed", {}, "the transcript that was set aside came back"),
        ("cleared", {}, "an operator cleared its strikes"),
        ("idle", {}, "it was idle at a stop or start: its strikes are cleared"),
    ],
)
def test_each_thing_that_happens_has_words_and_a_rule(what: What, known: dict[str, Any], words: str) -> None:
    (line,) = told(incident(what, 5.0, **known)).lines

    assert words in line.what
    assert line.rule


# -- what happens next ------------------------------------------------------------------------------------------------


def test_a_session_that_is_to_be_resumed_goes_on_and_one_more_cut_may_suspend_it() -> None:
    found = told(marks=PENDING, strikes=2)

    assert found.next == (
        (
            "the next message continues this transcript; the model is informed of the cut, and asked to continue "
            "from there"
        ),
        "a turn that succeeds clears the strikes and the mark",
        "one more cut suspends it",
    )
    assert [action.do for action in found.actions] == [
        f"hermes-ctl sessions reset {KEY}",
        f"hermes-ctl ledger clear {KEY}",
    ]


def test_a_session_at_the_threshold_that_waits_for_the_next_start_is_told_that_it_begins_afresh() -> None:
    found = told(marks=PENDING, strikes=3)

    assert found.next == (
        "it was cut 3 times in a row: the next start, or that of its worker, suspends it",
        "the message after that starts a fresh transcript, and its reply says why",
        "a turn that succeeds clears the strikes and the mark",
    )


def test_a_cut_of_long_ago_is_told_as_history() -> None:
    found = told(marks=PENDING, strikes=1, now=NOW + FRESH_S)

    assert "as history only" in found.next[0]
    assert "2 more cuts in a row suspend it" in found.next
    assert "sessions.resume_fresh_seconds" in [setting.key for setting in found.settings]


def test_a_suspended_session_can_be_had_back() -> None:
    found = told(marks=SUSPENDED)

    assert found.standing == "suspended"
    assert "fresh transcript" in found.next[0]
    assert [action.do for action in found.actions] == [f"hermes-ctl sessions resume {KEY}"]


def test_a_session_that_began_afresh_names_the_way_back() -> None:
    found = told(marks=marking.begin_afresh(SUSPENDED, "ses_0"))

    assert "ses_0, is kept" in found.next[0]
    assert [action.do for action in found.actions] == ["/resume", f"hermes-ctl sessions resume {KEY}"]


def test_a_dead_supervisors_turns_are_yet_to_be_counted() -> None:
    last = "the last supervisor died: the next start counts what it was running as cut"
    alive, dead = Life("b1", 1.0, 2.0, 3.0, ended_at=4.0, how="stop"), Life("b1", 1.0, 2.0, 3.0)

    assert last in told(lives=(dead,), running=False).next
    assert last not in told(lives=(dead,), running=True).next
    assert last not in told(lives=(alive,), running=False).next


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "keys"),
    [
        ("restart_timeout", ["supervisor.stuck_threshold", "agent.restart_drain_timeout"]),
        ("crash", ["supervisor.stuck_threshold", "supervisor.heartbeat_seconds"]),
    ],
)
def test_the_settings_are_those_that_would_have_changed_it(reason: str, keys: list[str]) -> None:
    found = told(incident("cut", 5.0, reason=reason, strikes=1))

    assert [setting.key for setting in found.settings] == keys


def test_what_happened_is_told_in_the_order_in_which_it_was_recorded_though_the_clock_was_set_back() -> None:
    before, after = Life("b1", 900.0, 901.0, 901.0), Life("b2", 10.0, settled_at=11.0)

    found = told(
        incident("cut", 902.0, boot="b1", reason="crash", strikes=1),
        incident("cut", 11.0, boot="b2", reason="crash", strikes=2),
        incident("suspended", 10.5, boot="b2", reason="crash", strikes=3, session_id="ses_1"),
        lives=(after, before),
    )

    assert [line.at for line in found.lines] == [900.0, 902.0, 10.0, 11.0, 10.5]
    assert [line.what.rpartition("strike ")[2] for line in found.lines if "strike" in line.what] == ["1 of 3", "2 of 3"]


MARKS = st.builds(
    MarkRecord,
    standing=st.sampled_from(Standing),
    reason=st.sampled_from([None, "crash", "restart_timeout", BY_OPERATOR]),
    at=st.none() | st.floats(0, NOW),
    turn_id=st.none() | st.just("turn_1"),
    former_id=st.none() | st.just("ses_0"),
    untold_reason=st.none() | st.just("crash"),
)
INCIDENTS = st.builds(
    incident,
    st.sampled_from(["cut", "suspended", "fresh", "succeeded", "reset", "resumed", "cleared", "idle"]),
    st.floats(0, NOW),
    reason=st.sampled_from([None, "crash", "restart_timeout", "shutdown_timeout"]),
    boot=st.sampled_from(["", "b1", "b2", "forgotten"]),
    strikes=st.integers(0, 4),
)
TIMES = st.none() | st.floats(0, NOW)
LIVES = st.builds(Life, st.sampled_from(["b1", "b2"]), st.floats(0, NOW), TIMES, TIMES, TIMES, TIMES)


@given(st.lists(INCIDENTS, max_size=6), MARKS, st.integers(0, 4), st.lists(LIVES, max_size=3), st.booleans())
def test_any_records_make_a_story_with_a_next_step_in_order(
    incidents: list[Incident], marks: MarkRecord, strikes: int, lives: list[Life], running: bool
) -> None:
    found = told(*incidents, marks=marks, strikes=strikes, lives=tuple(lives), running=running)

    assert found.next
    assert [line.at for line in found.lines if line.rule] == [incident.at for incident in incidents], "as recorded"
    assert len(found.lines) >= len(incidents)
    assert "None" not in text(found)
