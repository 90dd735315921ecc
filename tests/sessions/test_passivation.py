"""Which sessions are passivated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.sessions.passivation import which_to_passivate


def chosen(
    resident: list[tuple[str, float, bool]], *, now: float = 100.0, ttl: float = 10.0, limit: int = 100
) -> list[str]:
    return which_to_passivate(resident, count=len(resident), now=now, idle_ttl_s=ttl, limit=limit)


def test_who_was_idle_for_the_time_to_live_goes() -> None:
    assert chosen([("old", 90.0, False), ("new", 90.1, False)]) == ["old"]


def test_above_the_limit_the_longest_idle_goes() -> None:
    assert chosen([("a", 97.0, False), ("b", 98.0, False), ("c", 99.0, False)], limit=2) == ["a"]


def test_a_busy_session_stays_however_long_it_was_silent() -> None:
    assert chosen([("busy", 0.0, True), ("idle", 0.0, False)], limit=0) == ["idle"]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=30),
    st.integers(0, 30),
    st.floats(0, 100),
)
def test_no_busy_session_goes_and_idle_ones_above_the_limit_all_do(
    sessions: list[tuple[float, bool]], limit: int, ttl: float
) -> None:
    resident = [(str(number), at, busy) for number, (at, busy) in enumerate(sorted(sessions))]

    gone = chosen(resident, ttl=ttl, limit=limit)

    busy = {key for key, _, is_busy in resident if is_busy}
    assert not busy & set(gone)
    assert len(resident) - len(gone) <= max(limit, len(busy))
