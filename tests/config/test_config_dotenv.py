from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.dotenv import parse_dotenv, with_variable


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A=b", "b"),
        ("  A = b  ", "b"),
        ("A=", ""),
        ("A=b # comment", "b"),
        ("A=b#c", "b#c"),
        ("A=#c", ""),
        ("A=b=c", "b=c"),
        ("A='b # c'", "b # c"),
        ("A='a\\n' # x", "a\\n"),
        ('A="b # \\"c\\"\\n"', 'b # "c"\n'),
        ('A="\\$x \\\\ \\z"', "$x \\ \\z"),
        ("A=$HOME", "$HOME"),
        ("A=b\r", "b"),
        ("A=a b", "a b"),
    ],
)
def test_a_line_sets_a_variable_as_in_a_shell(line: str, value: str) -> None:
    assert parse_dotenv(f"# first\n\n{line}\n") == ({"A": value}, ())


def test_the_last_line_for_a_variable_wins() -> None:
    assert parse_dotenv("A=1\nB=2\nA=3")[0] == {"A": "3", "B": "2"}


@pytest.mark.parametrize("line", ["nothing", "1A=b", "A B=c", "=b", "A='hush", 'A="hush', "A='hush' hush", "A=hush\0"])
def test_a_line_that_sets_nothing_is_a_problem_that_does_not_repeat_it(line: str) -> None:
    variables, (problem,) = parse_dotenv(f"\n{line}")

    assert variables == {}
    assert problem.line == 2
    assert "hush" not in str(problem)


@given(
    before=st.text(st.characters(codec="utf-8"), max_size=40), value=st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)
)
def test_a_variable_that_was_set_is_found_and_the_others_stay(before: str, value: str) -> None:
    variables, problems = parse_dotenv(before)

    after, problems_after = parse_dotenv(with_variable(before, "KEY", value))

    assert after == variables | {"KEY": value}
    assert [problem.what for problem in problems_after] == [problem.what for problem in problems]
