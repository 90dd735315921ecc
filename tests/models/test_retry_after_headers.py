from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.models.retry_after import back_in_s, retry_after_s, window_reset_s

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "60", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW + 90, UTC), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(datetime.fromtimestamp(NOW - 90, UTC), usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e400"}, None),
        ({"retry-after": ""}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@given(st.text(max_size=40) | st.from_regex(r"Mon, \d{1,30} Jan \d{1,30} \d\d:\d\d:\d\d [+-]\d{1,9}", fullmatch=True))
def test_no_retry_after_value_breaks_the_reading_of_it(value: str) -> None:
    seconds = retry_after_s({"retry-after": value}, NOW)

    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("6m0s", 360.0),
        ("1s", 1.0),
        ("250ms", 0.25),
        ("2m59.5s", 179.5),
        ("1d2h3m4s5ms", 93784.005),
        ("7", 7.0),
        ("0", 0.0),
        (" 1.5 ", 1.5),
        (str(int(NOW) + 90), 90.0),
        (str((int(NOW) + 90) * 1000), 90.0),
        (str(int(NOW) - 90), 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1m5", None),
        ("5y", None),
    ],
)
def test_the_reset_of_a_used_up_window_is_read_in_each_of_its_forms(value: str, seconds: float | None) -> None:
    for kind in ("", "-requests", "-tokens"):
        headers = {f"x-ratelimit-remaining{kind}": "0", f"x-ratelimit-reset{kind}": value}
        assert window_reset_s(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


def test_a_window_of_which_something_remains_says_nothing() -> None:
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}

    assert window_reset_s(headers, NOW) is None
    assert window_reset_s({**headers, "x-ratelimit-remaining-requests": "-1"}, NOW) is None
    assert window_reset_s({"x-ratelimit-reset-requests": "6m0s"}, NOW) is None


def test_of_two_used_up_windows_the_later_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "9s",
    }

    assert window_reset_s(headers, NOW) == 9.0


def test_retry_after_wins_over_windows_and_windows_count_only_for_a_refusal_by_limits() -> None:
    window = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "9s"}

    assert back_in_s(429, window, NOW) == back_in_s(503, window, NOW) == 9.0
    assert back_in_s(429, {**window, "retry-after": "2"}, NOW) == 2.0
    assert back_in_s(400, window, NOW) is None


@given(st.text(max_size=40) | st.from_regex(r"(\d{1,12}(\.\d{0,3})?(ms|[dhms]))+", fullmatch=True))
def test_no_reset_breaks_the_reading_of_it(value: str) -> None:
    seconds = window_reset_s({"x-ratelimit-remaining": "0", "x-ratelimit-reset": value}, NOW)

    assert seconds is None or seconds >= 0
