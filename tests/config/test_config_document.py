from __future__ import annotations

import pytest

from hermes_actors.config.document import MAX_DEPTH, parse


def test_keys_and_items_know_their_lines() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - y\n")

    assert document.value == {"a": {"b": 1, "c": ["x", "y"]}}
    assert document.line_of(("a", "c", 1)) == 5
    assert document.line_of(("a", "c", 1, "deeper", "still")) == 5
    assert document.line_of(("absent",)) is None


def test_a_duplicate_key_is_told_with_both_lines_and_the_first_stands() -> None:
    document = parse("a: {b: 1}\nc: 2\na: {b: 3}\n")
    (problem,) = document.problems

    assert (problem.key, problem.line, problem.what) == ("a", 3, "duplicate key, first on line 1")
    assert document.value["a"] == {"b": 1}


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3, "not YAML"),
        ("a:\n\tb: 1\n", 2, "not YAML"),
        ("a: 'open\n\n", 3, "begins on line 1"),
        ("a: 1\n\x07: 2\n", 2, "control character"),
        ("a: 1\n---\nb: 2\n", 2, "single document"),
        ("a: *gone\n", 1, "undefined alias"),
        ("hello\n", 1, "at the top"),
        ("- a\n", 1, "at the top"),
        ("a: 1\nb: !tag x\n", 2, "tags"),
        ("!tag\na: 1\n", 1, "tags"),
        ("a: 1\nb: !!python/object/apply:os.system [x]\n", 2, "tags"),
        ("a: 1\nb: !!int x\n", 2, "not a valid int"),
        ("a: 0xffffffffffffffffffff\n", 1, "out of range"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, "merge keys"),
        ("a: 1\n? [b]\n: 2\n", 2, "plain word"),
        ('a: "\\ud800"\n', 1, "surrogate"),
    ],
)
def test_what_is_wrong_in_the_text_is_told_with_its_line(text: str, line: int, word: str) -> None:
    (problem,) = parse(text).problems

    assert problem.line == line
    assert word in problem.what


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1000,
        "{a: " * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
        "&a [*a]",
        "a: &a\n  b: *a\n",
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
    ],
)
def test_endless_depth_and_multiplying_aliases_are_refused(text: str) -> None:
    (problem,) = parse(text).problems

    assert "nested too deeply, or too large" in problem.what


@pytest.mark.parametrize("text", ['"\\U99999999"', "%YAML " + "9" * 5000 + ".1\n---\n"])
def test_numbers_that_yaml_cannot_hold_are_refused(text: str) -> None:
    assert "out of range" in parse(text).problems[0].what


def test_an_alias_stands_for_what_it_names() -> None:
    assert parse("a: &a {b: 1}\nc: *a\n").value == {"a": {"b": 1}, "c": {"b": 1}}


def test_scalars_are_json_like_and_dates_are_text() -> None:
    document = parse("a: 2026-01-02\nb: 1\nc: 1.5\nd: yes\ne: ~\nf: '1'\n7: <<\n")

    assert document.value == {"a": "2026-01-02", "b": 1, "c": 1.5, "d": True, "e": None, "f": "1", "7": "<<"}
    assert document.problems == ()
