"""Which messages are commands."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sessions.commands import Command, command_in, parse


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/new", Command(word="new")),
        ("/reset", Command(word="reset")),
        ("/stop ", Command(word="stop")),
        ("/status", Command(word="status")),
        ("/retry", Command(word="retry")),
        ("/help", Command(word="help")),
        ("/model", Command(word="model")),
        ("/model gpt-5", Command(word="model", argument="gpt-5")),
    ],
)
def test_a_known_word_is_a_command(text: str, command: Command) -> None:
    assert parse(text) == command


@pytest.mark.parametrize(
    "text",
    ["/usr/bin/env", "/", "/Stop", "/stop now", "/model a b", "please /stop", "//stop", "/new\nand more", "", " /stop"],
)
def test_anything_else_goes_to_the_model(text: str) -> None:
    assert parse(text) is None


@given(st.text())
def test_no_text_that_begins_otherwise_is_a_command(text: str) -> None:
    if not text.startswith("/"):
        assert parse(text) is None


@pytest.mark.parametrize("content", ["/stop", [{"type": "text", "text": "/stop"}]])
def test_the_newest_message_is_the_one_that_counts(content: object) -> None:
    old = orjson.dumps({"role": "user", "content": "/help"})
    new = orjson.dumps({"role": "user", "content": content})

    assert command_in([old, new]) == Command(word="stop")
    assert command_in([new, orjson.dumps({"role": "user", "content": "and now?"})]) is None
