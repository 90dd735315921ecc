from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.conversations import assistant_message, canonical, history_hash
from workers.ingress.http.request import parse_chat

ANSWERED = "It is noon."


def asked(*messages: Mapping[str, object]) -> list[bytes]:
    """The canonical messages of a request that ends with a new one."""
    body = orjson.dumps({"messages": [*messages, {"role": "user", "content": "and now?"}]})
    return parse_chat(body).messages


USER = {"role": "user", "content": "what time is it?"}


@pytest.mark.parametrize(
    "echo",
    [
        {"role": "assistant", "content": ANSWERED},
        {"content": ANSWERED, "role": "assistant"},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWERED}]},
        {
            "role": "assistant",
            "content": ANSWERED,
            "refusal": None,
            "tool_calls": None,
            "annotations": [],
            "audio": None,
            "function_call": None,
        },
    ],
    ids=["as answered", "in another order", "as a text part", "as the official client dumps it"],
)
def test_a_follow_up_is_found_however_the_client_echoes_the_reply(echo: dict[str, object]) -> None:
    submitted = parse_chat(orjson.dumps({"messages": [USER]})).messages
    offered = history_hash([*submitted, assistant_message(ANSWERED)])

    assert history_hash(asked(USER, echo)[:-1]) == offered


def test_an_empty_reply_may_be_echoed_as_null() -> None:
    assert canonical({"role": "assistant", "content": None}) == assistant_message("")


def test_the_order_of_keys_does_not_count() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turned = {"function": {"arguments": "{}", "name": "f"}, "type": "function", "id": "1"}

    assert asked({"role": "assistant", "tool_calls": [call]}) == asked({"tool_calls": [turned], "role": "assistant"})


@pytest.mark.parametrize(
    "other",
    [
        [USER, {"role": "assistant", "content": "It is one."}],
        [{"role": "system", "content": "be brief"}, USER, {"role": "assistant", "content": ANSWERED}],
        [{"role": "user", "content": "what time is it"}, {"role": "assistant", "content": ANSWERED}],
        [{"role": "assistant", "content": ANSWERED}, USER],
        [{**USER, "name": "eve"}, {"role": "assistant", "content": ANSWERED}],
    ],
    ids=["another reply", "a system message", "another question", "another order", "another speaker"],
)
def test_another_history_has_another_hash(other: list[dict[str, object]]) -> None:
    one = history_hash(asked(USER, {"role": "assistant", "content": ANSWERED})[:-1])

    assert history_hash(asked(*other)[:-1]) != one


def test_no_history_is_the_empty_hash() -> None:
    assert parse_chat(orjson.dumps({"messages": [USER]})).history == b""


@given(st.lists(st.text()), st.lists(st.text()))
def test_the_bounds_of_messages_count(one: list[str], other: list[str]) -> None:
    first = history_hash([assistant_message(text) for text in one])
    second = history_hash([assistant_message(text) for text in other])

    assert (first == second) == (one == other)


CALLS = [
    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1.0}'}},
    {"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
]


@pytest.mark.parametrize(
    "echo",
    [
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "assistant", "content": "", "tool_calls": CALLS},
        {
            "role": "assistant",
            "tool_calls": [{**CALLS[0], "function": {"name": "look", "arguments": '{"at": 1}'}}, CALLS[1]],
        },
        {"role": "assistant", "content": "let me look", "tool_calls": [{**call, "index": 0} for call in CALLS]},
    ],
)
def test_calls_are_recognised_by_their_ids_whatever_a_library_makes_of_the_rest(echo: dict[str, object]) -> None:
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "blue"} for call in CALLS]
    chat = parse_chat(orjson.dumps({"messages": [USER, echo, *results]}))

    assert chat.history == history_hash([canonical(USER), assistant_message("", CALLS)])


def test_other_calls_are_another_history() -> None:
    assert history_hash([assistant_message("", CALLS)]) != history_hash([assistant_message("", CALLS[:1])])
