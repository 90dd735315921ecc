from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.variables import BadReference, UnsetVariable, interpolate, variables_in

_NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("Bearer ${A}", "Bearer 1"),
        ("${A}${env:B}${A}", "121"),
        ("$${A} $A {A} $ $$", "${A} $A {A} $ $$"),
        ("$$${A}", "$${A}"),
        ("", ""),
    ],
)
def test_references_become_values_and_escapes_become_references(text: str, result: str) -> None:
    assert interpolate(text, {"A": "1", "B": "2"}) == result


def test_a_value_is_not_interpolated_again() -> None:
    assert interpolate("${A}", {"A": "${B}", "B": "no"}) == "${B}"


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(UnsetVariable, match="the variable GONE is not set"):
        interpolate("${GONE}", {})


@pytest.mark.parametrize("text", ["${}", "${A", "${A-B}", "${1}", "${A:-x}", "${ A }", "${env:}", "x ${"])
def test_a_reference_that_names_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadReference):
        variables_in(text)
    with pytest.raises(BadReference):
        interpolate(text, {"A": "1"})


@given(st.text())
def test_an_escaped_text_means_itself(text: str) -> None:
    escaped = text.replace("${", "$${")

    assert variables_in(escaped) == ()
    assert interpolate(escaped, {}) == text


@given(st.lists(st.tuples(st.text(st.characters(exclude_characters="$")), _NAMES, st.booleans())), st.text())
def test_all_variables_of_a_text_are_named_and_enough_to_interpolate_it(
    parts: list[tuple[str, str, bool]], value: str
) -> None:
    text = "".join(f"{plain}${{{'env:' if prefixed else ''}{name}}}" for plain, name, prefixed in parts)
    names = variables_in(text)

    assert names == tuple(dict.fromkeys(name for _, name, _ in parts))
    assert interpolate(text, dict.fromkeys(names, value)) == "".join(plain + value for plain, _, _ in parts)
