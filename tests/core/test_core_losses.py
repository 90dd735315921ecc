"""What files lost, and what a registry lost, decided purely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.core.sessions.losses import NOT_KNOWN, Known, is_behind, lost_of_shard
from hermes_actors.core.sessions.marks import MarkRecord
from hermes_actors.core.state import SessionEntry
from hermes_actors.wire.records import Flaw, Found, LatestTurn

NUMBERS = st.integers(0, 10)


def seen(fence: int = 5, turn: int = 9, flaw: Flaw | None = None, found_by: int = 99) -> Found:
    return Found(fence, turn, until=1.0, flaw=flaw, why="a reason", set_aside=None, found_by=found_by)


def entry(session_id: str, former_id: str | None = None) -> SessionEntry:
    return SessionEntry(
        key="k",
        session_id=session_id,
        principal="p",
        shard=0,
        created_at=0,
        last_active_at=0,
        marks=MarkRecord(former_id=former_id),
    )


def latest(session_id: str) -> LatestTurn:
    return LatestTurn(1, "turn", "k", "p", session_id, 0.0, 0.0, None)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_a_file_without_flaw_lost_something_where_it_shows_less_than_was_seen(
    fence: int, turn: int, found_fence: int, found_turn: int
) -> None:
    lost = lost_of_shard(Known(fence, turn), seen(found_fence, found_turn))

    assert (lost is None) == (found_fence >= fence and found_turn >= turn)
    if lost is not None:
        assert lost[0] == ("end" if found_turn else "all")


@given(NUMBERS)
def test_a_new_file_is_a_loss_only_where_there_was_one(turn: int) -> None:
    assert lost_of_shard(Known(0, 0), seen(0, 0, "new")) is None
    assert lost_of_shard(Known(1, turn), seen(0, 0, "new")) == ("all", "a reason")
    assert lost_of_shard(Known(1, turn, is_used=False), seen(0, 0, "new")) is None


@given(NUMBERS, NUMBERS)
def test_a_cut_log_is_a_loss_whatever_the_registry_knows(fence: int, turn: int) -> None:
    assert lost_of_shard(Known(fence, turn), seen(9, 9, "cut")) == ("end", "a reason")
    assert lost_of_shard(Known(fence, turn), seen(9, 0, "cut")) == ("all", "a reason")
    assert lost_of_shard(Known(fence, turn), seen(9, 9, "damaged")) == ("all", "it was damaged: a reason")


@given(st.sampled_from(["new", "cut", "damaged"]), NUMBERS, NUMBERS)
def test_a_flaw_whose_finder_died_after_it_was_noted_is_not_noted_again(flaw: Flaw, turn: int, later: int) -> None:
    noted = Known(7, turn)

    assert lost_of_shard(noted, seen(7, turn + later, flaw, found_by=7)) is None
    assert lost_of_shard(noted, seen(7, turn + later, flaw, found_by=8)) is not None


def test_a_file_of_an_earlier_release_lost_nothing() -> None:
    assert lost_of_shard(Known(1, NOT_KNOWN), seen(7, 0)) is None


def test_a_session_that_is_not_known_was_lost() -> None:
    assert is_behind(None, latest("ses_2"))


def test_a_transcript_that_is_newer_than_the_known_one_was_lost() -> None:
    assert is_behind(entry("ses_1"), latest("ses_2"))


def test_a_transcript_that_a_reset_left_or_a_resume_set_aside_was_not_lost() -> None:
    assert not is_behind(entry("ses_2"), latest("ses_2"))
    assert not is_behind(entry("ses_2"), latest("ses_1"))
    assert not is_behind(entry("ses_1", former_id="ses_2"), latest("ses_2"))
